// SPDX-License-Identifier: Apache-2.0

package tunnel_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/cloudveneto/caas/internal/tunnel"
)

const patience = 10 * time.Second

// through starts a far side that hands its connection to serve, and a server that
// passes to it; it returns the server's address and how each tunnel ended.
func through(t *testing.T, limits tunnel.Limits, serve func(net.Conn, *bufio.Reader)) (address string, ended chan error) {
	t.Helper()
	far := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/refused" {
			http.Error(w, "not today", http.StatusForbidden)
			return
		}
		if r.URL.Path == "/silent" {
			<-r.Context().Done()
			return
		}
		conn, buffer, err := http.NewResponseController(w).Hijack()
		if !assert.NoError(t, err) {
			return
		}
		defer func() { _ = conn.Close() }()
		_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		serve(conn, buffer.Reader)
	}))
	t.Cleanup(far.Close)
	target, err := url.Parse(far.URL)
	require.NoError(t, err)
	ended = make(chan error, 1)
	near := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ended <- tunnel.Serve(w, r, &httputil.ReverseProxy{
			Transport: far.Client().Transport,
			Rewrite:   func(p *httputil.ProxyRequest) { p.SetURL(target) },
			ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
				http.Error(w, err.Error(), http.StatusBadGateway)
			},
		}, limits)
	}))
	t.Cleanup(near.Close)
	return strings.TrimPrefix(near.URL, "http://"), ended
}

// dial upgrades a connection; early is sent with the request.
func dial(t *testing.T, address, path, early string) (*net.TCPConn, *bufio.Reader, int) {
	t.Helper()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", address)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	require.NoError(t, conn.SetDeadline(time.Now().Add(patience)))
	_, err = io.WriteString(conn, "GET "+path+" HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"+early)
	require.NoError(t, err)
	reader := bufio.NewReader(conn)
	answer, err := http.ReadResponse(reader, nil)
	require.NoError(t, err)
	tcp, ok := conn.(*net.TCPConn)
	require.True(t, ok)
	return tcp, reader, answer.StatusCode
}

func soon(t *testing.T, ended <-chan error) error {
	t.Helper()
	select {
	case err := <-ended:
		return err
	case <-time.NewTimer(patience).C:
		require.Fail(t, "the tunnel did not end")
		return nil
	}
}

func TestBytesPassBothWays(t *testing.T) {
	t.Parallel()
	address, ended := through(t, tunnel.Limits{}, func(conn net.Conn, from *bufio.Reader) { _, _ = io.Copy(conn, from) })
	conn, reader, code := dial(t, address, "/", "early ")
	require.Equal(t, http.StatusSwitchingProtocols, code)
	_, err := io.WriteString(conn, "late\n")
	require.NoError(t, err)
	line, err := reader.ReadString('\n')
	require.NoError(t, err)
	assert.Equal(t, "early late\n", line, "what came with the request is not lost")
	require.NoError(t, conn.Close())
	assert.NoError(t, soon(t, ended))
}

func TestCallerHangsUp(t *testing.T) {
	t.Parallel()
	gone := make(chan error, 1)
	address, ended := through(t, tunnel.Limits{}, func(_ net.Conn, from *bufio.Reader) {
		_, err := from.ReadByte()
		gone <- err
	})
	conn, _, _ := dial(t, address, "/", "")
	require.NoError(t, conn.CloseWrite(), "half closed is hung up")
	require.ErrorIs(t, soon(t, gone), io.EOF)
	assert.NoError(t, soon(t, ended))
}

// TestLastWords is a far side that says much and closes its side while its caller
// goes on sending: nothing of it may be lost.
func TestLastWords(t *testing.T) {
	t.Parallel()
	const size = 4 << 20
	address, ended := through(t, tunnel.Limits{}, func(conn net.Conn, from *bufio.Reader) {
		_, _ = conn.Write(make([]byte, size))
		if half, ok := conn.(*net.TCPConn); ok {
			_ = half.CloseWrite()
		}
		_, _ = io.Copy(io.Discard, from)
	})
	conn, reader, _ := dial(t, address, "/", "")
	stop := make(chan struct{})
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		for {
			select {
			case <-stop:
				return
			default:
				_, _ = conn.Write([]byte("ping"))
			}
		}
	}()
	n, err := io.Copy(io.Discard, reader)
	close(stop)
	require.NoError(t, conn.Close())
	<-sent
	require.NoError(t, err)
	assert.EqualValues(t, size, n)
	assert.NoError(t, soon(t, ended))
}

func TestCallerThatStaysIsLeft(t *testing.T) {
	t.Parallel()
	address, ended := through(t, tunnel.Limits{Linger: 50 * time.Millisecond}, func(conn net.Conn, _ *bufio.Reader) {
		_, _ = io.WriteString(conn, "bye")
	})
	_, reader, _ := dial(t, address, "/", "")
	words, err := io.ReadAll(reader)
	require.NoError(t, err)
	assert.Equal(t, "bye", string(words))
	assert.NoError(t, soon(t, ended))
}

func TestIdle(t *testing.T) {
	t.Parallel()
	address, ended := through(t, tunnel.Limits{Idle: 300 * time.Millisecond}, func(conn net.Conn, from *bufio.Reader) { _, _ = io.Copy(conn, from) })
	conn, reader, _ := dial(t, address, "/", "")
	for range 10 {
		<-time.NewTimer(60 * time.Millisecond).C
		_, err := io.WriteString(conn, "p\n")
		require.NoError(t, err)
		_, err = reader.ReadString('\n')
		require.NoError(t, err, "what is used stays open")
	}
	require.ErrorIs(t, soon(t, ended), tunnel.ErrIdle)
}

// TestStalledCaller neither reads nor closes; it must not hold the tunnel for ever.
func TestStalledCaller(t *testing.T) {
	t.Parallel()
	address, ended := through(t, tunnel.Limits{Idle: 300 * time.Millisecond}, func(conn net.Conn, _ *bufio.Reader) {
		_, _ = conn.Write(make([]byte, 64<<20))
	})
	dial(t, address, "/", "")
	require.ErrorIs(t, soon(t, ended), tunnel.ErrIdle)
}

// TestCallerBreaksBehindUnreadData: the far side does not take what the caller sends,
// so nobody reads from the caller; that he has gone is noticed all the same.
func TestCallerBreaksBehindUnreadData(t *testing.T) {
	t.Parallel()
	release, gone := make(chan struct{}), make(chan error, 1)
	address, ended := through(t, tunnel.Limits{}, func(conn net.Conn, from *bufio.Reader) {
		<-release
		_, err := io.Copy(io.Discard, from)
		gone <- err
	})
	conn, _, _ := dial(t, address, "/", "")
	for {
		require.NoError(t, conn.SetWriteDeadline(time.Now().Add(300*time.Millisecond)))
		if _, err := conn.Write(make([]byte, 1<<20)); err != nil {
			require.ErrorIs(t, err, os.ErrDeadlineExceeded, "all buffers are full")
			break
		}
	}
	tunnel.Drop(conn)
	require.NoError(t, soon(t, ended))
	<-time.NewTimer(time.Second).C // the far side is given some time
	close(release)
	require.ErrorIs(t, soon(t, gone), syscall.ECONNRESET, "and hears of it in front of what it has not read")
}

// TestSlowReaderGetsTheLastWords: the far side ends while its words wait for the
// caller, who sends pings meanwhile.
func TestSlowReaderGetsTheLastWords(t *testing.T) {
	t.Parallel()
	const size = 1 << 20
	address, ended := through(t, tunnel.Limits{Linger: 20 * time.Millisecond}, func(conn net.Conn, _ *bufio.Reader) {
		_, _ = conn.Write(make([]byte, size))
	})
	conn, reader, _ := dial(t, address, "/", "")
	for range 20 {
		<-time.NewTimer(20 * time.Millisecond).C
		_, err := conn.Write([]byte("ping"))
		require.NoError(t, err)
	}
	n, err := io.Copy(io.Discard, reader)
	require.NoError(t, err)
	assert.EqualValues(t, size, n)
	require.NoError(t, soon(t, ended))
}

// TestGentleClose: a server that has said everything closes, while its peer reads
// slowly and sends pings.
func TestGentleClose(t *testing.T) {
	t.Parallel()
	const size = 1 << 20
	closed := make(chan error, 1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if !assert.NoError(t, err) {
			return
		}
		_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\n\r\n")
		_, _ = conn.Write(make([]byte, size))
		closed <- tunnel.Gentle(tunnel.Watch(conn, func() {})).Close()
	}))
	t.Cleanup(server.Close)
	conn, reader, _ := dial(t, strings.TrimPrefix(server.URL, "http://"), "/", "")
	for range 20 {
		<-time.NewTimer(20 * time.Millisecond).C
		_, err := conn.Write([]byte("ping"))
		require.NoError(t, err)
	}
	n, err := io.Copy(io.Discard, reader)
	require.NoError(t, err)
	assert.EqualValues(t, size, n)
	require.NoError(t, conn.Close())
	require.NoError(t, soon(t, closed))
}

// TestSPDYInsideWebSocket: the far side gets SPDY, and the caller the protocol that
// the far side has chosen.
func TestSPDYInsideWebSocket(t *testing.T) {
	t.Parallel()
	asked := make(chan *http.Request, 1)
	far := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked <- r
		conn, buffer, err := http.NewResponseController(w).Hijack()
		if !assert.NoError(t, err) {
			return
		}
		defer func() { _ = conn.Close() }()
		_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: b\r\n\r\nearly ")
		_, _ = io.CopyN(conn, buffer, int64(len("late")))
	}))
	t.Cleanup(far.Close)
	target, err := url.Parse(far.URL)
	require.NoError(t, err)
	ended := make(chan error, 1)
	near := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ended <- tunnel.ServeSPDY(w, r, &httputil.ReverseProxy{Rewrite: func(p *httputil.ProxyRequest) { p.SetURL(target) }}, tunnel.Limits{})
	}))
	t.Cleanup(near.Close)
	dialer := websocket.Dialer{Subprotocols: []string{tunnel.CarriedPrefix + "a", "other", tunnel.CarriedPrefix + "b"}}
	socket, _, err := dialer.DialContext(t.Context(), "ws"+strings.TrimPrefix(near.URL, "http"), nil)
	require.NoError(t, err)
	assert.Equal(t, tunnel.CarriedPrefix+"b", socket.Subprotocol())
	request := <-asked
	assert.Equal(t, http.MethodPost, request.Method)
	assert.Equal(t, tunnel.SPDY, tunnel.Protocol(request))
	assert.Equal(t, []string{"a", "b"}, request.Header["X-Stream-Protocol-Version"])
	assert.Empty(t, request.Header["Sec-Websocket-Protocol"])
	conn := tunnel.Carried(socket)
	_, err = io.WriteString(conn, "late")
	require.NoError(t, err)
	said, err := io.ReadAll(conn)
	require.NoError(t, err, "the end is told in WebSocket's way")
	assert.Equal(t, "early late", string(said))
	require.NoError(t, conn.Close())
	require.NoError(t, soon(t, ended))
}

func TestNotUpgraded(t *testing.T) {
	t.Parallel()
	address, ended := through(t, tunnel.Limits{Answer: 100 * time.Millisecond}, nil)
	_, _, code := dial(t, address, "/refused", "")
	assert.Equal(t, http.StatusForbidden, code)
	require.NoError(t, soon(t, ended))
	_, _, code = dial(t, address, "/silent", "")
	assert.Equal(t, http.StatusBadGateway, code)
	require.NoError(t, soon(t, ended))
}

func TestHeadersThatPass(t *testing.T) {
	t.Parallel()
	passed := tunnel.Request(http.Header{
		"Upgrade": {"websocket"}, "Connection": {"Upgrade"}, "Authorization": {"Bearer x"}, "Impersonate-User": {"admin"},
		"X-Remote-User": {"admin"}, "Cookie": {"a=b"}, "Origin": {"https://evil"}, "Traceparent": {"00-1-2-01"},
		"Sec-Websocket-Protocol":    {"v5.channel.k8s.io, base64url.bearer.authorization.k8s.io.c2VjcmV0", "v4.channel.k8s.io"},
		"X-Stream-Protocol-Version": {"v5.channel.k8s.io", "v4.channel.k8s.io"},
	})
	assert.Equal(t, http.Header{
		"Upgrade": {"websocket"}, "Connection": {"Upgrade"}, "Traceparent": {"00-1-2-01"},
		"Sec-Websocket-Protocol":    {"v5.channel.k8s.io, v4.channel.k8s.io"},
		"X-Stream-Protocol-Version": {"v5.channel.k8s.io", "v4.channel.k8s.io"},
	}, passed)
	assert.Equal(t, http.Header{"Upgrade": {"SPDY/3.1"}}, tunnel.Answer(http.Header{"Upgrade": {"SPDY/3.1"}, "Set-Cookie": {"x"}}))
}

func TestProtocol(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ connection, upgrade, want string }{
		"websocket":  {"keep-alive, Upgrade", "WebSocket", tunnel.WebSocket},
		"spdy":       {"Upgrade", "SPDY/3.1", tunnel.SPDY},
		"other":      {"Upgrade", "h2c", ""},
		"not asked":  {"keep-alive", "websocket", ""},
		"no upgrade": {"", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			request := &http.Request{Header: http.Header{"Connection": {c.connection}, "Upgrade": {c.upgrade}}}
			assert.Equal(t, c.want, tunnel.Protocol(request))
			assert.Equal(t, c.want != "", tunnel.IsUpgrade(request))
		})
	}
}
