// SPDX-License-Identifier: Apache-2.0

package api

import (
	"container/list"
	"encoding/json"
	"sync"
	"time"
)

// CacheLimits bound the status cache; zero values mean the defaults.
type CacheLimits struct {
	// Pods and Bytes are the most that is kept; defaults 20000 and 64 MiB. What
	// was not used for longest goes first.
	Pods  int
	Bytes int64
	// Age is how long a status is kept that nobody asked for; default 24 h.
	Age time.Duration
}

// cache holds the last status of each pod, per caller: a pod that the plugin no
// longer mentions, or that has ended, is answered from it, as upstream does.
type cache struct {
	limits CacheLimits

	mu      sync.Mutex
	clock   uint64
	entries map[cacheKey]*list.Element
	used    *list.List // of *entry, the latest used first
	bytes   int64
}

type cacheKey struct{ client, uid string }

// entry is a status, or with a nil status the memory that it was dropped.
type entry struct {
	key    cacheKey
	status json.RawMessage
	begun  uint64
	usedAt time.Time
}

func (e *entry) size() int64 { return int64(len(e.status) + len(e.key.client) + len(e.key.uid) + 200) }

func newCache(limits CacheLimits) *cache {
	limits.Pods = orDefault(limits.Pods, 20000)
	limits.Bytes = orDefault(limits.Bytes, 64<<20)
	limits.Age = orDefault(limits.Age, 24*time.Hour)
	return &cache{limits: limits, entries: map[cacheKey]*list.Element{}, used: list.New()}
}

// begin marks the start of a status request, for put.
func (c *cache) begin() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.clock++
	return c.clock
}

// put keeps a status that was asked for at begun, unless the pod was dropped, or
// a later status kept, in the meantime.
func (c *cache) put(client, uid string, status json.RawMessage, begun uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.set(&entry{key: cacheKey{client, uid}, status: status, begun: begun})
}

// drop forgets a pod, and remembers so for answers that are still on their way.
func (c *cache) drop(client, uid string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.clock++
	c.set(&entry{key: cacheKey{client, uid}, begun: c.clock})
}

func (c *cache) set(next *entry) {
	next.usedAt = time.Now()
	if old := c.entries[next.key]; old != nil {
		if old.Value.(*entry).begun > next.begun {
			return
		}
		c.remove(old)
	}
	c.entries[next.key] = c.used.PushFront(next)
	c.bytes += next.size()
	for {
		last := c.used.Back()
		if last == nil || !c.excess(last.Value.(*entry)) {
			return
		}
		c.remove(last)
	}
}

func (c *cache) excess(last *entry) bool {
	return len(c.entries) > c.limits.Pods || c.bytes > c.limits.Bytes || c.expired(last)
}

func (c *cache) expired(e *entry) bool { return time.Since(e.usedAt) > c.limits.Age }

func (c *cache) remove(element *list.Element) {
	gone := c.used.Remove(element).(*entry)
	delete(c.entries, gone.key)
	c.bytes -= gone.size()
}

// size is how many pods and bytes are kept.
func (c *cache) size() (pods int, bytes int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.entries), c.bytes
}

// get returns the last status of a pod, nil if there is none.
func (c *cache) get(client, uid string) json.RawMessage {
	c.mu.Lock()
	defer c.mu.Unlock()
	element := c.entries[cacheKey{client, uid}]
	if element == nil {
		return nil
	}
	found := element.Value.(*entry)
	if found.status == nil {
		return nil
	}
	if c.expired(found) {
		c.remove(element)
		return nil
	}
	found.usedAt = time.Now()
	c.used.MoveToFront(element)
	return found.status
}

// all returns the last status of each pod of a caller.
func (c *cache) all(client string) []json.RawMessage {
	c.mu.Lock()
	defer c.mu.Unlock()
	statuses := []json.RawMessage{}
	for element := c.used.Back(); element != nil; element = element.Prev() {
		found := element.Value.(*entry)
		if found.key.client == client && found.status != nil && !c.expired(found) {
			statuses = append(statuses, found.status)
		}
	}
	return statuses
}
