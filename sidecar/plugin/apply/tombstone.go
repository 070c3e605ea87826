// SPDX-License-Identifier: Apache-2.0

package apply

import (
	"time"

	"github.com/cloudveneto/caas/sidecar/plugin/table"
)

// tombstones remember deleted pods for a while: a create that arrives after its
// delete must not bring the pod back. The caller locks.
type tombstones struct {
	life  time.Duration
	limit int
	died  map[table.Key]time.Time
	// order is oldest first; it holds each key of died once.
	order []table.Key
}

func newTombstones(life time.Duration, limit int) *tombstones {
	return &tombstones{life: life, limit: limit, died: map[table.Key]time.Time{}}
}

func (t *tombstones) add(key table.Key, now time.Time) {
	t.expire(now)
	if _, known := t.died[key]; known {
		return
	}
	t.died[key] = now
	t.order = append(t.order, key)
}

func (t *tombstones) has(key table.Key, now time.Time) bool {
	died, known := t.died[key]
	return known && now.Sub(died) < t.life
}

func (t *tombstones) expire(now time.Time) {
	drop := 0
	for drop < len(t.order) && (len(t.order)-drop >= t.limit || now.Sub(t.died[t.order[drop]]) >= t.life) {
		delete(t.died, t.order[drop])
		drop++
	}
	if drop == 0 {
		return
	}
	t.order = append(make([]table.Key, 0, len(t.order)-drop+1), t.order[drop:]...)
}
