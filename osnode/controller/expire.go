// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"time"

	"github.com/cloudveneto/caas/internal/logging"
	osnodev1 "github.com/cloudveneto/caas/osnode/api/v1"
)

const (
	// idleLooks is how often a node is looked at within the time after which it is idle.
	idleLooks   = 10
	idleLookMin = time.Second
)

// expire deletes an object whose time is over, or that had nothing to do for as long as
// its owner said. People can keep it by an annotation.
func (r *Reconciler) expire(ctx context.Context, p *pass) (flow, error) {
	if p.osn.Annotations[osnodev1.AnnotationDoNotDisrupt] == annotated {
		r.remember(p.osn.UID, func(m *memory) { m.idleSince = time.Time{} })
		return goOn, nil
	}
	if ttl := p.osn.Spec.TTL; ttl != nil {
		left := p.osn.CreationTimestamp.Add(ttl.Duration).Sub(p.now)
		if left <= 0 {
			return stop, r.end(ctx, p, eventExpired, "The node has lived for "+ttl.Duration.String()+", as long as it may")
		}
		p.in(left)
	}
	return r.idle(ctx, p)
}

// idle keeps in mind since when a node has been empty. A new process begins again: a
// node lives rather longer than too short.
func (r *Reconciler) idle(ctx context.Context, p *pass) (flow, error) {
	ttl := p.osn.Spec.IdleTTL
	if ttl == nil || !isTrue(p.osn, osnodev1.ConditionNodeReady) {
		return goOn, nil
	}
	pods, err := r.podsOn(ctx, p.osn.Status.NodeID, true)
	if err != nil {
		return stop, err
	}
	known := r.remember(p.osn.UID, func(m *memory) {
		switch {
		case len(pods) > 0:
			m.idleSince = time.Time{}
		case m.idleSince.IsZero():
			m.idleSince = p.now
		}
	})
	if !known.idleSince.IsZero() && p.now.Sub(known.idleSince) >= ttl.Duration {
		return stop, r.end(ctx, p, eventIdle, "The node had no pods for "+ttl.Duration.String())
	}
	p.in(max(ttl.Duration/idleLooks, idleLookMin))
	return goOn, nil
}

func (r *Reconciler) end(ctx context.Context, p *pass, reason, message string) error {
	p.tell(reason, "DeleteNode", "%s", message)
	logging.From(ctx).InfoContext(ctx, "node expired", "reason", reason)
	return deleteExactly(ctx, r.Client, p.base)
}
