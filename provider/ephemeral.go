// SPDX-License-Identifier: Apache-2.0

package provider

import (
	"context"
	"maps"

	corev1 "k8s.io/api/core/v1"

	"github.com/cloudveneto/caas/internal/interlink"
	"github.com/cloudveneto/caas/provider/podstatus"
)

// Debugger adds ephemeral containers to pods that the far end holds.
type Debugger interface {
	// AddEphemeral adds those of the pod's spec, unless they are there already;
	// interlink.IsRefused tells whether an error is final.
	AddEphemeral(ctx context.Context, pod *corev1.Pod) error
}

const notOffered = "the far end of this virtual node does not offer ephemeral containers"

// debug hands the pod's ephemeral containers on, one at a time, so that a refusal
// says which one it is about. They can only be added at the origin, never changed.
func (p *Provider) debug(ctx context.Context, e *entry, far *features) step {
	for i := range e.pod.Spec.EphemeralContainers {
		container := &e.pod.Spec.EphemeralContainers[i]
		if p.settled(e, container.Name) {
			continue
		}
		if !far.ephemeral || p.cfg.Debugger == nil {
			p.denied(e, container.Name, notOffered)
			continue
		}
		wired := p.wirePod(e.pod, e.jobID)
		wired.Spec.EphemeralContainers = []corev1.EphemeralContainer{*container}
		done := p.metrics.track("ephemeral")
		err := p.cfg.Debugger.AddEphemeral(ctx, wired)
		done()
		switch {
		case interlink.IsRefused(err):
			p.denied(e, container.Name, farEndsWords(err))
		case err != nil:
			return p.debugFailed(e, err)
		default:
			p.table.change(e.uid, func(e *entry) { e.note(container.Name, ""); e.failures = 0 })
		}
	}
	return step{}
}

// settled reports whether nothing is left to be done for an ephemeral container: it
// was handed on or refused, by this process or an earlier one.
func (p *Provider) settled(e *entry, name string) bool {
	if _, done := e.debugged[name]; done {
		return true
	}
	lists := [][]corev1.ContainerStatus{nil, e.base().EphemeralContainerStatuses}
	if e.wire != nil && e.wire.Detail != nil {
		lists[0] = e.wire.Detail.EphemeralContainers
	}
	for i := range lists[0] {
		if lists[0][i].Name == name {
			return true
		}
	}
	for i := range lists[1] {
		ended := lists[1][i].State.Terminated
		if lists[1][i].Name == name && ended != nil && ended.Reason == podstatus.ReasonRefused {
			return true
		}
	}
	return false
}

// denied ends an ephemeral container that can never run.
func (p *Provider) denied(e *entry, name, message string) {
	p.table.change(e.uid, func(e *entry) { e.note(name, message) })
	p.tell(e, EventEphemeralRefused, "ephemeral container "+name+": "+message)
	p.dirty.Add(e.uid)
}

// debugFailed counts a failed try, and tells users when there are several.
func (p *Provider) debugFailed(e *entry, err error) step {
	failures := 0
	p.table.change(e.uid, func(e *entry) {
		e.failures++
		failures = e.failures
	})
	if failures >= tellAfter {
		p.tell(e, EventEphemeralFailed, err.Error())
	}
	return step{err: err}
}

// note records what became of an ephemeral container: an empty message means that the
// far end has it. Copies of the entry share the map, so it is replaced.
func (e *entry) note(name, message string) {
	next := maps.Clone(e.debugged)
	if next == nil {
		next = map[string]string{}
	}
	next[name] = message
	e.debugged = next
}

// refusals are the ephemeral containers that will never run, with the reasons.
func (e *entry) refusals() map[string]string {
	refused := map[string]string{}
	for name, message := range e.debugged {
		if message != "" {
			refused[name] = message
		}
	}
	return refused
}
