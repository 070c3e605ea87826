// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"slices"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

const (
	// turnDelay is when an object looks again whether it is its turn, should nobody call it.
	turnDelay = time.Second
	// turnMissed is how long those who come after wait for one who does not look.
	turnMissed = 5 * turnDelay
)

// turns lets so many objects at a time be on their way to a machine, in the order in which they came.
type turns struct {
	// called tells a waiting object that it is its turn. It MUST NOT block, and may get lost.
	called func(reconcile.Request)

	mu      sync.Mutex
	free    int
	waiting []*waiter
}

// waiter is an object that has come and had no turn yet.
type waiter struct {
	uid     types.UID
	request reconcile.Request
	// since is when it came, seen when it last looked.
	since, seen time.Time
}

// take gives an object its turn unless others have come before it; leave MUST be called afterwards. The time is how long
// it has waited.
func (t *turns) take(uid types.UID, request reconcile.Request, now time.Time) (time.Duration, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	place, before := -1, 0
	for i, w := range t.waiting {
		if w.uid == uid {
			place = i
			break
		}
		if now.Sub(w.seen) < turnMissed {
			before++
		}
	}
	if place < 0 {
		place = len(t.waiting)
		t.waiting = append(t.waiting, &waiter{uid: uid, request: request, since: now})
	}
	own := t.waiting[place]
	own.seen = now
	if before >= t.free {
		return 0, false
	}
	t.free--
	t.waiting = slices.Delete(t.waiting, place, place+1)
	return now.Sub(own.since), true
}

// leave gives the turn to those who wait.
func (t *turns) leave() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.free++
	t.call()
}

// drop forgets an object that wants no turn any more.
func (t *turns) drop(uid types.UID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	before := len(t.waiting)
	t.waiting = slices.DeleteFunc(t.waiting, func(w *waiter) bool { return w.uid == uid })
	if len(t.waiting) < before {
		t.call()
	}
}

// call tells those whose turn it is.
func (t *turns) call() {
	for _, w := range t.waiting[:min(t.free, len(t.waiting))] {
		t.called(w.request)
	}
}
