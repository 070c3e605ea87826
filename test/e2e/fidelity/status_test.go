// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package fidelity_test

import (
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func statusCases() []fidelityCase {
	return []fidelityCase{
		{name: "10 unschedulable at the target", run: unschedulable},
		{name: "10 an image that cannot be pulled", run: imagePullError},
		{name: "11 crash loop after out of memory", waits: true, run: crashLoop},
		{name: "11 restarts that end well", run: restartsEndWell},
		{name: "13 two containers with mixed exits", run: mixedExits},
		{name: "13 a native sidecar", run: nativeSidecar},
		{name: "13 an init container that fails", run: initFails},
	}
}

// watchPhases watches whether the origin ever said of a pod what must not be said; the function that it returns ends that.
func (r *room) watchPhases(t *testing.T, name string, wrong func(*corev1.Pod) bool) func() {
	t.Helper()
	stream, err := r.af.CoreV1().Pods(r.namespace).Watch(t.Context(), metav1.ListOptions{FieldSelector: "metadata.name=" + name})
	require.NoError(t, err)
	var last atomic.Pointer[corev1.Pod]
	done := make(chan struct{})
	go func() {
		defer close(done)
		for event := range stream.ResultChan() {
			if pod, ok := event.Object.(*corev1.Pod); ok && pod.DeletionTimestamp == nil && wrong(pod) {
				last.Store(pod)
			}
		}
	}()
	return func() {
		stream.Stop()
		<-done
		if pod := last.Load(); pod != nil {
			assert.Fail(t, "the origin said for a while what is not so", "%s: %s", name, describe(pod))
		}
	}
}

// oneForEach requires that every container of the spec has a status.
func oneForEach(t *testing.T, pod *corev1.Pod) {
	t.Helper()
	assert.Len(t, pod.Status.ContainerStatuses, len(pod.Spec.Containers), "%s: never an empty list", pod.Name)
	assert.Len(t, pod.Status.InitContainerStatuses, len(pod.Spec.InitContainers), "%s", pod.Name)
}

func unschedulable(t *testing.T, r *room) {
	// The virtual node advertises the sum of its nodes, so what fits the sum need not fit any one of them.
	node, err := r.af.CoreV1().Nodes().Get(t.Context(), r.node, metav1.GetOptions{})
	require.NoError(t, err)
	big := r.shell("too-big", "true")
	cpu := resource.NewMilliQuantity(node.Status.Allocatable.Cpu().MilliValue()*3/4, resource.DecimalSI)
	big.Spec.Containers[0].Resources.Requests = corev1.ResourceList{corev1.ResourceCPU: *cpu}
	big.Spec.Containers = append(big.Spec.Containers, corev1.Container{Name: "second", Image: busybox, Command: []string{"true"}})
	never := r.watchPhases(t, "too-big", func(pod *corev1.Pod) bool { return pod.Status.Phase != corev1.PodPending && pod.Status.Phase != "" })
	r.create(t, big)
	seen := r.awaitPod(t, "too-big", "the target scheduler's reason", func(pod *corev1.Pod) bool { return waiting(pod, "main") == "Unschedulable" })
	oneForEach(t, seen)
	for _, name := range []string{"main", "second"} {
		assert.Contains(t, container(seen, name).State.Waiting.Message, "Insufficient cpu")
		assert.Regexp(t, `^0/\d+ nodes are available`, container(seen, name).State.Waiting.Message)
	}
	stays(t.Context(), t, "it waits", func() (bool, string) {
		now := r.get(t, "too-big")
		return now.Status.Phase == corev1.PodPending && len(now.Status.ContainerStatuses) == 2, describe(now)
	})
	assert.Equal(t, corev1.ConditionTrue, condition(seen, corev1.PodScheduled).Status, "at the origin it is bound")
	never()
}

func imagePullError(t *testing.T, r *room) {
	pod := r.shell("no-image", "sleep 3600")
	pod.Spec.Containers = append(pod.Spec.Containers, corev1.Container{Name: "second", Image: "docker.io/library/does-not-exist:1"})
	never := r.watchPhases(t, "no-image", ended)
	r.create(t, pod)
	seen := r.awaitPod(t, "no-image", "ImagePullBackOff", func(pod *corev1.Pod) bool { return waiting(pod, "second") == "ImagePullBackOff" })
	oneForEach(t, seen)
	assert.Contains(t, container(seen, "second").State.Waiting.Message, "does-not-exist")
	assert.NotNil(t, container(seen, "main").State.Running, "the other one runs, as on any node")
	far := r.awaitFar(t, seen)
	assert.Equal(t, far.Status.Phase, seen.Status.Phase)
	assert.Equal(t, corev1.ConditionFalse, condition(seen, corev1.PodReady).Status)
	never()
}

func crashLoop(t *testing.T, r *room) {
	pod := r.shell("loop", "tail /dev/zero")
	pod.Spec.RestartPolicy = corev1.RestartPolicyAlways
	pod.Spec.Containers[0].Resources.Limits = corev1.ResourceList{corev1.ResourceMemory: quantity("24Mi")}
	pod.Spec.Containers = append(pod.Spec.Containers, corev1.Container{Name: "beside", Image: busybox, Command: []string{"sleep", "3600"}})
	never := r.watchPhases(t, "loop", ended)
	r.create(t, pod)
	seen := r.awaitPod(t, "loop", "CrashLoopBackOff after two restarts", func(pod *corev1.Pod) bool {
		return waiting(pod, "main") == "CrashLoopBackOff" && container(pod, "main").RestartCount >= 2
	})
	last := container(seen, "main").LastTerminationState.Terminated
	require.NotNil(t, last, "how it ended the last time")
	assert.Equal(t, int32(137), last.ExitCode)
	assert.Equal(t, "OOMKilled", last.Reason)
	assert.False(t, last.FinishedAt.IsZero())
	assert.Equal(t, corev1.PodRunning, seen.Status.Phase)
	assert.NotNil(t, container(seen, "beside").State.Running)
	assert.Zero(t, container(seen, "beside").RestartCount)
	never()
}

func restartsEndWell(t *testing.T, r *room) {
	pod := r.shell("third-time", "echo x >>/count/n; [ $(wc -l </count/n) -ge 3 ] && exit 0; exit 42")
	pod.Spec.RestartPolicy = corev1.RestartPolicyOnFailure
	pod.Spec.Volumes = []corev1.Volume{{Name: "count", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}}
	pod.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "count", MountPath: "/count"}}
	never := r.watchPhases(t, "third-time", func(pod *corev1.Pod) bool { return pod.Status.Phase == corev1.PodFailed })
	r.create(t, pod)
	seen := r.awaitPhase(t, "third-time", corev1.PodSucceeded)
	main := container(seen, "main")
	assert.Equal(t, int32(2), main.RestartCount)
	require.NotNil(t, main.State.Terminated)
	assert.Zero(t, main.State.Terminated.ExitCode)
	if last := main.LastTerminationState.Terminated; last != nil {
		assert.Equal(t, int32(42), last.ExitCode)
	} else {
		assert.Nil(t, r.awaitFar(t, seen).Status.ContainerStatuses[0].LastTerminationState.Terminated, "the target's kubelet has forgotten it, too")
	}
	never()
}

func mixedExits(t *testing.T, r *room) {
	pod := r.shell("mixed", "exit 0")
	for name, script := range map[string]string{"fails": "exit 3", "late": "sleep 10; echo said >/dev/termination-log; exit 42", "killed": "sh -c 'kill -9 $$$$'; exit $?"} {
		pod.Spec.Containers = append(pod.Spec.Containers, corev1.Container{Name: name, Image: busybox, Command: []string{"sh", "-c", script}})
	}
	never := r.watchPhases(t, "mixed", func(pod *corev1.Pod) bool {
		late := container(pod, "late").State
		return (ended(pod) && late.Terminated == nil) || pod.Status.Phase == corev1.PodSucceeded
	})
	r.create(t, pod)
	early := r.awaitPod(t, "mixed", "some have ended, one runs", func(pod *corev1.Pod) bool {
		return container(pod, "fails").State.Terminated != nil && container(pod, "late").State.Running != nil || ended(pod)
	})
	assert.Equal(t, corev1.PodRunning, early.Status.Phase)
	seen := r.awaitPhase(t, "mixed", corev1.PodFailed)
	oneForEach(t, seen)
	for name, want := range map[string]struct {
		code    int32
		reason  string
		message string
	}{"main": {0, "Completed", ""}, "fails": {3, "Error", ""}, "late": {42, "Error", "said\n"}, "killed": {137, "Error", ""}} {
		state := container(seen, name).State.Terminated
		require.NotNil(t, state, name)
		assert.Equal(t, want.code, state.ExitCode, name)
		assert.Equal(t, want.reason, state.Reason, name)
		assert.Equal(t, want.message, state.Message, name)
	}
	never()
}

func nativeSidecar(t *testing.T, r *room) {
	always := corev1.ContainerRestartPolicyAlways
	pod := r.shell("helped", "sleep 8; exit 0")
	pod.Spec.InitContainers = []corev1.Container{
		{Name: "first", Image: busybox, Command: []string{"true"}},
		{Name: "helper", Image: busybox, Command: []string{"sh", "-c", "trap 'exit 9' TERM; sleep 3600 & wait"}, RestartPolicy: &always},
	}
	r.create(t, pod)
	running := r.awaitPhase(t, "helped", corev1.PodRunning)
	assert.NotNil(t, container(running, "helper").State.Running)
	assert.True(t, container(running, "helper").Ready)
	require.NotNil(t, container(running, "first").State.Terminated)
	assert.Equal(t, corev1.ConditionTrue, condition(running, corev1.PodInitialized).Status)
	seen := r.awaitPhase(t, "helped", corev1.PodSucceeded)
	oneForEach(t, seen)
	require.NotNil(t, container(seen, "main").State.Terminated)
	assert.Zero(t, container(seen, "main").State.Terminated.ExitCode)
	require.NotNil(t, container(seen, "helper").State.Terminated)
	assert.Equal(t, int32(9), container(seen, "helper").State.Terminated.ExitCode, "told as it is, and no matter for the phase")
}

func initFails(t *testing.T, r *room) {
	pod := r.shell("uninitialized", "true")
	pod.Spec.InitContainers = []corev1.Container{
		{Name: "good", Image: busybox, Command: []string{"true"}},
		{Name: "bad", Image: busybox, Command: []string{"sh", "-c", "exit 5"}},
		{Name: "never", Image: busybox, Command: []string{"true"}},
	}
	r.create(t, pod)
	seen := r.awaitPhase(t, "uninitialized", corev1.PodFailed)
	oneForEach(t, seen)
	require.NotNil(t, container(seen, "bad").State.Terminated)
	assert.Equal(t, int32(5), container(seen, "bad").State.Terminated.ExitCode)
	require.NotNil(t, container(seen, "good").State.Terminated)
	assert.Zero(t, container(seen, "good").State.Terminated.ExitCode)
	for _, name := range []string{"never", "main"} {
		assert.Nil(t, container(seen, name).State.Running, name)
		if state := container(seen, name).State.Terminated; state != nil {
			assert.NotZero(t, state.ExitCode, "%s never ran, so it did not succeed", name)
		}
	}
	assert.Equal(t, corev1.ConditionFalse, condition(seen, corev1.PodInitialized).Status)
}
