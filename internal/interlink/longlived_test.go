// SPDX-License-Identifier: Apache-2.0

package interlink_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/cloudveneto/caas/internal/interlink"
	"github.com/cloudveneto/caas/internal/interlink/interlinktest"
	"github.com/cloudveneto/caas/internal/tunnel"
)

// pipes is a network in memory, in which time can be that of a bubble.
type pipes struct {
	dialed chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newPipes() *pipes { return &pipes{dialed: make(chan net.Conn), closed: make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case conn := <-p.dialed:
		return conn, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

func (*pipes) Addr() net.Addr { return &net.UnixAddr{Net: "unix", Name: "pipe"} }

func (p *pipes) transport() *http.Transport {
	return &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		ours, theirs := net.Pipe()
		select {
		case p.dialed <- theirs:
			return ours, nil
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-p.closed:
			return nil, net.ErrClosed
		}
	}}
}

// serve answers at a network of its own until the test ends.
func (p *pipes) serve(t *testing.T, handler http.Handler) {
	t.Helper()
	server := &http.Server{Handler: handler, ReadHeaderTimeout: time.Minute}
	var running sync.WaitGroup
	running.Go(func() { _ = server.Serve(p) })
	t.Cleanup(func() {
		assert.NoError(t, server.Close())
		running.Wait()
	})
}

// bubbled is a client of a kubelet behind the tunnels of an API and of a plugin. With
// bare, it does not try WebSocket.
func bubbled(t *testing.T, bare bool) *interlink.Client {
	t.Helper()
	kubelet, sidecar, gateway := newPipes(), newPipes(), newPipes()
	kubelet.serve(t, (&interlinktest.Cluster{}).Kubelet())
	sidecar.serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked := r.URL.Query()
		query := url.Values{"command": asked[interlink.QueryCommand]}
		for from, to := range map[string]string{interlink.QueryStdin: "input", interlink.QueryStdout: "output"} {
			if asked.Get(from) == "true" {
				query.Set(to, "1")
			}
		}
		target := &url.URL{Scheme: "http", Host: "kubelet", Path: "/exec", RawQuery: query.Encode()}
		_ = tunnel.ServeSPDY(w, r, &httputil.ReverseProxy{
			Transport: kubelet.transport(), Rewrite: func(p *httputil.ProxyRequest) { p.Out.URL = target },
		}, tunnel.Limits{})
	}))
	gateway.serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if bare && tunnel.Protocol(r) == tunnel.WebSocket {
			http.Error(w, "no WebSocket here", http.StatusBadRequest)
			return
		}
		_ = tunnel.Serve(w, r, &httputil.ReverseProxy{
			Transport: sidecar.transport(), Rewrite: func(p *httputil.ProxyRequest) { p.SetURL(&url.URL{Scheme: "http", Host: "sidecar"}) },
		}, tunnel.Limits{})
	}))
	client, err := interlink.NewClient(interlink.ClientConfig{BaseURL: "http://api", HTTP: &http.Client{Transport: gateway.transport()}})
	require.NoError(t, err)
	return client
}

func eachBubble(t *testing.T, do func(*testing.T, *interlink.Client)) {
	t.Helper()
	for name, bare := range map[string]bool{"SPDY inside WebSocket": false, "SPDY": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { do(t, bubbled(t, bare)) })
		})
	}
}

// TestIdleForHours: a command that neither reads nor writes keeps its connection, and
// ends with its own exit code.
func TestIdleForHours(t *testing.T) {
	t.Parallel()
	eachBubble(t, func(t *testing.T, client *interlink.Client) {
		t.Helper()
		input, typed := io.Pipe()
		from, to := io.Pipe()
		done := make(chan error, 1)
		go func() {
			done <- client.Exec(t.Context(), &interlink.Terminal{PodUID: "u", Command: []string{"cat"}, Stdin: input, Stdout: to})
			_ = to.Close()
		}()
		for _, idle := range []time.Duration{0, time.Hour, 10 * time.Hour} {
			time.Sleep(idle) // the bubble's
			_, err := io.WriteString(typed, "still here\n")
			require.NoError(t, err)
			_, err = io.ReadFull(from, make([]byte, len("still here\n")))
			require.NoError(t, err, "after %s", idle)
		}
		require.NoError(t, typed.Close())
		require.NoError(t, <-done)
	})
}

// untimed is a network whose connections tell when a deadline of a read is set: that
// is how a stream is cut off whose reader stops, because the answers to pings wait
// behind what is not read.
type untimed struct{ deadlines atomic.Int64 }

func (u *untimed) dial(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
	return &untimedConn{Conn: conn, set: &u.deadlines}, err
}

type untimedConn struct {
	net.Conn

	set *atomic.Int64
}

func (c *untimedConn) SetReadDeadline(at time.Time) error {
	if !at.IsZero() {
		c.set.Add(1)
	}
	return c.Conn.SetReadDeadline(at)
}

// TestReaderThatStalls: the command waits for its reader, nothing in between gives up
// or piles up, and the reader gets every byte.
func TestReaderThatStalls(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		protocol string
		size     int
		stall    time.Duration
	}{
		"in the middle":           {"websocket", 64 << 20, time.Second}, // more than all buffers of the kernel
		"in the middle, by SPDY":  {"spdy", 64 << 20, time.Second},
		"before the end":          {"websocket", 3 << 20, 7 * time.Second}, // longer than until the first ping
		"before the end, by SPDY": {"spdy", 3 << 20, 7 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cluster := interlinktest.NewCluster(t, "")
			cluster.NoWebSocket.Store(c.protocol == "spdy")
			network := &untimed{}
			transport := &http.Transport{DialContext: network.dial, DisableKeepAlives: true}
			client, err := interlink.NewClient(interlink.ClientConfig{BaseURL: cluster.URL, HTTP: &http.Client{Transport: transport}})
			require.NoError(t, err)
			from, to := io.Pipe()
			done := make(chan error, 1)
			go func() {
				err := client.Exec(t.Context(), &interlink.Terminal{PodUID: "u", Command: []string{"flood", strconv.Itoa(c.size)}, Stdout: to})
				_ = to.CloseWithError(err)
				done <- err
			}()
			read, err := io.ReadFull(from, make([]byte, 1<<20))
			require.NoError(t, err)
			<-time.NewTimer(c.stall).C
			assert.Equal(t, c.size > 32<<20, cluster.Running() == 1, "the command waits, or has said everything")
			assert.Zero(t, network.deadlines.Load(), "nothing limits the time")
			rest, err := io.Copy(io.Discard, from)
			require.NoError(t, err)
			require.NoError(t, <-done)
			assert.EqualValues(t, c.size, int64(read)+rest)
		})
	}
}
