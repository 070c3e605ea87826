// SPDX-License-Identifier: Apache-2.0

package table

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/cloudveneto/caas/sidecar/plugin/demand"
)

// Shortage says that a share leaves too little of one resource for a pod.
type Shortage struct {
	Resource corev1.ResourceName
	// Asked is what the pod takes, Used what the origin's other pods take.
	Asked, Used, Share resource.Quantity
}

// reservation is what a pod takes that the table does not hold yet.
type reservation struct {
	asked corev1.ResourceList
	// until is when it ends by itself; zero is never.
	until time.Time
}

// Reserve counts what a pod takes before there is one, if it fits into what share leaves
// to its origin; else it changes nothing and tells what is short. Looking and counting
// are one step, so that creates at the same time cannot both take the last room. The
// reservation ends when the table learns of the pod, or by Release or Doubt. A pod that
// the table holds already is counted already.
func (t *Table) Reserve(key Key, asked, share corev1.ResourceList, now time.Time) []Shortage {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.pods[key].pod != nil {
		return nil
	}
	t.expire(now)
	t.unreserve(key)
	var short []Shortage
	for name, limit := range share {
		wanted, used := asked[name], t.used[key.Origin][name]
		sum := used.DeepCopy()
		sum.Add(wanted)
		if !wanted.IsZero() && sum.Cmp(limit) > 0 {
			short = append(short, Shortage{Resource: name, Asked: wanted, Used: used.DeepCopy(), Share: limit})
		}
	}
	if len(short) == 0 {
		t.reserved[key] = reservation{asked: asked}
		t.take(key.Origin, asked)
	}
	return short
}

// Release ends a reservation: there will be no pod.
func (t *Table) Release(key Key) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.unreserve(key)
}

// Doubt lets a reservation stand until a time: nobody knows whether there is a pod, and
// the watch will tell if there is.
func (t *Table) Doubt(key Key, until time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if kept, found := t.reserved[key]; found {
		kept.until = until
		t.reserved[key] = kept
	}
}

// Used is what each origin's pods take, with those that are being created and without
// those that have ended.
func (t *Table) Used() map[string]corev1.ResourceList {
	t.mu.RLock()
	defer t.mu.RUnlock()
	used := make(map[string]corev1.ResourceList, len(t.used))
	for origin, list := range t.used {
		used[origin] = list.DeepCopy()
	}
	return used
}

// recount counts one pod in place of another; either may be nil. The caller holds the lock.
func (t *Table) recount(key Key, before, after *corev1.Pod) {
	t.unreserve(key)
	if before != nil && after != nil && ended(before) == ended(after) && demand.Same(before, after) {
		return
	}
	if before != nil && !ended(before) {
		t.give(key.Origin, demand.Of(before))
	}
	if after != nil && !ended(after) {
		t.take(key.Origin, demand.Of(after))
	}
}

func ended(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
}

func (t *Table) expire(now time.Time) {
	for key, kept := range t.reserved {
		if !kept.until.IsZero() && !now.Before(kept.until) {
			t.unreserve(key)
		}
	}
}

func (t *Table) unreserve(key Key) {
	if kept, found := t.reserved[key]; found {
		delete(t.reserved, key)
		t.give(key.Origin, kept.asked)
	}
}

func (t *Table) take(origin string, list corev1.ResourceList) {
	if t.used[origin] == nil {
		t.used[origin] = corev1.ResourceList{}
	}
	demand.Add(t.used[origin], list)
}

// give is the reverse of take.
func (t *Table) give(origin string, list corev1.ResourceList) {
	used := t.used[origin]
	for name, quantity := range list {
		left := used[name]
		left.Sub(quantity)
		used[name] = left
		if left.IsZero() {
			delete(used, name)
		}
	}
	if len(used) == 0 {
		delete(t.used, origin)
	}
}
