// SPDX-License-Identifier: Apache-2.0

package pool

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	osnodev1 "github.com/cloudveneto/caas/osnode/api/v1"
)

// idle removes nodes that have had no pods for long enough, where the built-in autoscaler
// decides. No pod is ever evicted by it.
func (s *pass) idle(ctx context.Context) error {
	if driver(s.pool) != osnodev1.DriverBuiltin {
		return nil
	}
	ttl, spare := s.idleTTL(), s.spare()
	for _, candidate := range s.idleLongest() {
		left := candidate.since.Add(ttl).Sub(s.now)
		if left > 0 || spare < 1 {
			s.soon(cmp.Or(max(left, 0), s.Timers.Rescan))
			if err := s.reopen(ctx, candidate.member); err != nil {
				return err
			}
			continue
		}
		spare--
		empty, err := s.retire(ctx, candidate.member, false)
		if err != nil {
			return err
		}
		if empty {
			return s.letGo(ctx, candidate.member, ttl)
		}
	}
	return nil
}

// idleTTL is how long a node of the pool may be without pods.
func (s *pass) idleTTL() time.Duration {
	if set := s.pool.Spec.Autoscaling.IdleTTL; set != nil {
		return set.Duration
	}
	return s.Timers.IdleTTL
}

// spare is how many nodes may go: none while pods want the pool's, or while it is not to be
// disrupted.
func (s *pass) spare() int {
	wanted, _ := s.memory.about(keyOf(s.pool))
	if wanted || s.pool.Annotations[osnodev1.AnnotationDoNotDisrupt] == "true" {
		return 0
	}
	least, _ := limits(s.pool)
	return len(s.members) - least
}

// letGo makes the pool smaller by a node that was idle for the given time.
func (s *pass) letGo(ctx context.Context, m *member, ttl time.Duration) error {
	from := len(s.members)
	s.status.LastScale = s.scaled(from, from-1, 0, "NodeIdle")
	if err := s.setReplicas(ctx, s.pool, from-1); err != nil {
		return err
	}
	s.changed = true
	return s.remove(ctx, s.pool, m.osn, fmt.Sprintf("it had no pods for %s", ttl))
}

type idleMember struct {
	*member
	since time.Time
}

// idleLongest are the nodes without pods, those first that became so last. It also starts and
// stops their clocks.
func (s *pass) idleLongest() []idleMember {
	var idle []idleMember
	for _, m := range s.members {
		empty := m.pods == 0 && !comes(m.osn, s.Timers.Join, s.now) && !m.outdated
		since := s.memory.idleSince(m.osn.UID, empty, s.now)
		if empty && !m.protected() {
			idle = append(idle, idleMember{m, since})
		}
	}
	slices.SortStableFunc(idle, func(a, b idleMember) int {
		if c := b.since.Compare(a.since); c != 0 {
			return c
		}
		return compareAge(b.osn, a.osn)
	})
	return idle
}

// retire closes a node to pods, and some time later tells whether it may go: if it is empty,
// or anyway. Until then it says no. A pod that was being put there meanwhile opens it again.
func (s *pass) retire(ctx context.Context, m *member, anyway bool) (ready bool, err error) {
	if m.node == nil {
		return true, nil
	}
	since := m.retiring()
	if since.IsZero() {
		s.soon(s.Timers.Retire)
		return false, s.mark(ctx, m, func(node *corev1.Node) {
			if node.Annotations == nil {
				node.Annotations = map[string]string{}
			}
			node.Annotations[annotationRetiring] = s.now.UTC().Format(time.RFC3339Nano)
			node.Spec.Unschedulable = true
		})
	}
	if left := since.Add(s.Timers.Retire).Sub(s.now); left > 0 {
		s.soon(left)
		return false, nil
	}
	if anyway {
		return true, nil
	}
	var pods corev1.PodList
	if err := s.Reader.List(ctx, &pods, client.MatchingFields{"spec.nodeName": m.node.Name}); err != nil {
		return false, fmt.Errorf("list pods on node %q: %w", m.node.Name, err)
	}
	if countPods(pods.Items) == 0 {
		return true, nil
	}
	s.memory.idleSince(m.osn.UID, false, s.now)
	return false, s.reopen(ctx, m)
}

// reopen lets pods in again on a node that the pool itself has closed.
func (s *pass) reopen(ctx context.Context, m *member) error {
	if m.node == nil || m.node.Annotations[annotationRetiring] == "" {
		return nil
	}
	return s.mark(ctx, m, func(node *corev1.Node) {
		delete(node.Annotations, annotationRetiring)
		node.Spec.Unschedulable = false
	})
}

func (s *pass) mark(ctx context.Context, m *member, change func(*corev1.Node)) error {
	before := m.node.DeepCopy()
	change(m.node)
	if err := s.Client.Patch(ctx, m.node, client.MergeFrom(before)); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("close or open node %q: %w", m.node.Name, err)
	}
	return nil
}
