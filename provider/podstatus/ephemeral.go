// SPDX-License-Identifier: Apache-2.0

package podstatus

import (
	corev1 "k8s.io/api/core/v1"
)

// ReasonRefused is the reason of an ephemeral container that the far end will never run.
const ReasonRefused = "Refused"

// ephemeralSlots are the places of the pod's ephemeral containers.
func ephemeralSlots(in *Input) []slot {
	specs := in.Pod.Spec.EphemeralContainers
	if len(specs) == 0 {
		return nil
	}
	containers := make([]corev1.Container, len(specs))
	for i := range specs {
		containers[i] = corev1.Container(specs[i].EphemeralContainerCommon)
	}
	var reported []corev1.ContainerStatus
	if in.Wire.Detail != nil {
		reported = in.Wire.Detail.EphemeralContainers
	}
	return slots(containers, nil, in.Previous.EphemeralContainerStatuses, reported)
}

// ephemeral makes one status per ephemeral container. They count neither for the
// pod's phase nor for its readiness, and none of them starts in a pod that has ended.
func (s *scene) ephemeral(status *corev1.PodStatus) {
	over := Terminal(status)
	status.EphemeralContainerStatuses = s.take(s.ephemerals, func(at slot) corev1.ContainerState {
		message, refused := s.in.Refused[at.spec.Name]
		switch {
		case refused:
			return s.ended(at, Outcome{Reason: ReasonRefused, Message: message, ExitCode: 1})
		case at.has && over && at.previous.State.Running != nil:
			return s.ended(at, Outcome{Reason: reasonUnknown, Message: messageStateUnknown, ExitCode: exitCodeKilled})
		case at.has:
			return at.previous.State
		default:
			return waiting(reasonCreating, "")
		}
	})
}
