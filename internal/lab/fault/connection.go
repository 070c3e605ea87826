// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// connection is one that passes through a proxy.
type connection struct {
	proxy     *Proxy
	near, far net.Conn
	// severed is set when one side is gone and the other is not told.
	severed atomic.Bool

	// cut is the number of the state in which the answer is cut after left bytes. Only the goroutine of the answers uses them.
	cut  int
	left int64
}

func (c *connection) run() {
	var directions sync.WaitGroup
	directions.Go(func() { c.carry(c.far, c.near, false) })
	directions.Go(func() { c.carry(c.near, c.far, true) })
	directions.Wait()
	_, _ = c.near.Close(), c.far.Close()
}

// carry passes on what comes from one side until it ends, and its end.
func (c *connection) carry(to, from net.Conn, answers bool) {
	buffer := make([]byte, piece)
	for {
		n, err := from.Read(buffer)
		if n > 0 && !c.deliver(to, buffer[:n], answers) {
			c.reset()
			return
		}
		if err != nil {
			c.end(to, from, err)
			return
		}
	}
}

// deliver writes one piece, or less if the answer is to be cut; false ends the connection.
func (c *connection) deliver(to net.Conn, data []byte, answers bool) bool {
	now := c.proxy.current()
	for now.kind == Stall && !c.severed.Load() {
		select {
		case <-now.over:
		case <-c.proxy.ctx.Done():
			return false
		}
		now = c.proxy.current()
	}
	if now.kind == Delay {
		wait(c.proxy.ctx, now.over, time.Duration(c.proxy.upTo(int64(maxDelay))))
	}
	if c.severed.Load() {
		return true // into the void
	}
	whole := true
	if now.kind == Cut && answers {
		if c.cut != now.number {
			c.cut, c.left = now.number, c.proxy.upTo(maxCut)
		}
		whole = int64(len(data)) <= c.left
		data = data[:min(int64(len(data)), c.left)]
		c.left -= int64(len(data))
	}
	_, err := to.Write(data)
	return whole && (err == nil || c.severed.Load())
}

// end passes the end of one side on. How a connection ends is between the two who use it.
func (c *connection) end(to, from net.Conn, err error) {
	if c.severed.Load() {
		_ = from.Close()
		return
	}
	half, canHalf := to.(interface{ CloseWrite() error })
	if errors.Is(err, io.EOF) && canHalf {
		_ = half.CloseWrite()
		return
	}
	c.reset()
}

// sever takes away one side; the other one's words lead nowhere until it hangs up.
func (c *connection) sever(kind Kind) {
	c.severed.Store(true)
	if kind == Deaf {
		reset(c.far)
		return
	}
	reset(c.near)
}

func (c *connection) reset() {
	reset(c.near)
	reset(c.far)
}
