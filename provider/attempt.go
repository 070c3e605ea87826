// SPDX-License-Identifier: Apache-2.0

package provider

import (
	"context"
	"errors"
	"io"
	"sync"

	"github.com/cloudveneto/caas/internal/interlink"
)

// errGivenUp ends attempts that nobody will answer any more.
var errGivenUp = errors.New("the connection to the far end is broken")

// attempts are the steps of pods that are under way. Their requests may wait on connections whose far end is gone without
// a word, which only a long timeout would tell. The status stream has a sign of life every few seconds, so when it
// breaks they are given up, and begun again: with a far end that has a stream, every request may be repeated.
type attempts struct {
	mu    sync.Mutex
	count int
	ends  map[int]context.CancelCauseFunc
}

// begin returns the context of a new attempt; the caller calls done at its end.
func (a *attempts) begin(ctx context.Context) (attempt context.Context, done func()) {
	attempt, end := context.WithCancelCause(ctx)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.count++
	number := a.count
	if a.ends == nil {
		a.ends = map[int]context.CancelCauseFunc{}
	}
	a.ends[number] = end
	return attempt, func() {
		a.mu.Lock()
		delete(a.ends, number)
		a.mu.Unlock()
		end(nil)
	}
}

// giveUp ends all attempts that are under way.
func (a *attempts) giveUp() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, end := range a.ends {
		end(errGivenUp)
	}
}

// broken tells that a stream has ended because nothing came through any more: not in good order, and not by an answer.
func broken(err error) bool {
	var answer *interlink.StatusError
	return err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, errOfferChanged) && !errors.As(err, &answer)
}
