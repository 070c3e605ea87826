// SPDX-License-Identifier: Apache-2.0

package podstatus

import (
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/cloudveneto/caas/internal/interlink"
)

// slot is the place of one container of the spec, with what is known of it.
type slot struct {
	spec *corev1.Container
	// local containers are not offloaded: nobody reports them.
	local bool
	// sidecar init containers run beside the containers and do not end.
	sidecar  bool
	previous corev1.ContainerStatus
	has      bool
	reported corev1.ContainerStatus
	told     bool
}

// scene is a pod with its containers in spec order.
type scene struct {
	in         Input
	inits      []slot
	containers []slot
	ephemerals []slot
}

func newScene(in Input) *scene {
	pod := in.Pod
	localInits := names(pod.Annotations[interlink.AnnotationLocalInitContainers])
	locals := names(pod.Annotations[interlink.AnnotationLocalContainers])
	return &scene{
		in:         in,
		inits:      slots(pod.Spec.InitContainers, localInits, in.Previous.InitContainerStatuses, in.Wire.InitContainers),
		containers: slots(pod.Spec.Containers, locals, in.Previous.ContainerStatuses, in.Wire.Containers),
		ephemerals: ephemeralSlots(&in),
	}
}

func names(list string) map[string]bool {
	set := map[string]bool{}
	for name := range strings.SplitSeq(list, ",") {
		if name = strings.TrimSpace(name); name != "" {
			set[name] = true
		}
	}
	return set
}

func slots(specs []corev1.Container, local map[string]bool, previous, reported []corev1.ContainerStatus) []slot {
	before, now := byName(previous), byName(reported)
	list := make([]slot, len(specs))
	for i := range specs {
		at := slot{spec: &specs[i], local: local[specs[i].Name]}
		at.sidecar = specs[i].RestartPolicy != nil && *specs[i].RestartPolicy == corev1.ContainerRestartPolicyAlways
		if status, ok := before[specs[i].Name]; ok {
			at.previous, at.has = *status, states(&status.State) == 1
		}
		if status, ok := now[specs[i].Name]; ok {
			at.reported, at.told = *status, states(&status.State) == 1
		}
		list[i] = at
	}
	return list
}

func byName(list []corev1.ContainerStatus) map[string]*corev1.ContainerStatus {
	set := make(map[string]*corev1.ContainerStatus, len(list))
	for i := range list {
		set[list[i].Name] = &list[i]
	}
	return set
}

// states counts the set members of a state; a valid one has exactly one.
func states(state *corev1.ContainerState) int {
	count := 0
	for _, set := range []bool{state.Waiting != nil, state.Running != nil, state.Terminated != nil} {
		if set {
			count++
		}
	}
	return count
}

// fill makes one status per slot with the state that choose returns, keeping
// everything else that was known.
func (s *scene) fill(list []slot, choose func(slot) corev1.ContainerState) []corev1.ContainerStatus {
	if len(list) == 0 {
		return nil
	}
	statuses := make([]corev1.ContainerStatus, 0, len(list))
	for _, at := range list {
		status := *at.previous.DeepCopy()
		status.Name = at.spec.Name
		if status.Image == "" {
			status.Image = at.spec.Image
		}
		state := choose(at)
		status.State = *state.DeepCopy()
		if status.State.Running == nil && (!at.has || at.previous.State.Terminated == nil) {
			status.Ready = false
			status.Started = new(false)
		}
		statuses = append(statuses, status)
	}
	return statuses
}

// take makes one status per slot from the report, or from missing where the
// report has nothing.
func (s *scene) take(list []slot, missing func(slot) corev1.ContainerState) []corev1.ContainerStatus {
	statuses := s.fill(list, missing)
	for i, at := range list {
		if at.told {
			statuses[i] = clean(at)
		}
	}
	return statuses
}

// clean copies a reported status without what makes sense at the far end only.
func clean(at slot) corev1.ContainerStatus {
	status := *at.reported.DeepCopy()
	status.VolumeMounts = nil
	status.User = nil
	status.AllocatedResourcesStatus = nil
	if status.Image == "" {
		status.Image = at.spec.Image
	}
	if ended := status.State.Terminated; ended != nil && ended.Reason == "" {
		ended.Reason = reasonError
		if ended.ExitCode == 0 {
			ended.Reason = reasonCompleted
		}
	}
	if states(&status.LastTerminationState) > 1 || status.LastTerminationState.Terminated == nil {
		status.LastTerminationState = corev1.ContainerState{}
	}
	return status
}

// kept is the state that a container had, or waiting when there was none.
func (s *scene) kept(at slot) corev1.ContainerState {
	if at.has {
		return at.previous.State
	}
	reason := reasonCreating
	if len(s.inits) > 0 {
		reason = reasonInitializing
	}
	return waiting(reason, "")
}

func waiting(reason, message string) corev1.ContainerState {
	return corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: message}}
}

// ended is the state of a container that outcome ended, unless it had ended before.
func (s *scene) ended(at slot, outcome Outcome) corev1.ContainerState {
	if at.has && at.previous.State.Terminated != nil {
		return at.previous.State
	}
	state := corev1.ContainerStateTerminated{
		ExitCode: outcome.ExitCode, Reason: outcome.Reason, Message: outcome.Message, FinishedAt: s.in.Now,
	}
	if at.has && at.previous.State.Running != nil {
		state.StartedAt = at.previous.State.Running.StartedAt
		state.ContainerID = at.previous.ContainerID
	}
	return corev1.ContainerState{Terminated: &state}
}
