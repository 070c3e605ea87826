// SPDX-License-Identifier: Apache-2.0

package podstate

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/cloudveneto/caas/internal/interlink"
)

// Reasons that the sidecar gives to states which no kubelet reported.
const (
	ReasonInitFailed   = "PodInitFailed"
	ReasonLost         = interlink.ReasonPodLost
	ReasonNotCreated   = interlink.ReasonPodNotCreated
	reasonInitializing = "PodInitializing"
	reasonCreating     = "ContainerCreating"
	reasonCrashLoop    = "CrashLoopBackOff"
	reasonCompleted    = "Completed"
	reasonError        = "Error"
	// exitKilled is the exit code of a process that was killed.
	exitKilled = 137
)

// view is a created pod as seen from its origin.
type view struct {
	origin *corev1.Pod
	remote *corev1.Pod
	// local and localInit run at the origin and not here.
	local, localInit []string
}

// Conservative returns the status of origin, whose created pod is remote.
func Conservative(origin, remote *corev1.Pod) interlink.PodStatus {
	v := view{
		origin: origin, remote: remote,
		local:     names(origin, interlink.AnnotationLocalContainers),
		localInit: names(origin, interlink.AnnotationLocalInitContainers),
	}
	status := head(origin)
	status.JobID = JobID(remote)
	status.InitContainers = v.initContainers()
	status.Containers = v.containers()
	return status
}

func head(origin *corev1.Pod) interlink.PodStatus {
	return interlink.PodStatus{
		Name: origin.Name, UID: string(origin.UID), Namespace: origin.Namespace,
		Containers: []corev1.ContainerStatus{}, InitContainers: []corev1.ContainerStatus{},
	}
}

// names splits a comma-separated annotation.
func names(pod *corev1.Pod, annotation string) []string {
	var list []string
	for name := range strings.SplitSeq(pod.Annotations[annotation], ",") {
		if name = strings.TrimSpace(name); name != "" {
			list = append(list, name)
		}
	}
	return list
}

func (v *view) terminal() bool {
	return v.remote.Status.Phase == corev1.PodSucceeded || v.remote.Status.Phase == corev1.PodFailed
}

func (v *view) containers() []corev1.ContainerStatus {
	out := make([]corev1.ContainerStatus, 0, len(v.origin.Spec.Containers))
	for i := range v.origin.Spec.Containers {
		container := &v.origin.Spec.Containers[i]
		if slices.Contains(v.local, container.Name) {
			out = append(out, v.localStatus(container))
			continue
		}
		status := find(v.remote.Status.ContainerStatuses, container)
		switch {
		case v.terminal():
			v.finish(&status)
		case status.State.Terminated != nil:
			v.hold(&status, restartPolicy(v.origin, container), i == 0 || known(v.origin.Status.ContainerStatuses, container.Name))
		case status.State.Running == nil && status.State.Waiting == nil:
			status.State.Waiting = v.waiting()
		}
		out = append(out, status)
	}
	if v.remote.Status.Phase == corev1.PodFailed {
		showFailure(out, v.remote)
	}
	return out
}

// restartPolicy is the container's own policy, if it has one, or the pod's.
func restartPolicy(pod *corev1.Pod, container *corev1.Container) corev1.RestartPolicy {
	if container.RestartPolicy != nil {
		return corev1.RestartPolicy(*container.RestartPolicy)
	}
	return pod.Spec.RestartPolicy
}

// localStatus answers for a container that runs at the origin: upstream's virtual
// kubelet looks only at what a plugin says. It ends with the pod.
func (v *view) localStatus(container *corev1.Container) corev1.ContainerStatus {
	started := true
	status := corev1.ContainerStatus{Name: container.Name, Image: container.Image}
	if v.terminal() {
		status.State.Terminated = &corev1.ContainerStateTerminated{Reason: reasonCompleted}
		return status
	}
	status.Ready, status.Started = true, &started
	status.State.Running = &corev1.ContainerStateRunning{StartedAt: v.remote.CreationTimestamp}
	return status
}

// find returns the status of container, without a state when there is none.
func find(statuses []corev1.ContainerStatus, container *corev1.Container) corev1.ContainerStatus {
	for i := range statuses {
		if statuses[i].Name == container.Name {
			return *statuses[i].DeepCopy()
		}
	}
	return corev1.ContainerStatus{Name: container.Name, Image: container.Image}
}

func known(statuses []corev1.ContainerStatus, name string) bool {
	return slices.ContainsFunc(statuses, func(s corev1.ContainerStatus) bool { return s.Name == name })
}

// hold shows a terminated container of a living pod as waiting when it will run
// again, and also when the reader has never heard of it: upstream's virtual kubelet
// stops when a container that is not the first one is terminated in its first report.
func (v *view) hold(status *corev1.ContainerStatus, policy corev1.RestartPolicy, heard bool) {
	ended := status.State.Terminated
	restarts := policy == corev1.RestartPolicyAlways || policy == "" ||
		(policy == corev1.RestartPolicyOnFailure && ended.ExitCode != 0)
	if !restarts && heard {
		return
	}
	reason := reasonCrashLoop
	if !restarts {
		reason = orDefault(ended.Reason, reasonCompleted)
	}
	if status.LastTerminationState.Terminated == nil || restarts {
		status.LastTerminationState.Terminated = ended
	}
	status.State = corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: ended.Message}}
	status.Ready = false
}

// waiting says why a container has no state yet.
func (v *view) waiting() *corev1.ContainerStateWaiting {
	for i := range v.remote.Status.Conditions {
		condition := &v.remote.Status.Conditions[i]
		if condition.Type == corev1.PodScheduled && condition.Status != corev1.ConditionTrue {
			return &corev1.ContainerStateWaiting{Reason: orDefault(condition.Reason, "Unschedulable"), Message: condition.Message}
		}
	}
	if v.remote.Status.Reason != "" {
		return &corev1.ContainerStateWaiting{Reason: v.remote.Status.Reason, Message: v.remote.Status.Message}
	}
	if len(v.origin.Spec.InitContainers) > len(v.localInit) {
		return &corev1.ContainerStateWaiting{Reason: reasonInitializing}
	}
	return &corev1.ContainerStateWaiting{Reason: reasonCreating}
}

// finish gives a container of a terminal pod a final state.
func (v *view) finish(status *corev1.ContainerStatus) {
	status.Ready = false
	if status.State.Terminated != nil {
		return
	}
	if v.remote.Status.Phase == corev1.PodSucceeded {
		status.State = ended(0, reasonCompleted, "")
		return
	}
	if v.initFailed() {
		status.State = ended(1, ReasonInitFailed, v.remote.Status.Message)
		return
	}
	status.State = ended(exitKilled, orDefault(v.remote.Status.Reason, reasonError), v.remote.Status.Message)
}

func (v *view) initFailed() bool {
	return slices.ContainsFunc(v.remote.Status.InitContainerStatuses, func(s corev1.ContainerStatus) bool {
		return s.State.Terminated != nil && s.State.Terminated.ExitCode != 0 && !v.sidecar(s.Name)
	})
}

// showFailure makes a pod that failed as a whole (evicted, past its deadline) fail
// at the origin too when all its containers ended with 0.
func showFailure(statuses []corev1.ContainerStatus, remote *corev1.Pod) {
	for i := range statuses {
		if statuses[i].State.Terminated == nil || statuses[i].State.Terminated.ExitCode != 0 {
			return
		}
	}
	for i := range statuses {
		statuses[i].State.Terminated.ExitCode = exitKilled
		statuses[i].State.Terminated.Reason = orDefault(remote.Status.Reason, reasonError)
		statuses[i].State.Terminated.Message = remote.Status.Message
	}
}

func ended(code int32, reason, message string) corev1.ContainerState {
	return corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: code, Reason: reason, Message: message}}
}

func orDefault(text, fallback string) string {
	if text == "" {
		return fallback
	}
	return text
}
