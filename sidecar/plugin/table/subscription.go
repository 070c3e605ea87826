// SPDX-License-Identifier: Apache-2.0

package table

import (
	"sync"

	corev1 "k8s.io/api/core/v1"
)

// Change is a new state of one pod.
type Change struct {
	Pod *corev1.Pod
	// Gone is true when the target cluster no longer holds the pod.
	Gone bool
}

// Subscription collects the changes of selected pods until they are taken.
type Subscription struct {
	selection Selection
	// wake has room for one signal: there is something to take.
	wake chan struct{}

	mu      sync.Mutex
	pending map[Key]pending
}

// pending is what a reader has not seen of one key. A pod that went and one that
// came after it under the same key are both told.
type pending struct {
	gone *corev1.Pod
	live *corev1.Pod
}

// Subscribe starts a subscription, whose first changes are all present pods. The
// caller MUST Unsubscribe.
func (t *Table) Subscribe(selection Selection) *Subscription {
	s := &Subscription{selection: selection, wake: make(chan struct{}, 1), pending: map[Key]pending{}}
	t.mu.Lock()
	defer t.mu.Unlock()
	for key, entry := range t.pods {
		if selection.Matches(entry.pod) {
			s.pending[key] = pending{live: entry.pod}
		}
	}
	t.subscriptions[s] = struct{}{}
	return s
}

// Unsubscribe ends a subscription.
func (t *Table) Unsubscribe(s *Subscription) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.subscriptions, s)
}

// announce tells subscriptions of a change; the caller holds the table's lock, so
// that changes reach every subscription in the order in which they happened.
func (t *Table) announce(key Key, pod *corev1.Pod, gone bool) {
	for s := range t.subscriptions {
		if s.selection.Matches(pod) {
			s.add(key, pod, gone)
		}
	}
}

func (s *Subscription) add(key Key, pod *corev1.Pod, gone bool) {
	s.mu.Lock()
	entry := s.pending[key]
	if gone {
		entry = pending{gone: pod}
	} else {
		entry.live = pod
	}
	s.pending[key] = entry
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Wake signals that there may be changes to take.
func (s *Subscription) Wake() <-chan struct{} { return s.wake }

// Take returns the changes since the last call, each pod's in order.
func (s *Subscription) Take() []Change {
	s.mu.Lock()
	taken := s.pending
	s.pending = map[Key]pending{}
	s.mu.Unlock()
	changes := make([]Change, 0, len(taken))
	for _, entry := range taken {
		if entry.gone != nil {
			changes = append(changes, Change{Pod: entry.gone, Gone: true})
		}
		if entry.live != nil {
			changes = append(changes, Change{Pod: entry.live})
		}
	}
	return changes
}
