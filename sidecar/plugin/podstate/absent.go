// SPDX-License-Identifier: Apache-2.0

package podstate

import (
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/cloudveneto/caas/internal/interlink"
)

// Absent returns the status of an origin's pod that the target cluster does not
// hold: lost when it was accepted once, otherwise not created yet.
func Absent(origin *corev1.Pod) interlink.PodStatus {
	status := head(origin)
	job, accepted := origin.Annotations[interlink.AnnotationJobID]
	status.JobID, status.Missing = job, true
	state := corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{
		Reason: ReasonNotCreated, Message: "the target cluster has not been asked to run this pod yet",
	}}
	if accepted {
		state = ended(exitKilled, ReasonLost, "the pod was removed from the target cluster")
	}
	localInits := names(origin, interlink.AnnotationLocalInitContainers)
	for i := range origin.Spec.InitContainers {
		container := &origin.Spec.InitContainers[i]
		if slices.Contains(localInits, container.Name) {
			status.InitContainers = append(status.InitContainers, localInit(container))
			continue
		}
		status.InitContainers = append(status.InitContainers, absentStatus(container, state))
	}
	for i := range origin.Spec.Containers {
		status.Containers = append(status.Containers, absentStatus(&origin.Spec.Containers[i], state))
	}
	return status
}

func absentStatus(container *corev1.Container, state corev1.ContainerState) corev1.ContainerStatus {
	return corev1.ContainerStatus{Name: container.Name, Image: container.Image, State: *state.DeepCopy()}
}
