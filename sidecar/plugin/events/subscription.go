// SPDX-License-Identifier: Apache-2.0

package events

import (
	"cmp"
	"maps"
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"

	"github.com/cloudveneto/caas/internal/interlink"
	"github.com/cloudveneto/caas/sidecar/plugin/table"
)

// Subscription collects the events of selected pods until they are taken.
type Subscription struct {
	selection table.Selection
	// wake has room for one signal: there is something to take.
	wake chan struct{}

	mu      sync.Mutex
	pending map[string]interlink.PodEvent
}

// Subscribe starts a subscription, whose first events are those that are stored.
// The caller MUST Unsubscribe.
func (l *Log) Subscribe(selection table.Selection) *Subscription {
	s := &Subscription{selection: selection, wake: make(chan struct{}, 1), pending: map[string]interlink.PodEvent{}}
	l.mu.Lock()
	defer l.mu.Unlock()
	for uid, a := range l.pods {
		if pod := l.config.Table.Created(uid); pod != nil && selection.Matches(pod) {
			for _, event := range a.events {
				s.add(pod, event)
			}
		}
	}
	l.subscriptions[s] = struct{}{}
	return s
}

// Unsubscribe ends a subscription.
func (l *Log) Unsubscribe(s *Subscription) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.subscriptions, s)
}

// announce tells subscriptions of an event; the caller holds the lock.
func (l *Log) announce(pod *corev1.Pod, event *interlink.PodEvent) {
	for s := range l.subscriptions {
		if s.selection.Matches(pod) {
			s.add(pod, event)
		}
	}
}

func (s *Subscription) add(pod *corev1.Pod, event *interlink.PodEvent) {
	told := *event
	told.PodUID = table.KeyOf(pod).UID
	s.mu.Lock()
	if _, known := s.pending[event.ID]; known || len(s.pending) < maxTotal {
		s.pending[event.ID] = told
	}
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Wake signals that there may be events to take; it never does for a nil Subscription.
func (s *Subscription) Wake() <-chan struct{} {
	if s == nil {
		return nil
	}
	return s.wake
}

// Take returns the events since the last call, the oldest first.
func (s *Subscription) Take() []interlink.PodEvent {
	s.mu.Lock()
	taken := s.pending
	s.pending = map[string]interlink.PodEvent{}
	s.mu.Unlock()
	return slices.SortedFunc(maps.Values(taken), func(a, b interlink.PodEvent) int {
		return cmp.Or(a.Last.Compare(b.Last.Time), cmp.Compare(a.ID, b.ID))
	})
}
