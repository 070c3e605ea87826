// SPDX-License-Identifier: Apache-2.0

package openstack

import (
	"context"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"
)

// memo remembers answers, and lets those who ask the same at the same time share one
// call. Refusals are not remembered.
type memo[T any] struct {
	// timeout bounds a shared call, which does not end with any one caller's context.
	timeout time.Duration
	flight  singleflight.Group

	mu      sync.Mutex
	answers map[string]answer[T]
}

// answer is a value, when it was asked for, how long that took, and for how long before
// nobody had been asking.
type answer[T any] struct {
	value      T
	at         time.Time
	took, idle time.Duration
}

func newMemo[T any](timeout time.Duration) *memo[T] {
	return &memo[T]{timeout: timeout, answers: map[string]answer[T]{}}
}

// get returns an answer that was asked for no longer than maxAge before this call.
func (m *memo[T]) get(ctx context.Context, key string, maxAge time.Duration, ask func(ctx context.Context) (T, error)) (answer[T], error) {
	oldest := time.Now().Add(-maxAge)
	for {
		if known, ok := m.peek(key); ok && !known.at.Before(oldest) {
			return known, nil
		}
		result := m.flight.DoChan(key, func() (any, error) { return m.ask(ctx, key, ask) })
		select {
		case <-ctx.Done():
			return answer[T]{}, ctx.Err()
		case got := <-result:
			if got.Err != nil {
				return answer[T]{}, got.Err
			}
			// A call that was already under way may have begun too early.
			if reply, ok := got.Val.(answer[T]); ok && !reply.at.Before(oldest) {
				return reply, nil
			}
		}
	}
}

func (m *memo[T]) ask(ctx context.Context, key string, ask func(ctx context.Context) (T, error)) (answer[T], error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), m.timeout)
	defer cancel()
	at := time.Now()
	value, err := ask(ctx)
	if err != nil {
		return answer[T]{}, err
	}
	reply := answer[T]{value: value, at: at, took: time.Since(at)}
	m.mu.Lock()
	defer m.mu.Unlock()
	if last, ok := m.answers[key]; ok {
		reply.idle = max(at.Sub(last.at.Add(last.took)), 0)
	}
	m.answers[key] = reply
	return reply, nil
}

func (m *memo[T]) peek(key string) (answer[T], bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	known, ok := m.answers[key]
	return known, ok
}

// forget drops the answers whose keys begin with prefix.
func (m *memo[T]) forget(prefix string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for key := range m.answers {
		if strings.HasPrefix(key, prefix) {
			delete(m.answers, key)
		}
	}
}
