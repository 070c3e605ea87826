// SPDX-License-Identifier: Apache-2.0

package tunnel

import (
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// watchPeriod is how often a connection that nobody reads is looked at.
const watchPeriod = 400 * time.Millisecond

// Watch returns conn, which calls hungUp when its peer has closed it or its half of
// it. Whoever reads notices that by reading; but one who waits for the far side to
// take what was read does not read, so it is looked for from time to time, too, and
// what was not read yet is dropped.
func Watch(conn net.Conn, hungUp func()) net.Conn {
	w := &watched{Conn: conn, hungUp: hungUp, raw: rawOf(conn)}
	if w.raw != nil {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.timer = time.AfterFunc(watchPeriod, w.look)
	}
	return w
}

type watched struct {
	net.Conn

	hungUp  func()
	raw     syscall.RawConn
	reading atomic.Int32

	mu     sync.Mutex
	timer  *time.Timer
	closed bool
}

func (w *watched) look() {
	if w.reading.Load() == 0 && peerClosed(w.raw) {
		Drop(w) // nobody is left to be told
		w.hungUp()
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.closed {
		w.timer.Reset(watchPeriod)
	}
}

// Read implements net.Conn.
func (w *watched) Read(p []byte) (int, error) {
	w.reading.Add(1)
	n, err := w.Conn.Read(p)
	w.reading.Add(-1)
	if err != nil {
		w.hungUp()
	}
	return n, err
}

// Close implements net.Conn.
func (w *watched) Close() error {
	w.mu.Lock()
	w.closed = true
	if w.timer != nil {
		w.timer.Stop()
	}
	w.mu.Unlock()
	return w.Conn.Close()
}

// CloseWrite half closes a connection that can be.
func (w *watched) CloseWrite() error {
	if half, ok := w.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

// NetConn is the connection itself.
func (w *watched) NetConn() net.Conn { return w.Conn }

// Drop closes conn without a word. What was written and not yet taken would let a
// goodbye wait; whoever drops a connection does not want it to arrive.
func Drop(conn net.Conn) {
	for below := conn; ; {
		switch c := below.(type) {
		case *net.TCPConn:
			_ = c.SetLinger(0) // then it is closed as usual
		case interface{ NetConn() net.Conn }:
			below = c.NetConn()
			continue
		}
		break
	}
	_ = conn.Close() // there is nothing to learn from an error
}

// rawOf is the socket below conn; nil when there is none.
func rawOf(conn net.Conn) syscall.RawConn {
	for {
		switch c := conn.(type) {
		case syscall.Conn:
			raw, err := c.SyscallConn()
			if err != nil {
				return nil
			}
			return raw
		case interface{ NetConn() net.Conn }:
			conn = c.NetConn()
		default:
			return nil
		}
	}
}
