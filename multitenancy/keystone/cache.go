// SPDX-License-Identifier: Apache-2.0

package keystone

import (
	"container/list"
	"sync"
	"time"
)

// key stands for a token in memory.
type key [32]byte

// cache remembers values for a time. When it is full, the one that was asked for least
// recently goes.
type cache[K comparable, V any] struct {
	limit int
	now   func() time.Time

	mu      sync.Mutex
	entries map[K]*list.Element
	order   *list.List // front is most recent
}

type entry[K comparable, V any] struct {
	key     K
	value   V
	expires time.Time
}

func newCache[K comparable, V any](limit int, now func() time.Time) *cache[K, V] {
	return &cache[K, V]{limit: limit, now: now, entries: map[K]*list.Element{}, order: list.New()}
}

func (c *cache[K, V]) find(at K) (value V, found bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	element, found := c.entries[at]
	if !found {
		return value, false
	}
	known, _ := element.Value.(*entry[K, V])
	if !c.now().Before(known.expires) {
		c.remove(element)
		return value, false
	}
	c.order.MoveToFront(element)
	return known.value, true
}

// keep remembers a value for a time, and nothing if that is none.
func (c *cache[K, V]) keep(at K, value V, expires time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if element, found := c.entries[at]; found {
		c.remove(element)
	}
	if !c.now().Before(expires) {
		return
	}
	c.entries[at] = c.order.PushFront(&entry[K, V]{key: at, value: value, expires: expires})
	if c.order.Len() > c.limit {
		c.remove(c.order.Back())
	}
}

func (c *cache[K, V]) purge() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.entries)
	c.order.Init()
}

func (c *cache[K, V]) size() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.order.Len()
}

// remove is called with the lock held.
func (c *cache[K, V]) remove(element *list.Element) {
	known, _ := element.Value.(*entry[K, V])
	delete(c.entries, known.key)
	c.order.Remove(element)
}
