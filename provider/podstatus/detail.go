// SPDX-License-Identifier: Apache-2.0

package podstatus

import (
	"cmp"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/cloudveneto/caas/internal/interlink"
)

// takeDetail takes over a report with pod-level detail.
func (s *scene) takeDetail(status *corev1.PodStatus, detail *interlink.PodDetail) {
	status.Phase = phaseOf(detail.Phase, s.in.Previous.Phase)
	status.Reason, status.Message = detail.Reason, detail.Message
	setAddresses(status, detail)
	if start := wholeSeconds(detail.StartTime); start != nil {
		status.StartTime = start
	}
	if status.QOSClass == "" {
		status.QOSClass = detail.QOSClass // the API server forbids to change it
	}
	missing := s.missing(status.Phase, detail)
	status.InitContainerStatuses = s.take(s.inits, missing)
	status.ContainerStatuses = s.take(s.containers, missing)
	if Terminal(status) {
		_, _, disrupted := Disruption(detail.Conditions)
		disrupted = disrupted || status.Reason == reasonEvicted
		s.stop(s.inits, status.InitContainerStatuses, disrupted)
		s.stop(s.containers, status.ContainerStatuses, disrupted)
	}
	s.takeConditions(status, detail.Conditions)
}

// stop ends the containers that a report of an ended pod still calls running, or waiting
// although they ran or the pod was disrupted. Nobody may ever say more of them: their
// node was lost, and the pod was given up without it. Containers of another failed pod
// may wait for ever, as those that come after an init container that failed.
func (s *scene) stop(list []slot, statuses []corev1.ContainerStatus, disrupted bool) {
	for i, at := range list {
		if at.local || statuses[i].State.Terminated != nil {
			continue
		}
		before := corev1.ContainerState{}
		if at.has {
			before = at.previous.State
		}
		running := cmp.Or(statuses[i].State.Running, before.Running)
		if running == nil && before.Terminated == nil && !disrupted {
			continue
		}
		statuses[i].Ready, statuses[i].Started = false, new(false)
		if before.Terminated != nil { // this has been said before
			statuses[i].State = *before.DeepCopy()
			continue
		}
		running = cmp.Or(running, &corev1.ContainerStateRunning{}) // it never did
		statuses[i].State = corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{
			Reason: reasonUnknown, Message: messageStateUnknown, ExitCode: exitCodeKilled,
			StartedAt: running.StartedAt, FinishedAt: s.in.Now, ContainerID: statuses[i].ContainerID,
		}}
	}
}

func phaseOf(told, previous corev1.PodPhase) corev1.PodPhase {
	switch told {
	case corev1.PodPending, corev1.PodRunning, corev1.PodSucceeded, corev1.PodFailed, corev1.PodUnknown:
		return told
	}
	if previous == "" {
		return corev1.PodPending
	}
	return previous
}

// missing chooses the state of containers that the report leaves out: a pod that
// is not placed yet says why, a pod that ended leaves no container running, and
// containers that stay at the origin follow the pod.
func (s *scene) missing(phase corev1.PodPhase, detail *interlink.PodDetail) func(slot) corev1.ContainerState {
	over := phase == corev1.PodSucceeded || phase == corev1.PodFailed
	return func(at slot) corev1.ContainerState {
		switch {
		case at.local:
			return s.localState(at, phase)
		case over && phase == corev1.PodSucceeded:
			return s.ended(at, Outcome{Reason: reasonCompleted})
		case over:
			return s.ended(at, Outcome{Reason: reasonUnknown, Message: messageStateUnknown, ExitCode: exitCodeKilled})
		}
		for _, condition := range detail.Conditions {
			if condition.Type == corev1.PodScheduled && condition.Status == corev1.ConditionFalse && condition.Reason != "" {
				return waiting(condition.Reason, condition.Message)
			}
		}
		return s.kept(at)
	}
}

// localState is the state of a container that is not offloaded: nothing runs it,
// and it must not hold the pod up.
func (s *scene) localState(at slot, phase corev1.PodPhase) corev1.ContainerState {
	if at.has && at.previous.State.Terminated != nil {
		return at.previous.State
	}
	over := phase == corev1.PodSucceeded || phase == corev1.PodFailed
	if over || isInit(at, s.inits) {
		return s.ended(at, Outcome{Reason: reasonLocal})
	}
	if phase == corev1.PodRunning {
		if at.has && at.previous.State.Running != nil {
			return at.previous.State
		}
		return corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: s.in.Now}}
	}
	return s.kept(at)
}

func isInit(at slot, inits []slot) bool {
	for _, init := range inits {
		if init.spec == at.spec {
			return true
		}
	}
	return false
}

// takeConditions replaces the conditions that a kubelet owns by the far end's;
// PodScheduled and those of others (disruption, readiness gates) are the origin's.
func (s *scene) takeConditions(status *corev1.PodStatus, told []corev1.PodCondition) {
	for _, condition := range told {
		if !ownedByKubelet(condition.Type) {
			continue
		}
		condition.ObservedGeneration = 0
		s.setCondition(status, condition)
	}
	s.setCondition(status, scheduled(status))
	if !hasCondition(status, corev1.PodReady) || !hasCondition(status, corev1.ContainersReady) ||
		!hasCondition(status, corev1.PodInitialized) || len(s.in.Pod.Spec.ReadinessGates) > 0 {
		s.conditions(status)
		s.believeUnready(status, told)
	}
}

// believeUnready keeps a pod from being called ready that the far end calls unready
// although its containers are ready, as it does when the pod's node is lost.
func (s *scene) believeUnready(status *corev1.PodStatus, told []corev1.PodCondition) {
	for _, condition := range told {
		if condition.Type == corev1.PodReady && condition.Status == corev1.ConditionFalse && hasStatus(status, corev1.PodReady, corev1.ConditionTrue) {
			condition.ObservedGeneration = 0
			s.setCondition(status, condition)
		}
	}
}

func hasStatus(status *corev1.PodStatus, t corev1.PodConditionType, wanted corev1.ConditionStatus) bool {
	known := condition(status, t)
	return known != nil && known.Status == wanted
}

func ownedByKubelet(t corev1.PodConditionType) bool {
	return slices.Contains([]corev1.PodConditionType{
		corev1.PodReady, corev1.ContainersReady, corev1.PodInitialized, corev1.PodReadyToStartContainers, corev1.DisruptionTarget,
	}, t)
}

func hasCondition(status *corev1.PodStatus, t corev1.PodConditionType) bool {
	return condition(status, t) != nil
}

func condition(status *corev1.PodStatus, t corev1.PodConditionType) *corev1.PodCondition {
	for i := range status.Conditions {
		if status.Conditions[i].Type == t {
			return &status.Conditions[i]
		}
	}
	return nil
}
