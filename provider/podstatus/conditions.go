// SPDX-License-Identifier: Apache-2.0

package podstatus

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
)

// conditions computes the standard conditions from the container statuses, with
// the kubelet's reasons and messages.
func (s *scene) conditions(status *corev1.PodStatus) {
	s.setCondition(status, scheduled(status))
	s.setCondition(status, s.initialized(status))
	ready := s.containersReady(status)
	s.setCondition(status, ready)
	s.setCondition(status, s.ready(status, ready))
}

func scheduled(status *corev1.PodStatus) corev1.PodCondition {
	if known := condition(status, corev1.PodScheduled); known != nil && known.Status == corev1.ConditionTrue {
		return *known
	}
	return corev1.PodCondition{Type: corev1.PodScheduled, Status: corev1.ConditionTrue}
}

func (s *scene) initialized(status *corev1.PodStatus) corev1.PodCondition {
	result := corev1.PodCondition{Type: corev1.PodInitialized, Status: corev1.ConditionTrue}
	if status.Phase == corev1.PodSucceeded {
		result.Reason = "PodCompleted"
		return result
	}
	var incomplete []string
	for i, at := range s.inits {
		state := status.InitContainerStatuses[i].State
		done := state.Terminated != nil && state.Terminated.ExitCode == 0
		if at.sidecar {
			done = state.Running != nil || tallyOf(status.ContainerStatuses, s.containers).running > 0
		}
		if !done {
			incomplete = append(incomplete, at.spec.Name)
		}
	}
	// Containers start only after initialization: a far end that reports no init
	// containers at all is believed by what it says of the others.
	if len(incomplete) > 0 && tallyOf(status.ContainerStatuses, s.containers).running == 0 {
		result.Status, result.Reason = corev1.ConditionFalse, "ContainersNotInitialized"
		result.Message = fmt.Sprintf("containers with incomplete status: %v", incomplete)
	}
	return result
}

func (s *scene) containersReady(status *corev1.PodStatus) corev1.PodCondition {
	result := corev1.PodCondition{Type: corev1.ContainersReady, Status: corev1.ConditionFalse}
	switch status.Phase {
	case corev1.PodSucceeded:
		result.Reason = "PodCompleted"
		return result
	case corev1.PodFailed:
		result.Reason = "PodFailed"
		return result
	case corev1.PodPending, corev1.PodRunning, corev1.PodUnknown:
	}
	var unready []string
	for i, at := range s.inits {
		if at.sidecar && !at.local && !status.InitContainerStatuses[i].Ready {
			unready = append(unready, at.spec.Name)
		}
	}
	for i, at := range s.containers {
		if !status.ContainerStatuses[i].Ready {
			unready = append(unready, at.spec.Name)
		}
	}
	if len(unready) > 0 || len(s.containers) == 0 {
		result.Reason = "ContainersNotReady"
		result.Message = fmt.Sprintf("containers with unready status: %v", unready)
		return result
	}
	result.Status = corev1.ConditionTrue
	return result
}

// ready is ContainersReady and the origin's readiness gates together.
func (s *scene) ready(status *corev1.PodStatus, containers corev1.PodCondition) corev1.PodCondition {
	result := containers
	result.Type = corev1.PodReady
	if containers.Status != corev1.ConditionTrue {
		return result
	}
	for _, gate := range s.in.Pod.Spec.ReadinessGates {
		if known := condition(status, gate.ConditionType); known == nil || known.Status != corev1.ConditionTrue {
			result.Status, result.Reason = corev1.ConditionFalse, "ReadinessGatesNotReady"
			result.Message = fmt.Sprintf("readiness gate %q is not true", gate.ConditionType)
			return result
		}
	}
	return result
}

// setCondition writes one condition. Its transition time changes only when its
// status does; a time that the report brings along is believed.
func (s *scene) setCondition(status *corev1.PodStatus, next corev1.PodCondition) {
	known := condition(status, next.Type)
	if known == nil {
		if next.LastTransitionTime.IsZero() {
			next.LastTransitionTime = s.in.Now
		}
		status.Conditions = append(status.Conditions, next)
		return
	}
	switch {
	case known.Status == next.Status && !known.LastTransitionTime.IsZero():
		next.LastTransitionTime = known.LastTransitionTime
	case next.LastTransitionTime.IsZero():
		next.LastTransitionTime = s.in.Now
	}
	next.ObservedGeneration = known.ObservedGeneration
	*known = next
}
