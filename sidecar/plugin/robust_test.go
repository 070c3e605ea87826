// SPDX-License-Identifier: Apache-2.0

package plugin_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/cloudveneto/caas/internal/httpserver"
	"github.com/cloudveneto/caas/internal/interlink"
	"github.com/cloudveneto/caas/sidecar/plugin"
)

// serveAlone serves a plugin and returns its address.
func serveAlone(t *testing.T, settings plugin.Settings) string {
	t.Helper()
	server, err := httpserver.New(httpserver.Config{
		Address: "127.0.0.1:0", Handler: newPluginWith(t, settings, nil, namespace()), GracePeriod: time.Second,
	})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	return server.Addr().String()
}

// raw sends a request by hand and returns the whole answer.
func raw(t *testing.T, address, head, body string) string {
	t.Helper()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", address)
	require.NoError(t, err)
	defer func() { _ = conn.Close() }()
	require.NoError(t, conn.SetDeadline(time.Now().Add(30*time.Second)))
	_, err = io.WriteString(conn, head+" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"+body)
	require.NoError(t, err)
	if strings.Contains(body, "Content-Length: 1000") { // the sender crashed; a living one waits for the answer
		require.NoError(t, conn.(*net.TCPConn).CloseWrite())
	}
	answer, err := io.ReadAll(conn)
	require.NoError(t, err)
	return string(answer)
}

// TestBadRequestsDoNotEndTheProcess sends what a broken or hostile peer could send.
func TestBadRequestsDoNotEndTheProcess(t *testing.T) {
	t.Parallel()
	address := serveAlone(t, plugin.Settings{})
	cut := func(path string) string {
		return raw(t, address, "POST "+path, "Content-Length: 1000\r\n\r\n{\"pod\":{\"metadata\":")
	}
	for _, path := range []string{interlink.PathCreate, interlink.PathStatus, interlink.PathDelete, interlink.PathLogs} {
		assert.Contains(t, cut(path), "HTTP/1.1 400", "a cut body to %s", path)
		assert.Contains(t, raw(t, address, "POST "+path, "Content-Length: 5\r\n\r\n{\"a\":"), "HTTP/1.1 400", "half a document to %s", path)
		assert.Contains(t, raw(t, address, "POST "+path, "Content-Length: 2\r\n\r\n42"), "HTTP/1.1 400", "a number to %s", path)
		assert.Contains(t, raw(t, address, "PATCH "+path, "Content-Length: 0\r\n\r\n"), "HTTP/1.1 405", "a wrong method to %s", path)
	}
	assert.Contains(t, raw(t, address, "GET /nowhere", "\r\n"), "HTTP/1.1 404")
	assert.Contains(t, raw(t, address, "GET "+interlink.PathStatus, "Content-Length: 2\r\n\r\n[]"), "HTTP/1.1 200", "the process lives")
}

// TestLargeBodiesAreNotRead has several callers send 100 MB each, without saying so before.
func TestLargeBodiesAreNotRead(t *testing.T) {
	address := serveAlone(t, plugin.Settings{MaxCreateBytes: 1 << 20, MaxStatusBytes: 1 << 20})
	runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	var callers sync.WaitGroup
	for i := range 16 {
		callers.Go(func() {
			body := io.MultiReader(strings.NewReader(`{"jobScript":"`), io.LimitReader(letters{}, 100<<20))
			request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+address+interlink.PathCreate, body)
			if !assert.NoError(t, err) {
				return
			}
			answer, err := (&http.Transport{}).RoundTrip(request)
			if err != nil {
				return // the server hung up while the body was still being sent
			}
			defer func() { _ = answer.Body.Close() }()
			assert.Equal(t, http.StatusRequestEntityTooLarge, answer.StatusCode, fmt.Sprint("caller ", i))
		})
	}
	callers.Wait()
	runtime.GC()
	runtime.ReadMemStats(&after)
	assert.Less(t, int64(after.HeapAlloc)-int64(before.HeapAlloc), int64(8<<20), "nothing of the bodies is kept")
	assert.Less(t, int64(after.HeapSys)-int64(before.HeapSys), int64(64<<20), "16 bodies of 100 MB need no more than the limit allows")
	assert.Contains(t, raw(t, address, "GET "+interlink.PathStatus, "Content-Length: 2\r\n\r\n[]"), "HTTP/1.1 200", "the process lives")
}

// letters is an endless text.
type letters struct{}

func (letters) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'x'
	}
	return len(p), nil
}
