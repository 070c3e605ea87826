// SPDX-License-Identifier: Apache-2.0

package pool

import (
	"context"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// replaceable is the node to be replaced next: one at a time, and only one without pods
// unless its time is over. One that is being replaced stays the one.
func (s *pass) replaceable() *member {
	var candidates []*member
	for _, m := range s.members {
		if m.outdated && !m.protected() && (m.pods == 0 || m.expired) {
			candidates = append(candidates, m)
		}
	}
	if len(candidates) == 0 {
		return nil
	}
	if at := slices.IndexFunc(candidates, func(m *member) bool { return !m.retiring().IsZero() }); at >= 0 {
		return candidates[at]
	}
	return candidates[0] // the oldest
}

// surge is how many nodes more than its size the pool has for a replacement: one, unless
// its limit does not allow that.
func (s *pass) surge() int {
	_, most := limits(s.pool)
	if s.replaceable() == nil || desired(s.pool) >= most || desired(s.pool) == 0 {
		return 0
	}
	return 1
}

// replace closes the node to be replaced, waits for the one that comes for it, and lets it
// go. Where there is no room for one more, it goes first.
func (s *pass) replace(ctx context.Context) error {
	old := s.replaceable()
	for _, m := range s.members {
		if m != old && !m.retiring().IsZero() && m.pods > 0 {
			if err := s.reopen(ctx, m); err != nil {
				return err
			}
		}
	}
	if old == nil {
		s.nextExpiry()
		return nil
	}
	if old.node != nil && old.retiring().IsZero() {
		s.event(corev1.EventTypeNormal, eventReplaced, "Replace", "Replacing node %s: %s", old.osn.Name, old.staleness())
	}
	closed, err := s.retire(ctx, old, old.expired)
	if err != nil || !closed || !s.replaced() {
		return err
	}
	s.changed = true
	return s.remove(ctx, s.pool, old.osn, old.staleness())
}

// replaced tells that the new node is there, or cannot come before the old one goes.
func (s *pass) replaced() bool {
	if s.surge() == 0 {
		return true
	}
	more := len(s.members) > desired(s.pool)
	for _, m := range s.members {
		if m.outdated || m.ready() {
			continue
		}
		if reason, _ := m.blocked(); reason != "" {
			return more
		}
		return false
	}
	return more
}

func (m *member) staleness() string {
	if m.expired {
		return "its time to live is over"
	}
	return "the pool's template has changed"
}

// nextExpiry has the pool looked at when the next node's time is over.
func (s *pass) nextExpiry() {
	if s.pool.Spec.TTL == nil || s.pool.Spec.TTL.Duration <= 0 {
		return
	}
	for _, m := range s.members {
		if left := m.osn.CreationTimestamp.Add(s.pool.Spec.TTL.Duration).Sub(s.now); left > 0 {
			s.soon(left + time.Second)
		}
	}
}
