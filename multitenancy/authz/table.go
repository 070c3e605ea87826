// SPDX-License-Identifier: Apache-2.0

package authz

import (
	"fmt"
	"hash/maphash"
	"sync"
	"sync/atomic"
	"time"
	"unique"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/cache"

	"github.com/cloudveneto/caas/multitenancy/tenant"
)

const shardCount = 16

// table holds what is known of the objects of one kind. A reflector fills it. Reading one takes a lock of a sixteenth
// of it for the time of a map access.
type table struct {
	resource   Resource
	keepLabels bool
	seed       maphash.Seed
	shards     [shardCount]shard

	synced atomic.Bool
	began  time.Time    // of its monotonic clock: somebody may set the other one
	heard  atomic.Int64 // when the API server was last heard of, in nanoseconds since then
	events atomic.Uint64
}

type shard struct {
	mu      sync.RWMutex
	records map[place]record
}

// place is an object's namespace, shared by all that are in it, and name.
type place struct {
	namespace unique.Handle[string]
	name      string
}

// record is an Object in less memory: owners are few and objects are many.
type record struct {
	uid    string
	owner  unique.Handle[tenant.Owner]
	labels map[string]string
}

func newTable(resource Resource, keepLabels bool) *table {
	t := &table{resource: resource, keepLabels: keepLabels, seed: maphash.MakeSeed(), began: time.Now()}
	for i := range t.shards {
		t.shards[i].records = map[place]record{}
	}
	return t
}

func (t *table) shard(p place) *shard {
	return &t.shards[maphash.Comparable(t.seed, p)%shardCount]
}

func (t *table) object(namespace, name string) (Object, bool) {
	p := place{unique.Make(namespace), name}
	s := t.shard(p)
	s.mu.RLock()
	r, ok := s.records[p]
	s.mu.RUnlock()
	if !ok {
		return Object{}, false
	}
	return Object{UID: r.uid, Owner: r.owner.Value(), Labels: r.labels}, true
}

// fresh reports whether the table is complete and the API server was heard of within limit.
func (t *table) fresh(limit time.Duration) bool { return t.synced.Load() && t.age() < limit }

// age is how long ago the API server was heard of.
func (t *table) age() time.Duration {
	return time.Since(t.began) - time.Duration(t.heard.Load())
}

func (t *table) size() int {
	total := 0
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.RLock()
		total += len(s.records)
		s.mu.RUnlock()
	}
	return total
}

func (t *table) touch() { t.heard.Store(int64(time.Since(t.began))) }

// entry is what the table keeps of an object.
type entry struct {
	place  place
	record record
}

func (t *table) entry(obj any) (entry, error) {
	if made, ok := obj.(entry); ok {
		return made, nil
	}
	object, ok := obj.(*metav1.PartialObjectMetadata)
	if !ok {
		return entry{}, fmt.Errorf("index of %s: unexpected %T", t.resource, obj)
	}
	r := record{uid: string(object.UID), owner: unique.Make(tenant.OwnerOf(object.Labels))}
	if t.keepLabels {
		r.labels = object.Labels
	}
	return entry{place{unique.Make(object.Namespace), object.Name}, r}, nil
}

// Add implements cache.ReflectorStore.
func (t *table) Add(obj any) error {
	e, err := t.entry(obj)
	if err != nil {
		return err
	}
	s := t.shard(e.place)
	s.mu.Lock()
	s.records[e.place] = e.record
	s.mu.Unlock()
	t.events.Add(1)
	t.touch()
	return nil
}

// Update implements cache.ReflectorStore.
func (t *table) Update(obj any) error { return t.Add(obj) }

// Delete implements cache.ReflectorStore.
func (t *table) Delete(obj any) error {
	e, err := t.entry(obj)
	if err != nil {
		return err
	}
	s := t.shard(e.place)
	s.mu.Lock()
	delete(s.records, e.place)
	s.mu.Unlock()
	t.events.Add(1)
	t.touch()
	return nil
}

// Replace implements cache.ReflectorStore. Readers see each shard either as it was or as it is.
func (t *table) Replace(objects []any, _ string) error {
	var next [shardCount]map[place]record
	for i := range next {
		next[i] = make(map[place]record, len(objects)/shardCount)
	}
	for _, obj := range objects {
		e, err := t.entry(obj)
		if err != nil {
			return err
		}
		next[maphash.Comparable(t.seed, e.place)%shardCount][e.place] = e.record
	}
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.Lock()
		s.records = next[i]
		s.mu.Unlock()
	}
	t.touch()
	t.synced.Store(true)
	return nil
}

// Bookmark implements cache.ReflectorBookmarkStore: nothing has changed, and the watch is alive.
func (t *table) Bookmark(string) error {
	t.touch()
	return nil
}

// Transformer implements cache.TransformingStore: while a reflector collects the first list, it keeps no more of an object
// than the table will. The reflector itself looks at objects before they are transformed only.
func (t *table) Transformer() cache.TransformFunc {
	return func(obj any) (any, error) { return t.entry(obj) }
}

// Resync implements cache.ReflectorStore.
func (t *table) Resync() error { return nil }
