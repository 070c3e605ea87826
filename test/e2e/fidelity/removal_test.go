// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package fidelity_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/cloudveneto/caas/internal/lab/offload"
)

func removalCases() []fidelityCase {
	return []fidelityCase{
		{name: "19 deleted at the target", run: deletedAtTarget},
		{name: "19 a Deployment's pod deleted at the target", run: replacedAfterDeletion},
		{name: "19 the target's namespace is terminated", waits: true, where: atSite("site-doomed"), run: namespaceTerminated},
		{name: "19 the quota shrinks", run: quotaShrinks},
		{name: "19 a LimitRange and a webhook that injects", where: atSite("site-limits"), run: mutatedAtTarget},
	}
}

func deletedAtTarget(t *testing.T, r *room) {
	created := r.create(t, r.shell("victim", "trap '' TERM; sleep 3600 & wait; sleep 3600"))
	r.awaitPhase(t, "victim", corev1.PodRunning)
	far := r.awaitFar(t, created)
	require.NoError(t, r.caas.CoreV1().Pods(r.target).Delete(t.Context(), far.Name, metav1.DeleteOptions{GracePeriodSeconds: new(int64(0))}))
	seen := r.awaitPhase(t, "victim", corev1.PodFailed)
	assert.Equal(t, "RemotePodDeleted", seen.Status.Reason)
	assert.NotEmpty(t, seen.Status.Message)
	allEnded(t, seen)
	assert.Empty(t, r.far(t, created))
	stays(t.Context(), t, "it is not made again", func() (bool, string) { return len(r.far(t, created)) == 0, "" })
}

func replacedAfterDeletion(t *testing.T, r *room) {
	labels, one := map[string]string{"app": "kept"}, int32(1)
	spec := r.shell("", "sleep 3600").Spec
	spec.RestartPolicy = corev1.RestartPolicyAlways
	_, err := r.af.AppsV1().Deployments(r.namespace).Create(t.Context(), &appsv1.Deployment{
		ObjectMeta: meta("kept"),
		Spec: appsv1.DeploymentSpec{
			Replicas: &one, Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: spec},
		},
	}, metav1.CreateOptions{})
	require.NoError(t, err)
	running := func(but types.UID) *corev1.Pod {
		var found *corev1.Pod
		eventually(t.Context(), t, "one of the Deployment runs", func() (bool, string) {
			pods, err := r.af.CoreV1().Pods(r.namespace).List(t.Context(), metav1.ListOptions{LabelSelector: "app=kept"})
			require.NoError(t, err)
			for i := range pods.Items {
				if pods.Items[i].UID != but && pods.Items[i].Status.Phase == corev1.PodRunning {
					found = &pods.Items[i]
				}
			}
			return found != nil, ""
		})
		return found
	}
	first := running("")
	far := r.awaitFar(t, first)
	require.NoError(t, r.caas.CoreV1().Pods(r.target).Delete(t.Context(), far.Name, metav1.DeleteOptions{GracePeriodSeconds: new(int64(1))}))
	second := running(first.UID)
	assert.Len(t, r.far(t, second), 1)
	require.NoError(t, r.af.AppsV1().Deployments(r.namespace).Delete(t.Context(), "kept", metav1.DeleteOptions{}))
}

func namespaceTerminated(t *testing.T, r *room) {
	created := r.create(t, r.shell("inside", "sleep 3600"))
	r.awaitPhase(t, "inside", corev1.PodRunning)
	far := r.awaitFar(t, created)
	r.hold(t.Context(), t, far.Name, true) // keeps the namespace on its way out
	t.Cleanup(func() { r.release(t, far.Name) })
	require.NoError(t, r.caas.CoreV1().Namespaces().Delete(t.Context(), r.target, metav1.DeleteOptions{}))
	t.Cleanup(func() {
		ctx, cancel := cleanupContext(t)
		defer cancel()
		assert.NoError(t, r.lab.AddTenantNamespace(ctx, offload.Project, r.target))
	})
	late := r.create(t, r.shell("late", "echo at last"))
	seen := r.awaitPod(t, "late", "says why it waits", func(pod *corev1.Pod) bool { return waiting(pod, "main") == "RemoteCreateFailed" })
	assert.Equal(t, corev1.PodPending, seen.Status.Phase)
	assert.Contains(t, container(seen, "main").State.Waiting.Message, "being terminated")
	// Longer than it takes until failed pings make a node NotReady.
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(time.Second) {
		node, err := r.af.CoreV1().Nodes().Get(t.Context(), r.node, metav1.GetOptions{})
		require.NoError(t, err)
		require.True(t, nodeReady(node), "the site takes pods of other namespaces: %v", node.Status.Conditions)
	}
	r.release(t, far.Name)
	seen = r.awaitPhase(t, "inside", corev1.PodFailed)
	allEnded(t, seen)
	eventually(t.Context(), t, "the namespace is gone", func() (bool, string) {
		_, err := r.caas.CoreV1().Namespaces().Get(t.Context(), r.target, metav1.GetOptions{})
		return apierrors.IsNotFound(err), ""
	})
	require.NoError(t, r.lab.AddTenantNamespace(t.Context(), offload.Project, r.target))
	r.awaitPhase(t, "late", corev1.PodSucceeded)
	assert.Len(t, r.far(t, late), 1)
}

func quotaShrinks(t *testing.T, r *room) {
	const share = corev1.ResourceName("fidelity.test/share")
	r.offer(t, "caas-1", share, 4)
	quotas := r.caas.CoreV1().ResourceQuotas(r.target)
	limit := func(amount string) corev1.ResourceQuotaSpec {
		return corev1.ResourceQuotaSpec{Hard: corev1.ResourceList{"requests." + share: quantity(amount)}}
	}
	_, err := quotas.Create(t.Context(), &corev1.ResourceQuota{ObjectMeta: meta("fidelity"), Spec: limit("1")}, metav1.CreateOptions{})
	require.NoError(t, offload.IgnoreExisting(err))
	t.Cleanup(func() {
		ctx, cancel := cleanupContext(t)
		defer cancel()
		assert.NoError(t, quotas.Delete(ctx, "fidelity", metav1.DeleteOptions{}))
	})
	began := time.Now()
	eventually(t.Context(), t, "the virtual node offers less", func() (bool, string) {
		node, err := r.af.CoreV1().Nodes().Get(t.Context(), r.node, metav1.GetOptions{})
		require.NoError(t, err)
		offered := node.Status.Allocatable[share]
		return offered.Value() == 1, offered.String()
	})
	t.Logf("less offered after %s", time.Since(began).Round(time.Millisecond))

	pod := func(name string) *corev1.Pod {
		pod := r.shell(name, "sleep 3600")
		pod.Spec.NodeName = r.node // bound before the quota shrank
		pod.Spec.Containers[0].Resources.Limits = corev1.ResourceList{share: quantity("1")}
		return pod
	}
	r.create(t, pod("first"))
	r.awaitPhase(t, "first", corev1.PodRunning)
	never := r.watchPhases(t, "second", ended)
	second := r.create(t, pod("second"))
	seen := r.awaitPod(t, "second", "says why it waits", func(pod *corev1.Pod) bool { return waiting(pod, "main") == "RemoteCreateFailed" })
	assert.Equal(t, corev1.PodPending, seen.Status.Phase)
	assert.Contains(t, container(seen, "main").State.Waiting.Message, "exceeded quota")
	assert.Empty(t, r.far(t, second))
	patch, err := json.Marshal(map[string]any{"spec": limit("2")})
	require.NoError(t, err)
	_, err = quotas.Patch(t.Context(), "fidelity", types.MergePatchType, patch, metav1.PatchOptions{})
	require.NoError(t, err)
	r.awaitPhase(t, "second", corev1.PodRunning)
	never()
}

func mutatedAtTarget(t *testing.T, r *room) {
	_, err := r.caas.CoreV1().LimitRanges(r.target).Create(t.Context(), &corev1.LimitRange{ObjectMeta: meta("fidelity"), Spec: corev1.LimitRangeSpec{
		Limits: []corev1.LimitRangeItem{{Type: corev1.LimitTypeContainer, Default: corev1.ResourceList{corev1.ResourceMemory: quantity("48Mi")}}},
	}}, metav1.CreateOptions{})
	require.NoError(t, offload.IgnoreExisting(err))
	r.inject(t)
	pod := r.shell("mutated", "echo mine; sleep 8; exit 3")
	created := r.create(t, pod)
	r.awaitPhase(t, "mutated", corev1.PodRunning)
	far := r.awaitFar(t, created)
	require.Len(t, far.Spec.Containers, 2, "otherwise the rest would say nothing")
	require.Len(t, far.Spec.InitContainers, 1)
	assert.Equal(t, "48Mi", far.Spec.Containers[0].Resources.Limits.Memory().String(), "the target's rules hold there")
	seen := r.awaitPhase(t, "mutated", corev1.PodFailed)
	oneForEach(t, seen)
	assert.Equal(t, "main", seen.Status.ContainerStatuses[0].Name)
	require.NotNil(t, container(seen, "main").State.Terminated)
	assert.Equal(t, int32(3), container(seen, "main").State.Terminated.ExitCode)
	assert.Equal(t, "mine\n", r.logs(t, "mutated", ""), "the pod has one container, whatever the target added")
	assert.Contains(t, strings.Join(strings.Fields(r.kubectl(t, "get", "pod", "mutated")), " "), "mutated 0/1")
}
