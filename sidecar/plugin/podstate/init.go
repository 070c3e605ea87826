// SPDX-License-Identifier: Apache-2.0

package podstate

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// initContainers reports init containers in spec order. Those behind the first
// that has not ended are waiting, whatever the kubelet says of them.
func (v *view) initContainers() []corev1.ContainerStatus {
	out := make([]corev1.ContainerStatus, 0, len(v.origin.Spec.InitContainers))
	blocked := false
	for i := range v.origin.Spec.InitContainers {
		container := &v.origin.Spec.InitContainers[i]
		if slices.Contains(v.localInit, container.Name) {
			out = append(out, localInit(container))
			continue
		}
		status := find(v.remote.Status.InitContainerStatuses, container)
		if v.sidecar(container.Name) {
			// Upstream's virtual kubelet takes a running init container for one that
			// has not ended: a pod with a sidecar would never be Running.
			if started(&status) || v.terminal() {
				continue
			}
			status.State = corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reasonInitializing}}
			blocked = true
		} else {
			heard := len(out) == 0 || known(v.origin.Status.InitContainerStatuses, container.Name)
			v.settleInit(&status, blocked, heard)
			blocked = blocked || status.State.Terminated == nil
		}
		out = append(out, status)
	}
	return out
}

func localInit(container *corev1.Container) corev1.ContainerStatus {
	return corev1.ContainerStatus{
		Name: container.Name, Image: container.Image, Ready: true, State: ended(0, reasonCompleted, ""),
	}
}

// sidecar tells whether name is an init container that runs beside the others.
func (v *view) sidecar(name string) bool {
	return slices.ContainsFunc(v.origin.Spec.InitContainers, func(c corev1.Container) bool {
		return c.Name == name && c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways
	})
}

func started(status *corev1.ContainerStatus) bool {
	return status.Started != nil && *status.Started
}

// settleInit gives an init container the state that is safe to report.
func (v *view) settleInit(status *corev1.ContainerStatus, blocked, heard bool) {
	switch {
	case v.terminal():
		v.finish(status)
	case blocked:
		status.State = corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reasonInitializing}}
	case status.State.Terminated != nil:
		policy := v.origin.Spec.RestartPolicy
		if policy != corev1.RestartPolicyNever {
			policy = corev1.RestartPolicyOnFailure // an init container that succeeded does not run again
		}
		v.hold(status, policy, heard)
	case status.State.Running == nil && status.State.Waiting == nil:
		status.State.Waiting = v.waiting()
	}
}
