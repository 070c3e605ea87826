// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"container/list"
	"sync"
	"time"
)

// key stands for a token in memory.
type key [32]byte

// cache remembers callers for a time. When it is full, the one that was asked for least recently goes.
type cache struct {
	limit int
	ttl   time.Duration

	mu      sync.Mutex
	entries map[key]*list.Element
	order   *list.List // front is most recent
}

type entry struct {
	key     key
	caller  *caller
	expires time.Time
}

func newCache(limit int, ttl time.Duration) *cache {
	return &cache{limit: limit, ttl: ttl, entries: map[key]*list.Element{}, order: list.New()}
}

// find returns nil for whom it does not know.
func (c *cache) find(at key) *caller {
	c.mu.Lock()
	defer c.mu.Unlock()
	element, found := c.entries[at]
	if !found {
		return nil
	}
	known, _ := element.Value.(*entry)
	if !time.Now().Before(known.expires) {
		c.remove(element)
		return nil
	}
	c.order.MoveToFront(element)
	return known.caller
}

// keep remembers a caller for at most a time, and no longer than any other.
func (c *cache) keep(at key, who *caller, most time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if element, found := c.entries[at]; found {
		c.remove(element)
	}
	c.entries[at] = c.order.PushFront(&entry{key: at, caller: who, expires: time.Now().Add(min(c.ttl, most))})
	if c.order.Len() > c.limit {
		c.remove(c.order.Back())
	}
}

// remove is called with the lock held.
func (c *cache) remove(element *list.Element) {
	known, _ := element.Value.(*entry)
	delete(c.entries, known.key)
	c.order.Remove(element)
}
