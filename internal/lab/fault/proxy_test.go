// SPDX-License-Identifier: Apache-2.0

package fault_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/cloudveneto/caas/internal/lab/fault"
)

// soon is long enough to see that nothing comes; waiting for what has to come has no bound but the test's.
const soon = 150 * time.Millisecond

// called is a server that answers each line with itself, and remembers its connections.
type called struct {
	address string

	mu    sync.Mutex
	conns []net.Conn
}

func listen(t *testing.T) *called {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", filepath.Join(t.TempDir(), "called"))
	require.NoError(t, err)
	c := &called{address: listener.Addr().String()}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			c.mu.Lock()
			c.conns = append(c.conns, conn)
			c.mu.Unlock()
			running.Go(func() { _, _ = io.Copy(conn, conn); _ = conn.Close() })
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, conn := range c.conns {
			_ = conn.Close()
		}
		running.Wait()
	})
	return c
}

// behind puts a proxy before the called one and returns how to call.
func behind(t *testing.T, c *called) (proxy *fault.Proxy, dial func() (net.Conn, error)) {
	t.Helper()
	address := filepath.Join(t.TempDir(), "proxy")
	proxy, err := fault.Start(t.Context(), fault.Config{
		Listen: func(ctx context.Context) (net.Listener, error) {
			return (&net.ListenConfig{}).Listen(ctx, "unix", address)
		},
		Dial: func(ctx context.Context) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", c.address)
		},
		Seed: 1,
	})
	require.NoError(t, err)
	t.Cleanup(proxy.Close)
	return proxy, func() (net.Conn, error) {
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "unix", address)
		if err == nil {
			t.Cleanup(func() { _ = conn.Close() })
		}
		return conn, err
	}
}

// open calls and hears an answer.
func open(t *testing.T, dial func() (net.Conn, error)) net.Conn {
	t.Helper()
	conn, err := dial()
	require.NoError(t, err)
	require.Equal(t, "hello\n", ask(t, conn, "hello\n"))
	return conn
}

func ask(t *testing.T, conn net.Conn, line string) string {
	t.Helper()
	_, err := io.WriteString(conn, line)
	require.NoError(t, err)
	answer, err := bufio.NewReader(conn).ReadString('\n')
	require.NoError(t, err)
	return answer
}

func quiet(t *testing.T, conn net.Conn) {
	t.Helper()
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(soon)))
	_, err := conn.Read(make([]byte, 1))
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	require.NoError(t, conn.SetReadDeadline(time.Time{}))
}

// broken waits until the connection is.
func broken(t *testing.T, conn net.Conn) (before int) {
	t.Helper()
	data, err := io.ReadAll(conn)
	if err != nil {
		assert.True(t, errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE), err)
	}
	return len(data)
}

func TestPasses(t *testing.T) {
	t.Parallel()
	_, dial := behind(t, listen(t))
	conn := open(t, dial)
	half, ok := conn.(*net.UnixConn)
	require.True(t, ok)
	require.NoError(t, half.CloseWrite())
	rest, err := io.ReadAll(conn)
	require.NoError(t, err, "the end of one side is passed on")
	assert.Empty(t, rest)
}

func TestRefuses(t *testing.T) {
	t.Parallel()
	proxy, dial := behind(t, listen(t))
	conn := open(t, dial)
	require.NoError(t, proxy.Impose(t.Context(), fault.Refuse))
	broken(t, conn)
	_, err := dial()
	require.Error(t, err, "nothing listens")
	require.NoError(t, proxy.Impose(t.Context(), fault.None))
	open(t, dial)
}

func TestStalls(t *testing.T) {
	t.Parallel()
	proxy, dial := behind(t, listen(t))
	conn := open(t, dial)
	require.NoError(t, proxy.Impose(t.Context(), fault.Stall))
	_, err := io.WriteString(conn, "late\n")
	require.NoError(t, err)
	quiet(t, conn)
	require.NoError(t, proxy.Impose(t.Context(), fault.None))
	line, err := bufio.NewReader(conn).ReadString('\n')
	require.NoError(t, err)
	assert.Equal(t, "late\n", line, "what was under way arrives afterwards")
}

func TestDelays(t *testing.T) {
	t.Parallel()
	proxy, dial := behind(t, listen(t))
	conn := open(t, dial)
	require.NoError(t, proxy.Impose(t.Context(), fault.Delay))
	assert.Equal(t, "late\n", ask(t, conn, "late\n"))
}

func TestCuts(t *testing.T) {
	t.Parallel()
	proxy, dial := behind(t, listen(t))
	conn := open(t, dial)
	require.NoError(t, proxy.Impose(t.Context(), fault.Cut))
	const size = 32 << 10
	go func() { _, _ = io.WriteString(conn, strings.Repeat("x", size)) }()
	assert.Less(t, broken(t, conn), size, "in the middle of the answer")
	require.NoError(t, proxy.Impose(t.Context(), fault.None))
	open(t, dial)
}

func TestHalfOpen(t *testing.T) {
	t.Parallel()
	t.Run("the caller is not told", func(t *testing.T) {
		t.Parallel()
		c := listen(t)
		proxy, dial := behind(t, c)
		conn := open(t, dial)
		require.NoError(t, proxy.Impose(t.Context(), fault.Deaf))
		_, err := io.WriteString(conn, "anybody?\n")
		require.NoError(t, err)
		quiet(t, conn)
		open(t, dial)
		require.NoError(t, proxy.Impose(t.Context(), fault.None))
		quiet(t, conn)
	})
	t.Run("the called one is not told", func(t *testing.T) {
		t.Parallel()
		c := listen(t)
		proxy, dial := behind(t, c)
		conn := open(t, dial)
		require.NoError(t, proxy.Impose(t.Context(), fault.Mute))
		broken(t, conn)
		c.mu.Lock()
		defer c.mu.Unlock()
		_, err := io.WriteString(c.conns[0], "anybody?\n")
		require.NoError(t, err, "it still writes")
	})
}

func TestCannotListen(t *testing.T) {
	t.Parallel()
	failure := errors.New("no")
	_, err := fault.Start(t.Context(), fault.Config{Listen: func(context.Context) (net.Listener, error) { return nil, failure }})
	require.ErrorIs(t, err, failure)
}
