// SPDX-License-Identifier: Apache-2.0

package provider

import (
	"context"
	"math/rand/v2"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"

	"github.com/cloudveneto/caas/internal/logging"
	"github.com/cloudveneto/caas/provider/podstatus"
)

const (
	firstRetry = 100 * time.Millisecond
	lastRetry  = 30 * time.Second
)

// backoff grows per pod from firstRetry to lastRetry, with jitter, so that pods
// that failed together do not come back together.
type backoff struct {
	workqueue.TypedRateLimiter[types.UID]
}

func newBackoff() backoff {
	return backoff{workqueue.NewTypedItemExponentialFailureRateLimiter[types.UID](firstRetry, lastRetry)}
}

// When returns the next pause of one pod.
func (b backoff) When(uid types.UID) time.Duration {
	pause := b.TypedRateLimiter.When(uid)
	return pause/2 + rand.N(pause/2+1) //nolint:gosec // jitter is no secret
}

// step is what became of one step of a pod.
type step struct {
	// again is when to look again; zero waits for the next event.
	again time.Duration
	err   error
}

func (p *Provider) workLoop(ctx context.Context) {
	for {
		uid, stopped := p.work.Get()
		if stopped {
			return
		}
		p.workOn(ctx, uid)
	}
}

func (p *Provider) workOn(ctx context.Context, uid types.UID) {
	defer p.work.Done(uid)
	attempt, done := p.attempts.begin(ctx)
	result := p.reconcile(attempt, uid)
	done()
	switch {
	case ctx.Err() != nil:
	case result.err != nil:
		logging.From(ctx).Debug("pod needs another try", "podUid", uid, "error", result.err)
		p.metrics.retries.Inc()
		p.work.AddRateLimited(uid)
	case result.again > 0:
		p.work.Forget(uid)
		p.work.AddAfter(uid, result.again)
	default:
		p.work.Forget(uid)
	}
}

// reconcile brings one pod one step further.
func (p *Provider) reconcile(ctx context.Context, uid types.UID) step {
	e, ok := p.table.view(uid)
	if !ok {
		return step{}
	}
	far := p.features.Load()
	switch {
	case e.orphan:
		return p.verifyOrphan(ctx, &e)
	case e.unwanted():
		p.unfollow(uid)
		return p.remove(ctx, &e, far)
	case e.lost && e.held == holds:
		return p.abandon(ctx, &e)
	case podstatus.Terminal(&e.pod.Status) || e.final != nil || e.held == heldOnce:
		p.unfollow(uid)
		return step{}
	case far == nil:
		p.setWait(uid, "ContainerCreating", "waiting for the far end, which has not answered yet")
		return step{}
	case e.held == holds && e.suspect:
		return p.confirm(ctx, &e)
	case e.held == holds:
		return p.attend(ctx, &e, far)
	case e.held == holdsMaybe:
		return p.settle(ctx, &e, far)
	default:
		return p.create(ctx, &e, far)
	}
}

// setWait records why a pod is not created yet and has it reported. A pod that
// ran before, under an earlier process, keeps the status that it has.
func (p *Provider) setWait(uid types.UID, reason, message string) {
	changed := false
	p.table.change(uid, func(e *entry) {
		next := wait{reason: reason, message: message}
		if (e.wait == nil || *e.wait != next) && !podstatus.Started(p.previous(e)) {
			e.wait, changed = &next, true
		}
	})
	if changed {
		p.dirty.Add(uid)
	}
}

// conclude ends a pod with an outcome that the far end did not report.
func (p *Provider) conclude(uid types.UID, outcome podstatus.Outcome) {
	p.table.change(uid, func(e *entry) { e.final = &outcome })
	p.dirty.Add(uid)
}

// attend does what is left to be done for a pod that the far end holds.
func (p *Provider) attend(ctx context.Context, e *entry, far *features) step {
	for _, part := range []func(context.Context, *entry, *features) step{p.mark, p.debug} {
		if done := part(ctx, e, far); done.err != nil {
			return done
		}
	}
	return p.keepInStep(ctx, e, far)
}
