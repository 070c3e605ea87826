// SPDX-License-Identifier: Apache-2.0

package pool

import (
	"context"
	"fmt"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	osnodev1 "github.com/cloudveneto/caas/osnode/api/v1"
	"github.com/cloudveneto/caas/osnode/cloud"
)

// backOff gives up nodes that OpenStack does not give a machine for, where the built-in
// autoscaler decides: the pods may do with another flavor. The flavor is not tried again
// for a while. Without another flavor, and at the pool's least size, the node stays: its
// own controller tries again.
func (s *pass) backOff(ctx context.Context) error {
	s.recover()
	if driver(s.pool) != osnodev1.DriverBuiltin {
		return nil
	}
	least, _ := limits(s.pool)
	for _, m := range s.members {
		reason, message := m.blocked()
		if reason == "" {
			continue
		}
		s.hold(m.osn.Spec.Flavor, message)
		_, other := usableFlavor(s.pool, s.status.Backoff, metav1.NewTime(s.now))
		if len(s.members) <= least && !other {
			continue
		}
		from := len(s.members)
		s.status.LastScale = s.scaled(from, max(from-1, least), 0, reason)
		if err := s.setReplicas(ctx, s.pool, max(from-1, least)); err != nil {
			return err
		}
		s.changed = true
		return s.remove(ctx, s.pool, m.osn, fmt.Sprintf("there is no machine of flavor %s now: %s", m.osn.Spec.Flavor, message))
	}
	return nil
}

// hold backs a flavor off, for twice as long as the last time in a row.
func (s *pass) hold(flavor, message string) {
	at := slices.IndexFunc(s.status.Backoff, func(b osnodev1.FlavorBackoff) bool { return b.Flavor == flavor })
	if at < 0 {
		s.status.Backoff = append(s.status.Backoff, osnodev1.FlavorBackoff{Flavor: flavor})
		at = len(s.status.Backoff) - 1
	}
	entry := &s.status.Backoff[at]
	if s.now.Before(entry.Until.Time) {
		return
	}
	entry.Failures++
	wait := s.Timers.BackoffMost
	if steps := entry.Failures - 1; steps < 10 {
		wait = min(wait, s.Timers.BackoffFirst<<steps)
	}
	entry.Until, entry.Message = metav1.NewTime(s.now.Add(wait)), message
	s.warn(eventBackoff, "Scale", "Flavor %s is not tried for %s: %s", flavor, wait, message)
}

// recover forgets flavors that can be had again, or were not tried for long.
func (s *pass) recover() {
	s.status.Backoff = slices.DeleteFunc(s.status.Backoff, func(b osnodev1.FlavorBackoff) bool {
		if left := b.Until.Sub(s.now); left > 0 {
			s.soon(left)
		}
		if s.now.Sub(b.Until.Time) > s.Timers.BackoffMost || !slices.Contains(s.pool.Spec.Flavors, b.Flavor) {
			return true
		}
		return slices.ContainsFunc(s.members, func(m *member) bool {
			return m.osn.Spec.Flavor == b.Flavor && m.osn.CreationTimestamp.After(b.Until.Time) &&
				m.osn.Status.Server != nil && cloud.Status(m.osn.Status.Server.Status).Running()
		})
	})
}
