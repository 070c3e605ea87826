// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"net/http"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"
)

// kind says which limit a request counts against.
type kind int

const (
	requests kind = iota
	streams
	// pings do not queue behind slow creates, or the node would look dead.
	pings
	// sessions are upgraded connections into pods.
	sessions
)

// String is the kind's name in metrics.
func (k kind) String() string {
	return [...]string{requests: "request", streams: "stream", pings: "ping", sessions: "session"}[k]
}

// pingsPerClient is enough for one virtual kubelet that has lost its patience a few times.
const pingsPerClient = 16

// turns bounds what each caller has open. A request beyond the limit waits: for
// upstream's virtual kubelet any error of /create is the end of the pod.
type turns struct {
	size     map[kind]int
	share    int64
	patience time.Duration

	mu    sync.Mutex
	lanes map[lane]*slots
}

type lane struct {
	kind   kind
	client string
}

// slots has one element per open request; users counts those waiting too.
// buffered is the client's share of the memory for bodies: one caller that sends
// slowly must not keep all of it from the others.
type slots struct {
	open     chan struct{}
	users    int
	buffered *semaphore.Weighted
}

func newTurns(limits Limits) *turns {
	return &turns{
		size: map[kind]int{
			requests: limits.RequestsPerClient, streams: limits.StreamsPerClient, sessions: limits.SessionsPerClient, pings: pingsPerClient,
		},
		share:    max(limits.MaxBody, limits.MaxBuffered/2),
		patience: limits.Patience,
		lanes:    map[lane]*slots{},
	}
}

// take waits for the caller's turn and returns what to call when it is over.
func (t *turns) take(ctx context.Context, kind kind, client string) (buffered *semaphore.Weighted, done func(), err error) {
	key := lane{kind, client}
	slots := t.enter(key)
	done = func() {
		<-slots.open
		t.leave(key)
	}
	select {
	case slots.open <- struct{}{}:
		return slots.buffered, done, nil
	default:
	}
	if kind == sessions { // somebody sits before it
		t.leave(key)
		return nil, nil, refuse(http.StatusTooManyRequests,
			"this client has %d connections into pods open, and no more are allowed; close some and try again", t.size[kind])
	}
	patience := time.NewTimer(t.patience)
	defer patience.Stop()
	select {
	case slots.open <- struct{}{}:
		return slots.buffered, done, nil
	case <-ctx.Done():
	case <-patience.C:
	}
	t.leave(key)
	return nil, nil, refuse(http.StatusTooManyRequests, "too many requests of this client at one time, try again")
}

func (t *turns) enter(key lane) *slots {
	t.mu.Lock()
	defer t.mu.Unlock()
	found := t.lanes[key]
	if found == nil {
		found = &slots{open: make(chan struct{}, t.size[key.kind]), buffered: semaphore.NewWeighted(t.share)}
		t.lanes[key] = found
	}
	found.users++
	return found
}

func (t *turns) leave(key lane) {
	t.mu.Lock()
	defer t.mu.Unlock()
	found := t.lanes[key]
	found.users--
	if found.users == 0 {
		delete(t.lanes, key)
	}
}

// load is what a lane has now.
type load struct{ open, waiting int }

// now is the load of all lanes that have any.
func (t *turns) now() map[lane]load {
	t.mu.Lock()
	defer t.mu.Unlock()
	all := make(map[lane]load, len(t.lanes))
	for key, slots := range t.lanes {
		open := min(len(slots.open), slots.users)
		all[key] = load{open: open, waiting: slots.users - open}
	}
	return all
}
