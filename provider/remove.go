// SPDX-License-Identifier: Apache-2.0

package provider

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/cloudveneto/caas/internal/interlink"
	"github.com/cloudveneto/caas/internal/logging"
	"github.com/cloudveneto/caas/provider/podstatus"
)

const (
	// goneCheck is how long the stream has to report a deletion before the far
	// end is asked.
	goneCheck = 30 * time.Second
	// doubtAfter is how many deletes in a row a far end may answer with an error
	// before it is asked whether it knows the pod at all.
	doubtAfter = 5
)

// remove deletes a pod at the far end, and then at the origin. It never waits for
// the grace period as such: the far end applies it to the real pod.
func (p *Provider) remove(ctx context.Context, e *entry, far *features) step {
	if e.held == holdsNothing || e.held == heldOnce {
		return p.finish(ctx, e)
	}
	if far == nil {
		return step{} // woken by the far end's first answer
	}
	if !e.deleteAcked {
		return p.askToDelete(ctx, e, far)
	}
	waited := time.Since(e.deleteSent)
	if e.held == holds && !e.suspect && far.stream && waited < goneCheck {
		return step{again: goneCheck - waited}
	}
	if !far.stream {
		return p.gone(ctx, e)
	}
	_, found, err := p.ask(ctx, e)
	switch {
	case err != nil:
		return step{err: err}
	case found:
		return step{again: goneCheck}
	default:
		return p.gone(ctx, e)
	}
}

// askToDelete sends the delete until the far end has taken it.
func (p *Provider) askToDelete(ctx context.Context, e *entry, far *features) step {
	begun, told := time.Now(), p.inStep.Load()
	p.table.change(e.uid, func(e *entry) {
		if e.deleteSent.IsZero() {
			e.deleteSent = begun
		}
	})
	done := p.metrics.track("delete")
	err := p.cfg.FarEnd.Delete(ctx, p.wirePod(e.pod, e.jobID))
	done()
	if err != nil && !interlink.IsNotFound(err) {
		return p.notDeleted(ctx, e, err)
	}
	p.metrics.deletes.Observe(time.Since(begun).Seconds())
	logging.From(ctx).Debug("pod deletion accepted by the far end", "namespace", e.pod.Namespace, "pod", e.pod.Name, "podUid", e.uid)
	p.table.change(e.uid, func(e *entry) {
		e.deleteAcked, e.deleteSent, e.failures = true, time.Now(), 0
		// A stream that began meanwhile may not know of a pod that is gone already.
		e.suspect = e.suspect || !told
	})
	if !far.stream {
		return p.gone(ctx, e)
	}
	p.work.Add(e.uid)
	return step{}
}

// notDeleted retries. A plugin that answers every delete of a pod that it does
// not know with an error would hold the pod for ever, so it is asked.
func (p *Provider) notDeleted(ctx context.Context, e *entry, err error) step {
	p.table.change(e.uid, func(e *entry) { e.failures++ })
	var answer *interlink.StatusError
	if e.failures+1 < doubtAfter || !errors.As(err, &answer) {
		return step{err: err}
	}
	if _, found, asked := p.ask(ctx, e); asked == nil && !found {
		return p.gone(ctx, e)
	}
	return step{err: err}
}

// gone records that the far end holds nothing more, and finishes.
func (p *Provider) gone(ctx context.Context, e *entry) step {
	p.table.change(e.uid, func(e *entry) { e.held = heldOnce })
	if now, ok := p.table.view(e.uid); ok {
		return p.finish(ctx, &now)
	}
	return step{}
}

// finish removes what is left at the origin: the final status is written, for
// whoever counts results, and the object is deleted at once.
func (p *Provider) finish(ctx context.Context, e *entry) step {
	if !e.present {
		p.table.remove(e.uid)
		p.mirror.Forget(e.uid)
		return step{}
	}
	if e.finished {
		return step{} // a finalizer holds the object; its end will be observed
	}
	if !podstatus.Terminal(e.base()) {
		if err := p.writeStatus(ctx, e.pod, p.lastStatus(e)); err != nil {
			return step{err: err}
		}
	}
	err := p.cfg.Client.CoreV1().Pods(e.pod.Namespace).Delete(ctx, e.pod.Name, metav1.DeleteOptions{
		GracePeriodSeconds: new(int64(0)),
		Preconditions:      metav1.NewUIDPreconditions(string(e.uid)),
	})
	if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
		return step{err: fmt.Errorf("delete pod %s/%s: %w", e.pod.Namespace, e.pod.Name, err)}
	}
	p.table.change(e.uid, func(e *entry) { e.finished = true })
	return step{}
}

// lastStatus is how a deleted pod ended, as far as anyone knows.
func (p *Provider) lastStatus(e *entry) *corev1.PodStatus {
	in := podstatus.Input{Pod: e.pod, Previous: *p.previous(e), Now: metav1.Now()}
	if e.wire != nil {
		in.Wire = *e.wire
	}
	return new(podstatus.Ended(in, e.wire != nil))
}

// abandon deletes at the far end what the origin was told is lost.
func (p *Provider) abandon(ctx context.Context, e *entry) step {
	if e.deleteAcked {
		return step{}
	}
	if err := p.cfg.FarEnd.Delete(ctx, p.wirePod(e.pod, e.jobID)); err != nil && !interlink.IsNotFound(err) {
		return step{err: err}
	}
	p.table.change(e.uid, func(e *entry) { e.deleteAcked, e.deleteSent = true, time.Now() })
	return step{}
}

// verifyOrphan looks up, at the origin itself, a pod that the far end holds and
// the informer does not know. Only a certain answer makes it an orphan.
func (p *Provider) verifyOrphan(ctx context.Context, e *entry) step {
	pod, err := p.lookUp(ctx, e)
	if err != nil {
		return step{err: err}
	}
	if pod != nil {
		p.table.change(e.uid, func(e *entry) {
			if e.orphan {
				e.pod, e.present, e.orphan = pod, true, false
			}
		})
	} else {
		p.metrics.orphans.Inc()
		logging.From(ctx).Info("pod without origin is deleted at the far end", "namespace", e.pod.Namespace, "pod", e.pod.Name, "podUid", e.uid)
		p.table.change(e.uid, func(e *entry) { e.orphan = false })
	}
	p.work.Add(e.uid)
	return step{}
}

// lookUp asks the origin itself for a pod of this node; nil says that it has none. It is a
// list, because a node's identity may not read a pod that is not there: the API server
// answers such a question with 403, whatever the truth is.
func (p *Provider) lookUp(ctx context.Context, e *entry) (*corev1.Pod, error) {
	found, err := p.cfg.Client.CoreV1().Pods(e.pod.Namespace).List(ctx, metav1.ListOptions{
		FieldSelector: "spec.nodeName=" + p.cfg.NodeName + ",metadata.name=" + e.pod.Name,
	})
	if err != nil {
		return nil, fmt.Errorf("look up pod %s/%s: %w", e.pod.Namespace, e.pod.Name, err)
	}
	for i := range found.Items {
		if found.Items[i].UID == e.uid && found.Items[i].Spec.NodeName == p.cfg.NodeName {
			return &found.Items[i], nil
		}
	}
	return nil, nil
}

// ask is one status query for one pod.
func (p *Provider) ask(ctx context.Context, e *entry) (*interlink.PodStatus, bool, error) {
	reports, err := p.cfg.FarEnd.Status(ctx, []*corev1.Pod{p.wirePod(e.pod, e.jobID)})
	if err != nil {
		return nil, false, err
	}
	for i := range reports {
		if types.UID(reports[i].UID) == e.uid && reports[i].Name != "" && !reports[i].Absent() {
			return &reports[i], true, nil
		}
	}
	return nil, false, nil
}

// confirm asks again for a pod that is missing from the stream's snapshot, and
// gives it up when it is missing twice; one that never ran is simply created again.
func (p *Provider) confirm(ctx context.Context, e *entry) step {
	report, found, err := p.ask(ctx, e)
	if err != nil {
		return step{err: err}
	}
	if found {
		p.apply(report, false)
		return step{}
	}
	absences := 0
	p.table.change(e.uid, func(e *entry) {
		e.absences++
		absences = e.absences
	})
	if absences < 2 && podstatus.Started(p.previous(e)) {
		return step{again: time.Second}
	}
	p.lose(ctx, e)
	return step{}
}

// lose gives up a pod that the far end held and does not hold any more.
func (p *Provider) lose(ctx context.Context, e *entry) {
	again := false
	p.table.change(e.uid, func(e *entry) {
		e.suspect, e.absences = false, 0
		if !podstatus.Started(p.previous(e)) && e.wire == nil {
			e.held, e.sent, e.failures, again = holdsNothing, false, 0, true
			return
		}
		e.held, e.lost = heldOnce, true
	})
	if again {
		p.work.Add(e.uid)
		return
	}
	logging.From(ctx).Warn("pod is lost", "namespace", e.pod.Namespace, "pod", e.pod.Name, "podUid", e.uid)
	const message = "the far end no longer holds this pod"
	p.tell(e, EventRemotePodLost, message)
	p.conclude(e.uid, podstatus.Outcome{Reason: EventRemotePodLost, Message: message, ExitCode: 137})
}
