// SPDX-License-Identifier: Apache-2.0

package keystone

import (
	"sync"
	"time"
)

// breaker keeps questions from a Keystone that does not answer, or asks for it. After a while it lets one
// through, and everything if that is answered.
type breaker struct {
	after int
	pause time.Duration
	now   func() time.Time

	mu       sync.Mutex
	failures int
	until    time.Time
	probing  bool
}

// allow tells whether to ask. Whoever was allowed MUST call done.
func (b *breaker) allow() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.failures < b.after {
		return true
	}
	if b.probing || b.now().Before(b.until) {
		return false
	}
	b.probing = true
	return true
}

// done says whether there was an answer, whichever: see answered.
func (b *breaker) done(answered bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.probing = false
	if answered {
		b.failures = 0
		return
	}
	b.failures++
	if b.failures >= b.after {
		b.until = b.now().Add(b.pause)
	}
}

func (b *breaker) open() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.failures >= b.after && b.now().Before(b.until)
}
