// SPDX-License-Identifier: Apache-2.0

package openstack

import (
	"context"
	"net/http"
	"strconv"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/cloudveneto/caas/osnode/cloud"
)

const (
	// patience is how long a pause that OpenStack asked for is waited for; a longer one is
	// the caller's to wait for.
	patience = 2 * time.Second
	// longestPause bounds what a Retry-After can do.
	longestPause = 5 * time.Minute
)

// bucket is what one project may do at a provider: so many calls in a second, so many at
// once, and none while OpenStack asks to wait.
type bucket struct {
	tokens *rate.Limiter
	slots  chan struct{}

	mu    sync.Mutex
	until time.Time
}

func newBucket(limits Limits) *bucket {
	return &bucket{
		tokens: rate.NewLimiter(rate.Limit(limits.QPS), limits.Burst),
		slots:  make(chan struct{}, limits.InFlight),
	}
}

// take waits for a token and a slot; release gives the slot back.
func (b *bucket) take(ctx context.Context) (release func(), err error) {
	if err := b.settle(ctx); err != nil {
		return nil, err
	}
	if err := b.tokens.Wait(ctx); err != nil {
		return nil, refusal(cloud.Throttled, err, "Too many requests to OpenStack are waiting in this project")
	}
	select {
	case b.slots <- struct{}{}:
		return func() { <-b.slots }, nil
	case <-ctx.Done():
		return nil, refusal(cloud.Throttled, ctx.Err(), "Too many requests to OpenStack are waiting in this project")
	}
}

// settle waits until a pause is over, if it is short.
func (b *bucket) settle(ctx context.Context) error {
	left := b.paused()
	if left <= 0 {
		return nil
	}
	if left > patience {
		return &cloud.Error{Class: cloud.Throttled, Message: "OpenStack asks to wait " + left.Round(time.Second).String(), RetryAfter: left}
	}
	return pause(ctx, left)
}

func (b *bucket) paused() time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	return time.Until(b.until)
}

func (b *bucket) hold(wait time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if until := time.Now().Add(min(wait, longestPause)); until.After(b.until) {
		b.until = until
	}
}

// throttled keeps to a bucket.
type throttled struct {
	next   http.RoundTripper
	bucket *bucket
}

func (t *throttled) RoundTrip(request *http.Request) (*http.Response, error) {
	release, err := t.bucket.take(request.Context())
	if err != nil {
		return nil, err
	}
	defer release()
	answer, err := t.next.RoundTrip(request)
	if err != nil {
		return nil, err
	}
	if wait := retryAfter(answer.StatusCode, answer.Header); wait > 0 {
		t.bucket.hold(wait)
	}
	return answer, nil
}

// retryAfter is how long an answer asks to wait.
func retryAfter(code int, header http.Header) time.Duration {
	switch code {
	case http.StatusTooManyRequests, http.StatusServiceUnavailable, http.StatusRequestEntityTooLarge:
	default:
		return 0
	}
	text := header.Get("Retry-After")
	if seconds, err := strconv.Atoi(text); err == nil {
		return min(time.Duration(max(seconds, 0))*time.Second, longestPause)
	}
	if at, err := http.ParseTime(text); err == nil {
		return min(max(time.Until(at), 0), longestPause)
	}
	return 0
}

// pause waits, unless ctx ends first.
func pause(ctx context.Context, wait time.Duration) error {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
