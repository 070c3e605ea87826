// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package truth_test

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestFidelityTruthCrashLoop is case 11: a container that crashes again and again is
// shown as what it is, and its pod as running.
func TestFidelityTruthCrashLoop(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	pod := shell("crashing", "echo bye >/dev/termination-log; exit 3")
	pod.Spec.RestartPolicy = corev1.RestartPolicyAlways
	created := w.create(t, pod)
	seen := w.await(t, "crashing", "crashed three times", func(pod *corev1.Pod) bool {
		if pod.Status.Phase == corev1.PodFailed || pod.Status.Phase == corev1.PodSucceeded {
			t.Errorf("the pod is called %s", pod.Status.Phase)
			return true
		}
		statuses := pod.Status.ContainerStatuses
		return len(statuses) == 1 && statuses[0].RestartCount >= 2 && statuses[0].State.Waiting != nil
	})
	status := seen.Status.ContainerStatuses[0]
	assert.Equal(t, "CrashLoopBackOff", status.State.Waiting.Reason)
	require.NotNil(t, status.LastTerminationState.Terminated)
	assert.Equal(t, int32(3), status.LastTerminationState.Terminated.ExitCode)
	assert.Equal(t, "bye\n", status.LastTerminationState.Terminated.Message)
	assert.Equal(t, corev1.PodRunning, seen.Status.Phase)
	assert.Equal(t, corev1.PodQOSBestEffort, seen.Status.QOSClass)
	there := w.there(t, created)
	assert.Equal(t, there.Status.PodIP, seen.Status.PodIP)
	assert.Equal(t, there.Status.PodIPs, seen.Status.PodIPs)
	assert.Equal(t, there.Status.HostIP, seen.Status.HostIP)
	assert.Equal(t, there.Status.StartTime.Unix(), seen.Status.StartTime.Unix())
}

// TestFidelityTruthOutOfMemory is case 11 too: who was killed for its memory is told so.
func TestFidelityTruthOutOfMemory(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	pod := shell("greedy", "tail /dev/zero")
	limit := corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("24Mi"), corev1.ResourceCPU: resource.MustParse("200m")}
	pod.Spec.Containers[0].Resources = corev1.ResourceRequirements{Limits: limit, Requests: limit}
	w.create(t, pod)
	seen := w.await(t, "greedy", "failed", inPhase(corev1.PodFailed))
	ended := seen.Status.ContainerStatuses[0].State.Terminated
	require.NotNil(t, ended)
	assert.Equal(t, int32(137), ended.ExitCode)
	assert.Equal(t, "OOMKilled", ended.Reason)
	assert.Equal(t, corev1.PodQOSGuaranteed, seen.Status.QOSClass)
}

// TestFidelityTruthEviction is case 12: an eviction where the pod really runs is a
// failure with a reason, and a disruption for whoever counts failures.
func TestFidelityTruthEviction(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	created := w.create(t, shell("evicted", "sleep 3600"))
	w.await(t, "evicted", "runs", inPhase(corev1.PodRunning))
	there := w.there(t, created)
	require.NoError(t, w.caas.PolicyV1().Evictions(remote).Evict(t.Context(), &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Namespace: remote, Name: there.Name}}))
	seen := w.await(t, "evicted", "failed", inPhase(corev1.PodFailed))
	assert.Equal(t, "Evicted", seen.Status.Reason)
	assert.NotEmpty(t, seen.Status.Message)
	require.NotNil(t, seen.Status.ContainerStatuses[0].State.Terminated)
	assert.Equal(t, int32(137), seen.Status.ContainerStatuses[0].State.Terminated.ExitCode, "sh does not heed SIGTERM")
	disrupted := slices.IndexFunc(seen.Status.Conditions, func(c corev1.PodCondition) bool { return c.Type == corev1.DisruptionTarget })
	require.GreaterOrEqual(t, disrupted, 0)
	assert.Equal(t, corev1.ConditionTrue, seen.Status.Conditions[disrupted].Status)
	assert.Equal(t, "EvictionByEvictionAPI", seen.Status.Conditions[disrupted].Reason)
}

// TestFidelityTruthSidecars is case 13: each container's own end is told, and a
// sidecar's does not count.
func TestFidelityTruthSidecars(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	always := corev1.ContainerRestartPolicyAlways
	withSidecar := func(name string, codes map[string]string) {
		pod := shell(name, codes["main"])
		pod.Spec.Containers = append(pod.Spec.Containers, container("second", codes["second"]))
		helper := container("helper", "trap 'exit 9' TERM; while :; do sleep 0.2; done")
		helper.RestartPolicy = &always
		pod.Spec.InitContainers = []corev1.Container{helper, container("setup", "exit 0")}
		w.create(t, pod)
	}
	withSidecar("mixed", map[string]string{"main": "sleep 1; exit 0", "second": "sleep 2; exit 7"})
	withSidecar("fine", map[string]string{"main": "sleep 1", "second": "sleep 2"})

	seen := w.await(t, "mixed", "failed", inPhase(corev1.PodFailed))
	assert.Equal(t, map[string]int32{"main": 0, "second": 7}, exits(t, seen.Status.ContainerStatuses))
	assert.Equal(t, map[string]int32{"helper": 9, "setup": 0}, exits(t, seen.Status.InitContainerStatuses))
	seen = w.await(t, "fine", "succeeded", inPhase(corev1.PodSucceeded))
	assert.Equal(t, map[string]int32{"main": 0, "second": 0}, exits(t, seen.Status.ContainerStatuses))
	assert.Equal(t, map[string]int32{"helper": 9, "setup": 0}, exits(t, seen.Status.InitContainerStatuses), "the sidecar's own end does not count")
}

func exits(t *testing.T, statuses []corev1.ContainerStatus) map[string]int32 {
	t.Helper()
	codes := map[string]int32{}
	for i := range statuses {
		require.NotNil(t, statuses[i].State.Terminated, statuses[i].Name)
		codes[statuses[i].Name] = statuses[i].State.Terminated.ExitCode
	}
	return codes
}
