// SPDX-License-Identifier: Apache-2.0

package interlink

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/moby/spdystream"
	"k8s.io/streaming/pkg/httpstream"
)

const (
	// streamPings is how long the far end may be silent before it is asked whether it is
	// there.
	streamPings = 5 * time.Second
	// streamOpening bounds how long the far end takes to accept a stream.
	streamOpening = 30 * time.Second
)

// connection is one SPDY connection to the far end. Unlike Kubernetes' own, it sends
// pings only while it waits for the far end. A far end that has said everything closes,
// and a ping that reaches it then makes its kernel drop what is still on its way to a
// slow reader.
type connection struct {
	conn    *spdystream.Connection
	waiting *waiting

	mu      sync.Mutex
	streams map[uint32]httpstream.Stream
}

func newConnection(conn net.Conn) (*connection, error) {
	waiting := &waiting{Conn: conn}
	spdy, err := spdystream.NewConnection(waiting, false)
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	c := &connection{conn: spdy, waiting: waiting, streams: map[uint32]httpstream.Stream{}}
	go spdy.Serve(refuseStream) // both end with the connection
	go c.ping()
	return c, nil
}

// refuseStream: nobody opens streams to a client.
func refuseStream(stream *spdystream.Stream) { _ = stream.Reset() }

func (c *connection) ping() {
	tick := time.NewTicker(streamPings)
	defer tick.Stop()
	for {
		select {
		case <-c.conn.CloseChan():
			return
		case <-tick.C:
		}
		if c.waiting.since() >= streamPings {
			_, _ = c.conn.Ping() // what matters is that something moves; a dead far end is the kernel's to find
		}
	}
}

// CreateStream implements httpstream.Connection.
func (c *connection) CreateStream(headers http.Header) (httpstream.Stream, error) { //nolint:ireturn // the library's own seam
	stream, err := c.conn.CreateStream(headers, nil, false)
	if err != nil {
		return nil, err
	}
	if err := stream.WaitTimeout(streamOpening); err != nil {
		return nil, fmt.Errorf("the far end does not accept the stream: %w", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.streams[stream.Identifier()] = stream
	return stream, nil
}

// RemoveStreams implements httpstream.Connection.
func (c *connection) RemoveStreams(streams ...httpstream.Stream) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, stream := range streams {
		if stream != nil {
			delete(c.streams, stream.Identifier())
		}
	}
}

// Close implements httpstream.Connection: it ends all streams, too.
func (c *connection) Close() error {
	c.mu.Lock()
	streams := c.streams
	c.streams = map[uint32]httpstream.Stream{}
	c.mu.Unlock()
	for _, stream := range streams {
		_ = stream.Reset() // it is being given up
	}
	return c.conn.Close()
}

// CloseChan implements httpstream.Connection.
func (c *connection) CloseChan() <-chan bool { return c.conn.CloseChan() }

// SetIdleTimeout implements httpstream.Connection.
func (c *connection) SetIdleTimeout(timeout time.Duration) { c.conn.SetIdleTimeout(timeout) }

// waiting tells how long its reader has been waiting.
type waiting struct {
	net.Conn

	// begun is when a Read began that has not returned, in Unix nanoseconds.
	begun atomic.Int64
}

// Read implements net.Conn.
func (w *waiting) Read(p []byte) (int, error) {
	w.begun.Store(time.Now().UnixNano())
	defer w.begun.Store(0)
	return w.Conn.Read(p)
}

func (w *waiting) since() time.Duration {
	begun := w.begun.Load()
	if begun == 0 {
		return 0
	}
	return time.Since(time.Unix(0, begun))
}
