// SPDX-License-Identifier: Apache-2.0

package podstatus

import (
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cloudveneto/caas/internal/interlink"
)

// Reasons written into pod and container statuses.
const (
	reasonCreating      = "ContainerCreating"
	reasonInitializing  = "PodInitializing"
	reasonUnknown       = "ContainerStatusUnknown"
	reasonCompleted     = "Completed"
	reasonError         = "Error"
	reasonLocal         = "NotOffloaded"
	annotationPodIP     = "interlink.eu/pod-ip"
	exitCodeKilled      = 137
	messageStateUnknown = "the far end ended the pod without telling how this container ended"
)

// Input is everything that the status of a pod is made of.
type Input struct {
	// Pod is the origin's pod; its spec decides which containers exist.
	Pod *corev1.Pod
	// Previous is the last status that was made, or the origin's own at first.
	Previous corev1.PodStatus
	Wire     interlink.PodStatus
	// Refused are ephemeral containers that will never run, with the reasons.
	Refused map[string]string
	Now     metav1.Time
}

// Outcome is a final result that the far end did not report as such.
type Outcome struct {
	Reason  string
	Message string
	// ExitCode is given to containers that have not terminated.
	ExitCode int32
}

// From returns the status that the far end's report means. Nothing in the input
// is changed.
func From(in Input) corev1.PodStatus {
	in.Now = in.Now.Rfc3339Copy()
	s := newScene(in)
	status := *in.Previous.DeepCopy()
	if in.Wire.Detail != nil {
		s.takeDetail(&status, in.Wire.Detail)
	} else {
		s.derive(&status)
	}
	s.ephemeral(&status)
	explainDisruption(&status)
	normalize(&status)
	return status
}

// Waiting returns the status of a pod that the far end does not hold yet: every
// container waits with the given reason and message.
func Waiting(pod *corev1.Pod, previous corev1.PodStatus, now metav1.Time, reason, message string) corev1.PodStatus {
	s := newScene(Input{Pod: pod, Previous: previous, Now: now.Rfc3339Copy()})
	status := *previous.DeepCopy()
	status.Phase = corev1.PodPending
	wait := corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: message}}
	status.InitContainerStatuses = s.fill(s.inits, func(slot) corev1.ContainerState { return wait })
	status.ContainerStatuses = s.fill(s.containers, func(slot) corev1.ContainerState { return wait })
	s.conditions(&status)
	s.ephemeral(&status)
	normalize(&status)
	return status
}

// Failed returns the final status of a pod that ended by outcome: containers
// that had terminated keep how, all others are terminated with its exit code.
func Failed(pod *corev1.Pod, previous corev1.PodStatus, now metav1.Time, outcome Outcome) corev1.PodStatus {
	s := newScene(Input{Pod: pod, Previous: previous, Now: now.Rfc3339Copy()})
	status := *previous.DeepCopy()
	status.Phase, status.Reason, status.Message = corev1.PodFailed, outcome.Reason, outcome.Message
	end := func(at slot) corev1.ContainerState { return s.ended(at, outcome) }
	status.InitContainerStatuses = s.fill(s.inits, end)
	status.ContainerStatuses = s.fill(s.containers, end)
	s.conditions(&status)
	s.ephemeral(&status)
	normalize(&status)
	return status
}

// Ended returns the final status of a pod that was deleted at the origin and
// that the far end no longer holds; wire is its last report, nil when there was
// none. Containers that ran and whose end nobody saw count as killed; a
// container that never ran gets no exit code.
func Ended(in Input, known bool) corev1.PodStatus {
	status := *in.Previous.DeepCopy()
	if known {
		status = From(in)
	}
	if Terminal(&status) {
		return status
	}
	s := newScene(Input{Pod: in.Pod, Previous: status, Now: in.Now.Rfc3339Copy()})
	outcome := Outcome{Reason: reasonUnknown, Message: messageStateUnknown, ExitCode: exitCodeKilled}
	end := func(at slot) corev1.ContainerState {
		if at.has && at.previous.State.Running != nil {
			return s.ended(at, outcome)
		}
		return s.kept(at)
	}
	status.InitContainerStatuses = s.fill(s.inits, end)
	status.ContainerStatuses = s.fill(s.containers, end)
	status.Phase = corev1.PodFailed
	if tallyOf(status.ContainerStatuses, s.containers).succeeded() {
		status.Phase = corev1.PodSucceeded
	}
	s.conditions(&status)
	s.ephemeral(&status)
	normalize(&status)
	return status
}

// Terminal reports whether the pod has ended for good.
func Terminal(status *corev1.PodStatus) bool {
	return status.Phase == corev1.PodSucceeded || status.Phase == corev1.PodFailed
}

// Started reports whether any container of the pod ever ran.
func Started(status *corev1.PodStatus) bool {
	if status.Phase == corev1.PodRunning || Terminal(status) {
		return true
	}
	for _, list := range [][]corev1.ContainerStatus{status.InitContainerStatuses, status.ContainerStatuses} {
		for i := range list {
			if list[i].State.Waiting == nil && list[i].State != (corev1.ContainerState{}) {
				return true
			}
			if list[i].RestartCount > 0 || list[i].LastTerminationState.Terminated != nil {
				return true
			}
		}
	}
	return false
}

// Starting reports whether there is nothing to be said of the pod but that its containers are about to be made; why they are
// not would be something.
func Starting(status *corev1.PodStatus) bool {
	if status.Phase != corev1.PodPending || status.Reason != "" || status.Message != "" {
		return false
	}
	for _, list := range [][]corev1.ContainerStatus{status.InitContainerStatuses, status.ContainerStatuses} {
		for i := range list {
			wait := list[i].State.Waiting
			if wait == nil || wait.Message != "" || wait.Reason != reasonCreating && wait.Reason != reasonInitializing {
				return false
			}
		}
	}
	return true
}

// setAddresses takes over addresses that are addresses; anything else would make
// the API server refuse the whole status.
func setAddresses(status *corev1.PodStatus, detail *interlink.PodDetail) {
	hosts := detail.HostIPs
	if len(hosts) == 0 {
		hosts = []corev1.HostIP{{IP: detail.HostIP}}
	}
	status.HostIP, status.HostIPs = "", nil
	for _, host := range hosts {
		if _, err := netip.ParseAddr(host.IP); err == nil && len(status.HostIPs) < 2 {
			status.HostIPs = append(status.HostIPs, host)
		}
	}
	if len(status.HostIPs) > 0 {
		status.HostIP = status.HostIPs[0].IP
	}
	pods := detail.PodIPs
	if len(pods) == 0 {
		pods = []corev1.PodIP{{IP: detail.PodIP}}
	}
	addresses := make([]string, 0, len(pods))
	for _, pod := range pods {
		addresses = append(addresses, pod.IP)
	}
	setPodIPs(status, addresses)
}

// setPodIPs keeps one valid address per family, the first one as podIP.
func setPodIPs(status *corev1.PodStatus, addresses []string) {
	status.PodIP, status.PodIPs = "", nil
	var seen4, seen6 bool
	for _, text := range addresses {
		address, err := netip.ParseAddr(text)
		if err != nil || (address.Is4() && seen4) || (!address.Is4() && seen6) {
			continue
		}
		seen4, seen6 = seen4 || address.Is4(), seen6 || !address.Is4()
		status.PodIPs = append(status.PodIPs, corev1.PodIP{IP: text})
	}
	if len(status.PodIPs) > 0 {
		status.PodIP = status.PodIPs[0].IP
	}
}

// normalize cuts all times to whole seconds: the API server keeps no more, and a
// status that differs in nanoseconds only would be written again and again.
func normalize(status *corev1.PodStatus) {
	status.StartTime = wholeSeconds(status.StartTime)
	for i := range status.Conditions {
		status.Conditions[i].LastTransitionTime = status.Conditions[i].LastTransitionTime.Rfc3339Copy()
		status.Conditions[i].LastProbeTime = metav1.Time{}
	}
	for _, list := range [][]corev1.ContainerStatus{
		status.InitContainerStatuses, status.ContainerStatuses, status.EphemeralContainerStatuses,
	} {
		for i := range list {
			normalizeState(&list[i].State)
			normalizeState(&list[i].LastTerminationState)
		}
	}
}

func normalizeState(state *corev1.ContainerState) {
	if state.Running != nil {
		state.Running.StartedAt = state.Running.StartedAt.Rfc3339Copy()
	}
	if state.Terminated != nil {
		state.Terminated.StartedAt = state.Terminated.StartedAt.Rfc3339Copy()
		state.Terminated.FinishedAt = state.Terminated.FinishedAt.Rfc3339Copy()
	}
}

func wholeSeconds(t *metav1.Time) *metav1.Time {
	if t == nil || t.IsZero() {
		return nil
	}
	return new(t.Rfc3339Copy())
}
