// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package fidelity_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/yaml"

	"github.com/cloudveneto/caas/internal/lab"
	"github.com/cloudveneto/caas/internal/lab/offload"
	"github.com/cloudveneto/caas/internal/lab/proc"
	"github.com/cloudveneto/caas/test/e2e/labtest"
)

// further are those beside the twenty.
func further() []string {
	return []string{
		"activeDeadlineSeconds is enforced once", "ttlSecondsAfterFinished removes the origin's pod first", "a target whose clock is ahead",
		"a target with IPv6 only", "annotations of 256 KiB", "another name of the virtual node", "two origins with equal namespaces", "1000 pods at once, then mass deletion",
	}
}

func furtherCases() []fidelityCase {
	return []fidelityCase{
		{name: "also: activeDeadlineSeconds is enforced once", waits: true, run: activeDeadline},
		{name: "also: ttlSecondsAfterFinished removes the origin's pod first", run: ttlAfterFinished},
		{name: "also: a target whose clock is ahead", where: atActed("acted-clock"), run: clockAhead},
		{name: "also: a target with IPv6 only", where: atActed("acted-ipv6"), run: onlyIPv6},
		{name: "also: annotations of 256 KiB", run: hugeAnnotations},
		{name: "also: another name of the virtual node", run: renamedNode},
		{name: "also: two origins with equal namespaces", run: twoOrigins},
		{name: "also: 1000 pods at once, then mass deletion", crowd: true, where: atActed("acted-burst"), run: burst},
	}
}

func activeDeadline(t *testing.T, r *room) {
	pod := r.shell("limited", "trap 'exit 9' TERM; sleep 3600 & wait")
	const limit = 30
	pod.Spec.ActiveDeadlineSeconds, pod.Spec.TerminationGracePeriodSeconds = new(int64(limit)), new(int64(600))
	created := r.create(t, pod)
	seen := r.awaitPhase(t, "limited", corev1.PodFailed)
	assert.Equal(t, "DeadlineExceeded", seen.Status.Reason)
	far := r.awaitFar(t, created)
	assert.Equal(t, far.Status.Message, seen.Status.Message, "the target's kubelet has ended it, and nobody else")
	state := container(seen, "main").State.Terminated
	require.NotNil(t, state)
	assert.Equal(t, int32(9), state.ExitCode, "the container had its grace period, once")
	assert.False(t, state.FinishedAt.Time.Before(seen.Status.StartTime.Add(limit*time.Second)), "started %s, ended %s", seen.Status.StartTime, state.FinishedAt)
	assert.Nil(t, far.DeletionTimestamp)
}

func ttlAfterFinished(t *testing.T, r *room) {
	ttl := int32(0)
	job, err := r.af.BatchV1().Jobs(r.namespace).Create(t.Context(), &batchv1.Job{
		ObjectMeta: meta("short"),
		Spec:       batchv1.JobSpec{TTLSecondsAfterFinished: &ttl, Template: corev1.PodTemplateSpec{Spec: r.shell("", "echo done").Spec}},
	}, metav1.CreateOptions{})
	require.NoError(t, err)
	eventually(t.Context(), t, "the Job is gone by itself", func() (bool, string) {
		now, err := r.af.BatchV1().Jobs(r.namespace).Get(t.Context(), "short", metav1.GetOptions{})
		return apierrors.IsNotFound(err), now.Status.String()
	})
	selector := managed + ",labels.offload.infn.it/batch.kubernetes.io_controller-uid=" + string(job.UID)
	eventually(t.Context(), t, "and what the target had of it", func() (bool, string) {
		pods, err := r.af.CoreV1().Pods(r.namespace).List(t.Context(), metav1.ListOptions{})
		require.NoError(t, err)
		list, err := r.caas.CoreV1().Pods(r.target).List(t.Context(), metav1.ListOptions{LabelSelector: selector})
		require.NoError(t, err)
		return len(pods.Items)+len(list.Items) == 0, fmt.Sprintf("%d at the origin, %d at the target", len(pods.Items), len(list.Items))
	})
}

func clockAhead(t *testing.T, r *room) {
	m := r.machine(t, "clock")
	created := r.create(t, m.pod(r, "ahead"))
	far := r.awaitBound(t, created, m)
	later := metav1.NewTime(time.Now().Add(90 * time.Minute).Truncate(time.Second))
	m.runs(t, r, far, runningStatus("10.99.1.5", "10.98.0.6", later))
	seen := r.awaitPhase(t, "ahead", corev1.PodRunning)
	require.NotNil(t, container(seen, "main").State.Running)
	assert.True(t, later.Equal(&container(seen, "main").State.Running.StartedAt), "the target's time, as it says it")
	assert.True(t, later.Equal(seen.Status.StartTime))
	assert.Contains(t, r.kubectl(t, "get", "pod", "ahead"), "Running")
	status := runningStatus("10.99.1.5", "10.98.0.6", later)
	status.Phase = corev1.PodSucceeded
	end := metav1.NewTime(later.Add(7 * time.Second))
	status.ContainerStatuses[0].State = corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{StartedAt: later, FinishedAt: end, Reason: "Completed"}}
	status.ContainerStatuses[0].Ready = false
	m.runs(t, r, far, status)
	seen = r.awaitPhase(t, "ahead", corev1.PodSucceeded)
	state := container(seen, "main").State.Terminated
	require.NotNil(t, state)
	assert.Equal(t, 7*time.Second, state.FinishedAt.Sub(state.StartedAt.Time), "how long it ran is true in any clock")
}

func onlyIPv6(t *testing.T, r *room) {
	m := r.machine(t, "ipv6")
	created := r.create(t, m.pod(r, "six"))
	far := r.awaitBound(t, created, m)
	m.runs(t, r, far, runningStatus("fd00:10:99::5", "fd00:10:98::6", metav1.Now()))
	seen := r.awaitPhase(t, "six", corev1.PodRunning)
	assert.Equal(t, "fd00:10:99::5", seen.Status.PodIP)
	assert.Equal(t, []corev1.PodIP{{IP: "fd00:10:99::5"}}, seen.Status.PodIPs)
	assert.Equal(t, "fd00:10:98::6", seen.Status.HostIP)
	assert.Contains(t, r.kubectl(t, "get", "pod", "six", "-o", "wide"), "fd00:10:99::5")
	r.delete(t, "six", 0)
	require.NoError(t, ignoreMissing(r.caas.CoreV1().Pods(r.target).Delete(t.Context(), far.Name, metav1.DeleteOptions{GracePeriodSeconds: new(int64(0))})))
}

func hugeAnnotations(t *testing.T, r *room) {
	pod := r.shell("annotated", "echo fine")
	pod.Annotations = map[string]string{"small": "kept", "large": strings.Repeat("x", 200<<10), "medium": strings.Repeat("y", 55<<10)}
	assert.Equal(t, "fine\n", r.run(t, pod))
	far := r.awaitFar(t, r.get(t, "annotated"))
	assert.Equal(t, "kept", far.Annotations["small"])
	assert.NotContains(t, far.Annotations, "large", "with the sidecar's own it would be too much")
	assert.Contains(t, far.Annotations[reportAnnotation], "metadata.annotations[large]")
}

// startKubelet runs another virtual kubelet beside a path's, with the path's client certificate.
func (r *room) startKubelet(t *testing.T, cluster, node string, index int, change map[string]any) *proc.Process {
	t.Helper()
	origin, err := r.lab.Cluster(cluster)
	require.NoError(t, err)
	dir := t.TempDir()
	kubeconfig := filepath.Join(dir, "kubeconfig")
	require.NoError(t, origin.UserKubeconfig(kubeconfig, origin.InsideServer(), "system:node:"+node, "system:nodes"))
	content, err := os.ReadFile(filepath.Join(r.path.Dir(), "virtual-kubelet.yaml"))
	require.NoError(t, err)
	settings := map[string]any{}
	require.NoError(t, yaml.Unmarshal(content, &settings))
	labtest.Merge(settings, change)
	settings["OpsAddress"] = fmt.Sprintf("127.0.0.1:%d", 3400+index)
	content, err = yaml.Marshal(settings)
	require.NoError(t, err)
	config := filepath.Join(dir, "virtual-kubelet.yaml")
	require.NoError(t, os.WriteFile(config, content, 0o600))
	const address = "10.88.0.1"
	process, err := r.lab.Start(t.Context(), proc.Spec{
		Name: "virtual-kubelet-" + node, Path: filepath.Join(r.path.BinDir, offload.VirtualKubelet), EndWithStarter: true,
		Args: []string{"--nodename=" + node, "--configpath=" + config},
		Env:  []string{"KUBECONFIG=" + kubeconfig, "POD_IP=" + address, "KUBELET_URL=" + address, fmt.Sprintf("KUBELET_PORT=%d", 10270+index)},
	})
	require.NoError(t, err)
	client, err := r.client(cluster)
	require.NoError(t, err)
	t.Cleanup(func() {
		ctx, cancel := cleanupContext(t)
		defer cancel()
		assert.NoError(t, process.Stop(ctx, 5*time.Second))
		assert.NoError(t, client.CoreV1().Nodes().Delete(ctx, node, metav1.DeleteOptions{}))
	})
	awaitNode(t, client, node)
	return process
}

func awaitNode(t *testing.T, client kubernetes.Interface, name string) {
	t.Helper()
	eventually(t.Context(), t, "node "+name+" is ready", func() (bool, string) {
		node, err := client.CoreV1().Nodes().Get(t.Context(), name, metav1.GetOptions{})
		if err != nil {
			return false, err.Error()
		}
		return nodeReady(node), node.Status.String()
	})
}

func nodeReady(node *corev1.Node) bool {
	for _, state := range node.Status.Conditions {
		if state.Type == corev1.NodeReady {
			return state.Status == corev1.ConditionTrue
		}
	}
	return false
}

// renamedNode starts a virtual kubelet under a new name, with all else the same.
func renamedNode(t *testing.T, r *room) {
	const renamed = "caas-renamed"
	old := r.create(t, r.shell("before", "sleep 3600"))
	r.awaitPhase(t, "before", corev1.PodRunning)
	far := r.awaitFar(t, old)
	process := r.startKubelet(t, lab.AF, renamed, 0, nil)
	moved := *r
	moved.node = renamed
	fresh := moved.shell("after", "sleep 3600")
	fresh.Spec.NodeName = renamed
	created := moved.create(t, fresh)
	moved.awaitPhase(t, "after", corev1.PodRunning)
	stays(t.Context(), t, "each has its own pods", func() (bool, string) {
		now := r.far(t, old)
		return len(now) == 1 && now[0].UID == far.UID && now[0].DeletionTimestamp == nil && len(r.far(t, created)) == 1, ""
	})
	assert.Equal(t, corev1.PodRunning, r.get(t, "before").Status.Phase)
	assert.Equal(t, renamed, r.far(t, created)[0].Annotations["offload.infn.it/node"])
	assert.True(t, process.Alive())
	r.delete(t, "after", 1)
	r.awaitGone(t, created)
	assert.Len(t, r.far(t, old), 1)
}

// twoOrigins has the target be another origin of its own, whose pods have the same names.
func twoOrigins(t *testing.T, r *room) {
	const node = "caas-second"
	r.startKubelet(t, lab.CaaS, node, 1, map[string]any{"ClusterID": "second"})
	there, second := *r.world, *r
	there.af = r.caas
	second.world, second.node = &there, node
	_, err := r.caas.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: meta(r.namespace)}, metav1.CreateOptions{})
	require.NoError(t, offload.IgnoreExisting(err))
	t.Cleanup(func() {
		ctx, cancel := cleanupContext(t)
		defer cancel()
		assert.NoError(t, r.caas.CoreV1().Namespaces().Delete(ctx, r.namespace, metav1.DeleteOptions{}))
	})
	eventually(t.Context(), t, "a ServiceAccount", func() (bool, string) {
		_, err := r.caas.CoreV1().ServiceAccounts(r.namespace).Get(t.Context(), "default", metav1.GetOptions{})
		return err == nil, describeError(err)
	})
	pods := map[*room]*corev1.Pod{}
	for name, one := range map[string]*room{"first": r, "second": &second} {
		one.configMap(t, corev1.ConfigMap{ObjectMeta: meta("settings"), Data: map[string]string{"whose": name}})
		pod := one.shell("twin", "cat /settings/whose; echo; sleep 3600")
		pod.Spec.NodeName = one.node
		pod.Spec.Volumes = []corev1.Volume{{Name: "settings", VolumeSource: fromConfigMap("settings")}}
		pod.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "settings", MountPath: "/settings"}}
		pods[one] = one.create(t, pod)
	}
	r.awaitPhase(t, "twin", corev1.PodRunning)
	second.awaitPhase(t, "twin", corev1.PodRunning)
	eventually(t.Context(), t, "the first one's own ConfigMap", func() (bool, string) {
		log := r.logs(t, "twin", "main")
		return log == "first\n", log
	})
	a, b := r.awaitFar(t, pods[r]), r.awaitFar(t, pods[&second])
	assert.NotEqual(t, a.Name, b.Name)
	assert.Equal(t, originID, a.Annotations["offload.infn.it/cluster"])
	assert.Equal(t, "second", b.Annotations["offload.infn.it/cluster"])
	second.delete(t, "twin", 1)
	second.awaitGone(t, pods[&second])
	assert.Empty(t, r.far(t, pods[&second]))
	stays(t.Context(), t, "the other one's is left alone", func() (bool, string) {
		now := r.get(t, "twin")
		return now.Status.Phase == corev1.PodRunning && len(r.far(t, pods[r])) == 1, describe(now)
	})
}
