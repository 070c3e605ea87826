// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package fidelity_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/cloudveneto/caas/internal/lab/offload"
)

func disruptionCases() []fidelityCase {
	return []fidelityCase{
		{name: "12 drained at the target", run: drained},
		{name: "12 evicted by the target's kubelet", run: evictedByKubelet},
		{name: "12 preempted at the target", where: atSite("site-preempted"), run: preempted},
		{name: "12 the target's node is lost", waits: true, where: atActed("acted-lost"), run: nodeLost},
	}
}

// allEnded requires that a failed pod says of each container how it ended.
func allEnded(t *testing.T, pod *corev1.Pod) {
	t.Helper()
	oneForEach(t, pod)
	for _, status := range pod.Status.ContainerStatuses {
		if assert.NotNil(t, status.State.Terminated, status.Name) {
			assert.NotZero(t, status.State.Terminated.ExitCode, "%s did not end well", status.Name)
		}
	}
}

func drained(t *testing.T, r *room) {
	pod := r.shell("drained", "trap '' TERM; sleep 3600 & wait; sleep 3600")
	pod.Spec.Containers = append(pod.Spec.Containers, corev1.Container{Name: "second", Image: busybox, Command: []string{"sh", "-c", "trap 'exit 3' TERM; sleep 3600 & wait"}})
	created := r.create(t, pod)
	r.awaitPhase(t, "drained", corev1.PodRunning)
	far := r.awaitFar(t, created)
	require.NoError(t, r.caas.PolicyV1().Evictions(r.target).Evict(t.Context(), &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Name: far.Name, Namespace: far.Namespace}}))
	seen := r.awaitPhase(t, "drained", corev1.PodFailed)
	allEnded(t, seen)
	assert.Equal(t, int32(137), container(seen, "main").State.Terminated.ExitCode)
	assert.Equal(t, int32(3), container(seen, "second").State.Terminated.ExitCode, "its own exit code")
	disruption := condition(seen, corev1.DisruptionTarget)
	assert.Equal(t, corev1.ConditionTrue, disruption.Status, "what a Job's podFailurePolicy looks at")
	assert.Equal(t, "EvictionByEvictionAPI", disruption.Reason)
	assert.NotNil(t, r.get(t, "drained"), "the origin's object stays for those who count")
}

func evictedByKubelet(t *testing.T, r *room) {
	pod := r.shell("greedy", "dd if=/dev/zero of=/scratch/big bs=1M count=16 2>/dev/null; sleep 3600")
	limit := quantity("1Mi")
	pod.Spec.Volumes = []corev1.Volume{{Name: "scratch", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{SizeLimit: &limit}}}}
	pod.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "scratch", MountPath: "/scratch"}}
	created := r.create(t, pod)
	seen := r.awaitPhase(t, "greedy", corev1.PodFailed)
	assert.Equal(t, "Evicted", seen.Status.Reason)
	assert.Contains(t, seen.Status.Message, "exceeds the limit")
	allEnded(t, seen)
	far := r.awaitFar(t, created)
	assert.Equal(t, far.Status.Message, seen.Status.Message)
	assert.Equal(t, condition(far, corev1.DisruptionTarget).Status, condition(seen, corev1.DisruptionTarget).Status)
}

const slot = corev1.ResourceName("fidelity.test/slot")

// offer has a node of the target offer some of a resource that nothing else uses.
func (r *room) offer(t *testing.T, machine string, name corev1.ResourceName, amount int) {
	t.Helper()
	escaped := strings.ReplaceAll(string(name), "/", "~1")
	patch := fmt.Appendf(nil, `[{"op":"add","path":"/status/capacity/%s","value":"%d"}]`, escaped, amount)
	_, err := r.caas.CoreV1().Nodes().Patch(t.Context(), machine, types.JSONPatchType, patch, metav1.PatchOptions{}, "status")
	require.NoError(t, err)
	eventually(t.Context(), t, "the virtual node offers it too", func() (bool, string) {
		node, err := r.af.CoreV1().Nodes().Get(t.Context(), r.node, metav1.GetOptions{})
		require.NoError(t, err)
		offered := node.Status.Allocatable[name]
		return offered.Value() >= int64(amount), offered.String()
	})
}

func preempted(t *testing.T, r *room) {
	r.offer(t, siteMachine, slot, 1)
	one := corev1.ResourceList{slot: quantity("1")}
	pod := r.shell("modest", "trap 'exit 143' TERM; sleep 3600 & wait")
	pod.Spec.Containers[0].Resources.Limits = one
	r.create(t, pod)
	r.awaitPhase(t, "modest", corev1.PodRunning)

	_, err := r.caas.SchedulingV1().PriorityClasses().Create(t.Context(), &schedulingv1.PriorityClass{ObjectMeta: meta("fidelity-first"), Value: 1000}, metav1.CreateOptions{})
	require.NoError(t, offload.IgnoreExisting(err))
	urgent := here(r.shell("urgent", "sleep 3600"), "urgent")
	urgent.Spec.PriorityClassName = "fidelity-first"
	urgent.Spec.NodeSelector = map[string]string{siteLabel: "true"}
	urgent.Spec.Tolerations = []corev1.Toleration{{Key: siteLabel, Operator: corev1.TolerationOpExists}}
	urgent.Spec.Containers[0].Resources.Limits = one
	_, err = r.caas.CoreV1().Pods(metav1.NamespaceDefault).Create(t.Context(), urgent, metav1.CreateOptions{})
	require.NoError(t, err)
	t.Cleanup(func() {
		ctx, cancel := cleanupContext(t)
		defer cancel()
		assert.NoError(t, r.caas.CoreV1().Pods(metav1.NamespaceDefault).Delete(ctx, "urgent", metav1.DeleteOptions{GracePeriodSeconds: new(int64(0))}))
	})
	seen := r.awaitPhase(t, "modest", corev1.PodFailed)
	allEnded(t, seen)
	assert.Equal(t, int32(143), container(seen, "main").State.Terminated.ExitCode)
	disruption := condition(seen, corev1.DisruptionTarget)
	assert.Equal(t, corev1.ConditionTrue, disruption.Status)
	assert.Equal(t, "PreemptionByScheduler", disruption.Reason)
	assert.Contains(t, disruption.Message, "preempting")
}

// nodeLost has a node whose kubelet is heard of once and then no more.
func nodeLost(t *testing.T, r *room) {
	m := r.machine(t, "lost")
	created := r.create(t, m.pod(r, "stranded"))
	far := r.awaitBound(t, created, m)
	m.runs(t, r, far, runningStatus("10.99.0.5", "10.98.0.5", metav1.Now()))
	r.awaitPhase(t, "stranded", corev1.PodRunning)
	never := r.watchPhases(t, "stranded", ended)
	seen := r.awaitPod(t, "stranded", "not ready, as nobody hears of its node", func(pod *corev1.Pod) bool {
		return condition(pod, corev1.PodReady).Status == corev1.ConditionFalse
	})
	assert.NotEqual(t, corev1.PodFailed, seen.Status.Phase, "it may run on")
	never()

	// Its administrator gives the node up; the target collects what was on it.
	m.remove(t, r)
	seen = r.awaitPhase(t, "stranded", corev1.PodFailed)
	allEnded(t, seen)
	disruption := condition(seen, corev1.DisruptionTarget)
	assert.Equal(t, corev1.ConditionTrue, disruption.Status)
	assert.Equal(t, "DeletionByPodGC", disruption.Reason)
}
