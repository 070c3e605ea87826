// SPDX-License-Identifier: Apache-2.0

package provider

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/cloudveneto/caas/internal/interlink"
	"github.com/cloudveneto/caas/internal/logging"
	"github.com/cloudveneto/caas/provider/podstatus"
)

// statusLoop learns how the pods are: from the far end's stream when it has one,
// by polling otherwise.
func (p *Provider) statusLoop(ctx context.Context) {
	select {
	case <-p.known:
	case <-ctx.Done():
		return
	}
	pause := firstRetry
	poll := poller{provider: p}
	for ctx.Err() == nil {
		if !p.features.Load().stream {
			poll.round(ctx)
			rest(ctx, p.cfg.StatusInterval)
			continue
		}
		synced, err := p.watch(ctx)
		if ctx.Err() != nil {
			return
		}
		if broken(err) {
			p.attempts.giveUp()
		}
		if synced {
			pause = firstRetry
		}
		if errors.Is(err, errOfferChanged) {
			continue
		}
		if !errors.Is(err, io.EOF) {
			logging.From(ctx).Warn("status stream broken", "error", err, "retryIn", pause)
		}
		p.metrics.reconnects.Inc()
		p.restOrPing(ctx, pause/2+rand.N(pause/2)) //nolint:gosec // jitter is no secret
		pause = min(2*pause, lastRetry)
	}
}

// restOrPing waits until the far end answers a ping, and no longer than for pause: what
// is pinged every few seconds anyway can be asked for its stream as often.
func (p *Provider) restOrPing(ctx context.Context, pause time.Duration) {
	select {
	case <-p.answered: // before the stream broke
	default:
	}
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-p.answered:
	case <-ctx.Done():
	}
}

// errOfferChanged ends a stream that was opened for less, or more, than the far end
// offers now.
var errOfferChanged = errors.New("the far end's offer has changed")

// rest waits unless ctx ends first.
func rest(ctx context.Context, pause time.Duration) {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// watch reads one status stream to its end. Its handler only changes the table
// and queues work: one slow pod must not hold up the others.
func (p *Provider) watch(ctx context.Context) (synced bool, err error) {
	begun := time.Now()
	snapshot := map[types.UID]bool{}
	request := interlink.WatchRequest{Cluster: p.cfg.ClusterID, Node: p.cfg.NodeName, Events: p.features.Load().events}
	defer p.setInStep(false)
	err = p.cfg.FarEnd.Watch(ctx, request, func(event interlink.StatusEvent) error {
		if event.Type == interlink.EventSynced {
			logging.From(ctx).Info("status stream is in step", "pods", len(snapshot))
			p.applySnapshot(snapshot, begun)
			p.hurry()
			snapshot, synced = nil, true
			p.setInStep(true)
			return nil
		}
		if snapshot == nil && request.Events != p.features.Load().events {
			return errOfferChanged
		}
		if snapshot != nil && event.Type == interlink.EventStatus && event.Status != nil {
			snapshot[types.UID(event.Status.UID)] = true
		}
		p.applyEvent(ctx, event)
		return nil
	})
	return synced, err
}

func (p *Provider) setInStep(now bool) {
	p.inStep.Store(now)
	streams := 0.
	if now {
		streams = 1
	}
	p.metrics.streams.Set(streams)
}

// hurry has tried at once what failed while the far end could not be reached, and would
// be tried after a pause that has grown with the outage.
func (p *Provider) hurry() {
	for _, uid := range p.table.uids() {
		if p.work.NumRequeues(uid) > 0 {
			p.work.Forget(uid)
			p.work.Add(uid)
		}
	}
}

// applyEvent takes in one event about one pod or the node.
func (p *Provider) applyEvent(ctx context.Context, event interlink.StatusEvent) {
	switch {
	case event.Type == interlink.EventStatus && event.Status != nil:
		p.apply(event.Status, true)
	case event.Type == interlink.EventGone && event.Status != nil:
		p.applyGone(ctx, event.Status)
	case event.Type == interlink.EventNode && event.Node != nil:
		p.cfg.OnNode(*event.Node)
	case event.Type == interlink.EventPodEvent && event.Event != nil:
		p.applyPodEvent(event.Event)
	}
}

// apply takes in a report of one pod.
func (p *Provider) apply(report *interlink.PodStatus, mayBeOrphan bool) {
	uid := types.UID(report.UID)
	if report.Name == "" || uid == "" {
		return
	}
	report = new(*report)
	wake := false
	known := p.table.change(uid, func(e *entry) {
		wake = e.held == holdsMaybe || (e.lost && e.held != holds)
		switch {
		case e.held == holds:
		case halfMade(report) && e.held != heldOnce:
			e.held, e.sent = holdsMaybe, true
		default:
			e.held, e.acceptedAt = holds, time.Now()
		}
		e.suspect, e.absences, e.wire, e.wait = false, 0, report, nil
		if e.heardAt.IsZero() {
			e.heardAt = time.Now()
		}
		wake = e.standing.learn(report.Detail) || wake
		if report.JobID != "" {
			e.jobID = report.JobID
		}
	})
	switch {
	case known:
		p.dirty.Add(uid)
	case mayBeOrphan && p.ours(report):
		p.foundOrphan(report)
		wake = true
	}
	if wake {
		p.work.Add(uid)
	}
}

// halfMade reports whether a create was cut off half way, or is under way: only sending
// it, again, completes it.
func halfMade(report *interlink.PodStatus) bool {
	return report.Detail != nil && report.Detail.Incomplete
}

// ours reports whether a report is about a pod of this cluster and node. What
// does not say so is left alone.
func (p *Provider) ours(report *interlink.PodStatus) bool {
	detail := report.Detail
	return detail != nil && detail.OriginCluster == p.cfg.ClusterID && detail.OriginNode == p.cfg.NodeName
}

// foundOrphan makes an entry for a pod that the origin seems not to have.
func (p *Provider) foundOrphan(report *interlink.PodStatus) {
	uid := types.UID(report.UID)
	p.table.ensure(uid, func(e *entry, fresh bool) {
		if !fresh {
			return
		}
		e.pod = &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: report.Namespace, Name: report.Name, UID: uid}}
		e.held, e.orphan, e.wire, e.jobID = holds, true, report, report.JobID
		if halfMade(report) {
			e.held, e.sent = holdsMaybe, true
		}
	})
}

// applyGone takes in that the far end holds nothing more of a pod. For a pod
// that nobody deleted at the origin this is the end, unless it had ended before.
func (p *Provider) applyGone(ctx context.Context, report *interlink.PodStatus) {
	uid := types.UID(report.UID)
	var vanished *corev1.Pod
	tell := true
	known := p.table.change(uid, func(e *entry) {
		e.held, e.suspect = heldOnce, false
		if report.Name != "" {
			e.wire = new(*report)
		}
		tell = !e.unwanted() // finish writes the status of a deleted pod
		if !tell || e.final != nil || podstatus.Terminal(&e.pod.Status) {
			return
		}
		if e.wire != nil && ended(e) {
			return
		}
		e.lost = true
		e.final = vanishing(e)
		vanished = e.pod
	})
	if vanished != nil {
		logging.From(ctx).Warn("pod was deleted behind our back", "namespace", vanished.Namespace, "pod", vanished.Name, "podUid", uid)
	}
	if known && tell {
		p.dirty.Add(uid)
	}
	if known {
		p.work.Add(uid)
	}
}

// vanishing is how a pod ended that went without an end of its own: disrupted, if the
// far end said why, or deleted by somebody.
func vanishing(e *entry) *podstatus.Outcome {
	outcome := &podstatus.Outcome{Reason: EventRemotePodDeleted, Message: "the pod was deleted at the far end", ExitCode: 137}
	if e.wire != nil && e.wire.Detail != nil {
		if reason, message, disrupted := podstatus.Disruption(e.wire.Detail.Conditions); disrupted {
			outcome.Reason, outcome.Message = reason, message
		}
	}
	return outcome
}

// ended reports whether the last report of a pod is a final one by itself.
func ended(e *entry) bool {
	status := podstatus.From(podstatus.Input{Pod: e.pod, Previous: *e.base(), Wire: *e.wire, Now: metav1.Now()})
	return podstatus.Terminal(&status)
}

// applySnapshot compares the table with everything that the far end holds.
// Pods that it accepted after the stream had begun may be missing rightly; if it
// deleted them, too, nobody may ever tell that they are gone.
func (p *Provider) applySnapshot(snapshot map[types.UID]bool, begun time.Time) {
	var wake []types.UID
	p.table.each(func(e *entry) {
		if snapshot[e.uid] {
			return
		}
		late, deleted := e.held == holds && !e.acceptedAt.Before(begun), e.unwanted() && e.deleteAcked
		switch {
		case late && !deleted:
			return
		case late:
			e.suspect = true
		case e.held == holds && deleted:
			e.held = heldOnce
		case e.held == holds:
			e.suspect = true
		case e.held == holdsMaybe && !e.sent && e.deleteSent.IsZero() && podstatus.Terminal(&e.pod.Status):
			e.held = heldOnce
		case e.held == holdsMaybe && !e.sent && e.deleteSent.IsZero():
			e.held, e.suspect = holds, true
		default:
			return
		}
		wake = append(wake, e.uid)
	})
	for _, uid := range wake {
		p.work.Add(uid)
	}
}
