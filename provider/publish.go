// SPDX-License-Identifier: Apache-2.0

package provider

import (
	"context"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/cloudveneto/caas/internal/logging"
	"github.com/cloudveneto/caas/provider/podstatus"
)

const (
	// checkAfter is the first pause before it is checked whether a status arrived; further
	// ones grow up to maxPause.
	checkAfter = 5 * time.Second
	maxPause   = time.Minute
	// maxAnswers is how often the API server may take the same status and keep another one.
	maxAnswers = 4
	// restoreAfter is how long a status that others have changed is left so.
	restoreAfter = time.Second
)

func (p *Provider) publishLoop(ctx context.Context) {
	for {
		uid, stopped := p.dirty.Get()
		if stopped {
			return
		}
		if ctx.Err() == nil {
			p.publish(ctx, uid)
		}
		p.dirty.Done(uid)
	}
}

// publish computes the status of one pod and hands it to the library, which has
// it written by PodClient. The library waits up to three seconds for pods that it
// does not know, so only pods that the informer holds are handed over.
func (p *Provider) publish(ctx context.Context, uid types.UID) {
	e, ok := p.table.view(uid)
	if !ok || e.orphan || !e.present {
		return
	}
	pod, err := p.lister.Pods(e.pod.Namespace).Get(e.pod.Name)
	if err != nil || pod.UID != uid {
		return // gone: nothing is left to be said
	}
	if podstatus.Terminal(&pod.Status) {
		p.amend(ctx, &e, pod)
		return
	}
	p.mu.Lock()
	notify := p.notify
	p.mu.Unlock()
	status, ok := p.current(&e)
	if !ok || notify == nil {
		return // NotifyPods has everything published again
	}
	if podstatus.Equal(status, e.base()) {
		p.table.change(uid, func(e *entry) { e.status, e.tells, e.answers, e.heardAt = status, 0, 0, time.Time{} })
		return
	}
	if settling := p.cfg.FirstStatusAfter - time.Since(e.heardOf()); settling > 0 && len(e.base().ContainerStatuses) == 0 && podstatus.Starting(status) {
		p.dirty.AddAfter(uid, settling)
		return
	}
	tells, answers := 0, 0
	p.table.change(uid, func(e *entry) {
		if e.status == nil || !podstatus.Equal(status, e.status) {
			e.tells, e.answers = 0, 0
		}
		e.status = status
		e.tells++
		tells, answers = e.tells, e.answers
	})
	if answers >= maxAnswers {
		return // the API server keeps what it likes of it
	}
	told := *pod
	told.Status = *status
	// The library takes no notice of what it was told before, even if that is not what
	// the origin has; it replaces the version.
	told.ResourceVersion = strconv.FormatUint(p.tellings.Add(1), 10)
	notify(&told)
	// The library drops a status without a word when its own view of the pods is
	// late, so whether it arrived is checked until it has.
	p.dirty.AddAfter(uid, min(time.Duration(tells)*checkAfter, maxPause))
}

// amend writes the final status once more if the origin has something else: a request of which nobody heard that it had
// arrived may have changed what the final one was the difference to. The library takes no notice of pods that have ended.
// How the pod ended is final, whoever said so.
func (p *Provider) amend(ctx context.Context, e *entry, pod *corev1.Pod) {
	if e.status == nil || e.status.Phase != pod.Status.Phase || e.answers >= maxAnswers {
		return
	}
	status := p.previous(e)
	if podstatus.Equal(status, e.base()) {
		return
	}
	if err := p.writeStatus(ctx, pod, status); err != nil {
		logging.From(ctx).Debug("the final status needs another try", "podUid", e.uid, "error", err)
	}
	p.dirty.AddAfter(e.uid, checkAfter)
}

// heardOf is when there was first something to be said of the pod. In a burst pods wait for their turn, and would have
// outwaited every patience when the far end takes them.
func (e *entry) heardOf() time.Time {
	if e.acceptedAt.After(e.seenAt) {
		return e.acceptedAt
	}
	return e.seenAt
}

// current is the pod's status by everything that is known.
func (p *Provider) current(e *entry) (*corev1.PodStatus, bool) {
	now := metav1.Now()
	previous := *p.previous(e)
	known := false
	if e.wire != nil {
		previous = podstatus.From(podstatus.Input{Pod: e.pod, Previous: previous, Wire: *e.wire, Refused: e.refusals(), Now: now})
		known = true
	}
	switch {
	case e.final != nil:
		return new(podstatus.Failed(e.pod, previous, now, *e.final)), true
	case known:
		return &previous, true
	case e.wait != nil:
		return new(podstatus.Waiting(e.pod, previous, now, e.wait.reason, e.wait.message)), true
	}
	return nil, false
}

// previous is the status to go on from: what was told last, with what others have
// written since, or the origin's own.
func (p *Provider) previous(e *entry) *corev1.PodStatus {
	if e.status != nil {
		return new(podstatus.Rebase(e.status, e.base()))
	}
	return e.base()
}
