// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"

	"golang.org/x/sync/semaphore"
)

// bodies bounds the memory that all requests' bodies take together: each is held
// from when it is read until its request ends.
type bodies struct {
	room *semaphore.Weighted
	size int64
}

// growth is how much memory reading a body of unknown length takes at most, in
// units of its length: io.ReadAll copies to larger and larger buffers.
const growth = 3

func newBodies(settings Settings) bodies {
	size := growth * max(settings.MaxCreateBytes, settings.MaxStatusBytes)
	return bodies{room: semaphore.NewWeighted(size), size: size}
}

// read reads a request's body of at most limit bytes, once there is room for it.
func (b bodies) read(w http.ResponseWriter, r *http.Request, limit int64) ([]byte, error) {
	ctx := r.Context()
	need := r.ContentLength
	if need > limit {
		return nil, &http.MaxBytesError{Limit: limit}
	}
	if need < 0 {
		need = min(growth*limit, b.size)
	}
	if err := b.room.Acquire(ctx, need); err != nil {
		return nil, fmt.Errorf("wait for memory: %w", err)
	}
	context.AfterFunc(ctx, func() { b.room.Release(need) }) // the server ends ctx with the request
	bounded := http.MaxBytesReader(w, r.Body, limit)
	if r.ContentLength < 0 {
		return io.ReadAll(bounded)
	}
	var content bytes.Buffer
	content.Grow(int(r.ContentLength) + bytes.MinRead)
	if _, err := content.ReadFrom(bounded); err != nil {
		return nil, err
	}
	return content.Bytes(), nil
}

// takeTurn waits until the request is one of those that write pods at the same time, and
// reads it; done ends the turn. If it is not ok the request is over: it has been answered,
// or nobody waits for it.
func (p *Plugin) takeTurn(w http.ResponseWriter, r *http.Request) (data []byte, done func(), ok bool) {
	select {
	case p.creating <- struct{}{}:
	case <-r.Context().Done():
		return nil, func() {}, false
	}
	data, err := p.bodies.read(w, r, p.settings.MaxCreateBytes)
	if err != nil {
		bodyError(w, err)
	}
	return data, func() { <-p.creating }, err == nil
}
