// SPDX-License-Identifier: Apache-2.0

package podstatus

import (
	corev1 "k8s.io/api/core/v1"
)

// derive makes phase and conditions from container states, for far ends that
// report nothing else. By the protocol such a far end reports a container as
// terminated only when it will not start again, so a pod whose containers have
// all terminated has ended, whatever its restart policy.
func (s *scene) derive(status *corev1.PodStatus) {
	unknown := func(at slot) corev1.ContainerState { return s.kept(at) }
	status.InitContainerStatuses = s.take(s.inits, unknown)
	status.ContainerStatuses = s.take(s.containers, unknown)
	before := s.in.Previous.Phase
	status.Phase = s.phase(status, before)
	s.settleLocal(status)
	if told(s.inits) || told(s.containers) {
		status.Reason, status.Message = "", ""
		if status.StartTime == nil {
			status.StartTime = new(s.in.Now)
		}
	}
	if address, ok := s.in.Pod.Annotations[annotationPodIP]; ok {
		setPodIPs(status, []string{address})
	}
	s.conditions(status)
}

func told(list []slot) bool {
	for _, at := range list {
		if at.told {
			return true
		}
	}
	return false
}

// phase follows the kubelet's rules, over the containers that are offloaded.
func (s *scene) phase(status *corev1.PodStatus, before corev1.PodPhase) corev1.PodPhase {
	if before == "" {
		before = corev1.PodPending
	}
	if !told(s.inits) && !told(s.containers) {
		return before
	}
	count := tallyOf(status.ContainerStatuses, s.containers)
	switch {
	case s.initFailed(status) && count.running == 0:
		return corev1.PodFailed
	case count.total == 0:
		return before
	case count.terminated == count.total && count.failed > 0:
		return corev1.PodFailed
	case count.terminated == count.total:
		return corev1.PodSucceeded
	case count.running > 0:
		return corev1.PodRunning
	case count.terminated > 0 || before == corev1.PodRunning || before == corev1.PodUnknown:
		return corev1.PodRunning
	default:
		return corev1.PodPending
	}
}

// initFailed reports whether an init container failed for good: without a
// restart, or with containers that were given up.
func (s *scene) initFailed(status *corev1.PodStatus) bool {
	if s.in.Pod.Spec.RestartPolicy != corev1.RestartPolicyNever {
		return false
	}
	for i, at := range s.inits {
		ended := status.InitContainerStatuses[i].State.Terminated
		if !at.sidecar && !at.local && ended != nil && ended.ExitCode != 0 {
			return true
		}
	}
	return false
}

// settleLocal gives containers that stay at the origin a state that follows the
// pod's phase, unless the far end reported one.
func (s *scene) settleLocal(status *corev1.PodStatus) {
	settle := func(list []slot, statuses []corev1.ContainerStatus) {
		for i, at := range list {
			if !at.local || at.told {
				continue
			}
			statuses[i].State = s.localState(at, status.Phase)
			running := statuses[i].State.Running != nil
			statuses[i].Ready = running || (isInit(at, s.inits) && statuses[i].State.Terminated != nil)
			statuses[i].Started = new(running)
		}
	}
	settle(s.inits, status.InitContainerStatuses)
	settle(s.containers, status.ContainerStatuses)
}

// tally counts the states of the offloaded containers.
type tally struct{ total, running, terminated, failed int }

func tallyOf(statuses []corev1.ContainerStatus, list []slot) tally {
	var count tally
	for i, at := range list {
		if at.local {
			continue
		}
		count.total++
		switch state := statuses[i].State; {
		case state.Running != nil:
			count.running++
		case state.Terminated != nil:
			count.terminated++
			if state.Terminated.ExitCode != 0 {
				count.failed++
			}
		}
	}
	return count
}

func (t tally) succeeded() bool { return t.total > 0 && t.terminated == t.total && t.failed == 0 }
