// SPDX-License-Identifier: Apache-2.0

// Package tunnel passes upgraded connections through a server: WebSocket and SPDY,
// as Kubernetes' exec, attach and port-forward use them. It adds to
// httputil.ReverseProxy what that leaves open: a caller that hangs up ends the
// connection behind it at once, an answer's last bytes are not lost when the far
// side closes first, and a connection on which nothing at all moves, not even the
// peers' pings, is closed. It may import nothing of this project.
//
//	err := tunnel.Serve(w, request, proxy, tunnel.Limits{})
package tunnel

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"sync"
	"sync/atomic"
	"time"
)

// Limits bound a tunnel; zero values mean their defaults.
type Limits struct {
	// Idle is how long nothing may move, in neither direction; default 4 h, which is a
	// kubelet's own limit. It must be no shorter than a caller may stop reading: neither
	// pings nor their answers move past data that nobody reads. Peers whose machine is
	// gone are found by TCP, in minutes.
	Idle time.Duration
	// Linger is how long the caller may take to hang up after the far side did and the
	// caller was given everything; default 5 s.
	Linger time.Duration
	// Answer is how long the far side may take to begin its answer; default 1 min.
	Answer time.Duration
}

func (l *Limits) complete() {
	for limit, standard := range map[*time.Duration]time.Duration{
		&l.Idle: 4 * time.Hour, &l.Linger: 5 * time.Second, &l.Answer: time.Minute,
	} {
		if *limit == 0 {
			*limit = standard
		}
	}
}

// ErrIdle says that a tunnel was closed because nothing moved in it.
var ErrIdle = errors.New("nothing moved in the connection")

// errNoAnswer says that the far side did not begin its answer in time.
var errNoAnswer = errors.New("the far side did not answer in time")

// IsUpgrade reports whether r asks for a protocol that Kubernetes' streams use.
func IsUpgrade(r *http.Request) bool {
	return Protocol(r) != ""
}

// Serve answers r by proxy, until both sides have hung up or r's context is done.
// An answer that does not upgrade is passed on as proxy does. It returns ErrIdle
// when it closed the tunnel itself. proxy is changed and MUST NOT be shared.
func Serve(w http.ResponseWriter, r *http.Request, proxy *httputil.ReverseProxy, limits Limits) error {
	return serve(w, r, proxy, &tunnel{limits: limits})
}

func serve(w http.ResponseWriter, r *http.Request, proxy *httputil.ReverseProxy, t *tunnel) error {
	t.limits.complete()
	defer t.close(nil)
	if proxy.Transport == nil {
		proxy.Transport = http.DefaultTransport
	}
	proxy.Transport = &patient{next: proxy.Transport, limit: t.limits.Answer, got: t.uses}
	modify := proxy.ModifyResponse
	proxy.ModifyResponse = func(answer *http.Response) error {
		if modify != nil {
			if err := modify(answer); err != nil {
				return err
			}
		}
		return t.farSide(answer)
	}
	proxy.ServeHTTP(&writer{ResponseWriter: w, tunnel: t}, r)
	return t.cause()
}

// tunnel is the two connections of one caller. Whichever fails takes the other along.
type tunnel struct {
	limits Limits
	// carrier is the caller's request, when that is WebSocket that carries SPDY.
	carrier *http.Request
	// protocol is what the far side speaks inside SPDY.
	protocol string
	// moved is when a byte last went either way, in Unix nanoseconds.
	moved atomic.Int64

	mu   sync.Mutex
	user net.Conn
	far  io.ReadWriteCloser
	// below is the connection that far uses.
	below  net.Conn
	timer  *time.Timer
	ending bool
	closed bool
	err    error
}

// farSide takes over the connection of an answer that upgrades.
func (t *tunnel) farSide(answer *http.Response) error {
	if answer.StatusCode != http.StatusSwitchingProtocols {
		return nil
	}
	conn, ok := answer.Body.(io.ReadWriteCloser)
	if !ok {
		return errors.New("the far side's connection cannot be written to")
	}
	answer.Body = &farEnd{ReadWriteCloser: conn, tunnel: t}
	t.protocol = answer.Header.Get(headerStreamProtocol)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.far = conn
	t.touch()
	t.timer = time.AfterFunc(t.limits.Idle, t.watch)
	return nil
}

// uses notes the connection on which the far side is asked; the last one counts.
func (t *tunnel) uses(conn net.Conn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.below = conn
}

func (t *tunnel) userSide(conn net.Conn) net.Conn {
	watched := Watch(conn, func() { t.close(nil) })
	t.mu.Lock()
	defer t.mu.Unlock()
	t.user = watched
	return &userEnd{Conn: watched, tunnel: t}
}

func (t *tunnel) touch() { t.moved.Store(time.Now().UnixNano()) }

// watch closes a tunnel in which nothing moves, or comes again when it could be so.
func (t *tunnel) watch() {
	left := t.limits.Idle - time.Since(time.Unix(0, t.moved.Load()))
	if left <= 0 {
		t.close(ErrIdle)
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.closed && !t.ending {
		t.timer.Reset(left)
	}
}

// linger gives the caller time to hang up, after which nobody needs the tunnel. A
// caller that reads slowly gets what the kernel still holds first: what it sends
// to a closed connection would make the kernel drop that.
func (t *tunnel) linger() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed || t.timer == nil {
		return
	}
	t.ending = true
	t.timer.Stop()
	limit := time.Now().Add(t.limits.Idle)
	t.timer = time.AfterFunc(t.limits.Linger, func() {
		if unsent(t.user) && time.Now().Before(limit) {
			t.mu.Lock()
			defer t.mu.Unlock()
			if !t.closed {
				t.timer.Reset(t.limits.Linger)
			}
			return
		}
		t.close(nil)
	})
}

func (t *tunnel) close(cause error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return
	}
	t.closed, t.err = true, cause
	if t.timer != nil {
		t.timer.Stop()
	}
	// Both are being given up: there is nothing to learn from an error.
	if t.far != nil {
		leave(t.far, t.below)
	}
	if t.user != nil {
		_ = t.user.Close()
	}
}

// leave closes the connection to the far side. What the caller has said before gets
// some time to arrive; what the far side does not take even then would keep it from
// hearing of the end, and is dropped.
func leave(far io.Closer, below net.Conn) {
	if below == nil || !unsent(below) {
		_ = far.Close()
		return
	}
	time.AfterFunc(watchPeriod, func() {
		if unsent(below) {
			Drop(below)
		}
		_ = far.Close()
	})
}

func (t *tunnel) cause() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.err
}

// farEnd is the connection to the far side, as the proxy uses it. It has no
// CloseWrite: neither protocol uses a half-closed connection, so a caller that
// closes has hung up.
type farEnd struct {
	io.ReadWriteCloser

	tunnel *tunnel
	// ended is true once the far side has said everything.
	ended atomic.Bool
}

func (f *farEnd) Read(p []byte) (int, error) {
	n, err := f.ReadWriteCloser.Read(p)
	f.tunnel.touch()
	if err != nil {
		f.ended.Store(true)
	}
	return n, err
}

// Write drops what comes after the far side has hung up: an error would close the
// caller's connection before the caller has read the far side's last words.
func (f *farEnd) Write(p []byte) (int, error) {
	n, err := f.ReadWriteCloser.Write(p)
	f.tunnel.touch()
	if err != nil && f.ended.Load() {
		return len(p), nil
	}
	return n, err
}

// Close closes both ends.
func (f *farEnd) Close() error {
	f.tunnel.close(nil)
	return nil
}

// userEnd is the caller's connection, as the proxy uses it.
type userEnd struct {
	net.Conn

	tunnel *tunnel
}

func (u *userEnd) Read(p []byte) (int, error) {
	n, err := u.Conn.Read(p)
	u.tunnel.touch()
	if err != nil {
		u.tunnel.close(nil)
	}
	return n, err
}

func (u *userEnd) Write(p []byte) (int, error) {
	n, err := u.Conn.Write(p)
	u.tunnel.touch()
	return n, err
}

// CloseWrite tells the caller that the far side has hung up. A connection that
// cannot be half closed is given its time all the same.
func (u *userEnd) CloseWrite() error {
	u.tunnel.linger()
	if half, ok := u.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

// Close closes both ends.
func (u *userEnd) Close() error {
	u.tunnel.close(nil)
	return nil
}

// writer is the answer whose connection becomes the tunnel's.
type writer struct {
	http.ResponseWriter

	tunnel *tunnel
}

// Unwrap lets http.ResponseController reach what is below.
func (w *writer) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// Hijack implements http.Hijacker.
func (w *writer) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	if w.tunnel.carrier != nil {
		return w.tunnel.carry(w.ResponseWriter)
	}
	conn, buffer, err := http.NewResponseController(w.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	// net/http may have read ahead; what it holds has to come first.
	user := w.tunnel.userSide(&buffered{Conn: conn, reader: buffer.Reader})
	return user, bufio.NewReadWriter(buffer.Reader, bufio.NewWriter(user)), nil
}

// buffered reads what net/http holds before what comes.
type buffered struct {
	net.Conn

	reader *bufio.Reader
}

func (b *buffered) Read(p []byte) (int, error) {
	if b.reader.Buffered() > 0 {
		return b.reader.Read(p[:min(len(p), b.reader.Buffered())])
	}
	return b.Conn.Read(p)
}

// NetConn is the connection itself.
func (b *buffered) NetConn() net.Conn { return b.Conn }

// CloseWrite half closes a connection that can be.
func (b *buffered) CloseWrite() error {
	if half, ok := b.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}
