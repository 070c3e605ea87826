// SPDX-License-Identifier: Apache-2.0

package api_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/cloudveneto/caas/internal/interlink/interlinktest"
	"github.com/cloudveneto/caas/sidecar/api"
)

// TestCutBodies sends the beginnings of real requests over raw connections, as a
// crashing virtual kubelet does; upstream's server exits on some of them.
func TestCutBodies(t *testing.T) {
	t.Parallel()
	plugin := newPluginDouble(t, text(`[]`))
	base := serve(t, api.Config{PluginURL: plugin.URL})
	address := strings.TrimPrefix(base, "http://")
	for name, recorded := range interlinktest.Requests(t, fixtures+"/vk") {
		for _, part := range []int{0, 1, len(recorded.Body) / 2, len(recorded.Body) - 1} {
			if part < 0 || len(recorded.Body) == 0 {
				continue
			}
			conn := dial(t, address)
			_, err := fmt.Fprintf(conn, "%s %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s",
				recorded.Method, recorded.Path, len(recorded.Body), recorded.Body[:part])
			require.NoError(t, err)
			require.NoError(t, conn.CloseWrite())
			answer, err := io.ReadAll(conn)
			require.NoError(t, err, name)
			assert.Contains(t, string(answer), "400 Bad Request", name)
			assert.Contains(t, string(answer), "request body is cut or unreadable", name)
			require.NoError(t, conn.Close())
		}
	}
	assert.Empty(t, plugin.recorded(), "half a request must not reach the plugin")
	assert.Equal(t, http.StatusOK, send(t, http.MethodPost, base+"/pinglink", "").code, "the server lives")
}

// TestLargeBodiesDoNotFillTheMemory lets many callers send 100 MB at once, with
// and without saying so before.
func TestLargeBodiesDoNotFillTheMemory(t *testing.T) {
	plugin := newPluginDouble(t, text(`[]`))
	const limit = 4 << 20
	base := serve(t, api.Config{PluginURL: plugin.URL, Limits: api.Limits{
		MaxBody: limit, MaxBuffered: 16 << 20, Patience: time.Minute,
	}})
	runtime.GC()
	var before, now runtime.MemStats
	runtime.ReadMemStats(&before)
	stop := make(chan struct{})
	peak := make(chan uint64, 1)
	go func() {
		var highest uint64
		ticker := time.NewTicker(2 * time.Millisecond)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
				runtime.ReadMemStats(&now)
				highest = max(highest, now.HeapInuse)
			case <-stop:
				peak <- highest
				return
			}
		}
	}()
	var callers sync.WaitGroup
	for i := range 16 {
		callers.Go(func() {
			const size = 100 << 20
			body := io.LimitReader(spaces{}, size)
			request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, base+"/create", body)
			if !assert.NoError(t, err) {
				return
			}
			if i%2 == 0 {
				request.ContentLength = size
			}
			answer, err := plain.Do(request)
			if err != nil {
				return // the server may cut the connection while the body is still being sent
			}
			_ = answer.Body.Close()
			assert.Equal(t, http.StatusRequestEntityTooLarge, answer.StatusCode)
		})
	}
	callers.Wait()
	close(stop)
	highest := <-peak
	t.Logf("heap in use: %d MiB before, %d MiB at most for 16 callers of 100 MiB", before.HeapInuse>>20, highest>>20)
	assert.Less(t, highest, before.HeapInuse+96<<20, "the budget is 16 MiB; buffers grow by doubling, and the collector lags")
	assert.Equal(t, http.StatusOK, send(t, http.MethodPost, base+"/pinglink", "").code, "the server lives")
}

type spaces struct{}

func (spaces) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	return len(p), nil
}

// TestSlowSendersDoNotStarveOthers: one caller announces more than its share of
// the memory and sends nothing; another one is served all the same.
func TestSlowSendersDoNotStarveOthers(t *testing.T) {
	t.Parallel()
	plugin := newPluginDouble(t, text(`{}`))
	base := serve(t, api.Config{
		PluginURL:    plugin.URL,
		Authenticate: func(r *http.Request) (string, error) { return r.Header.Get("Test-Client"), nil },
		Limits:       api.Limits{MaxBody: 1 << 20, MaxBuffered: 4 << 20, Patience: 30 * time.Second},
	})
	for range 8 {
		conn := dial(t, base)
		t.Cleanup(func() { _ = conn.Close() })
		_, err := fmt.Fprintf(conn, "POST /create HTTP/1.1\r\nHost: x\r\nTest-Client: slow\r\nContent-Length: %d\r\n\r\n{", 1<<20)
		require.NoError(t, err)
	}
	<-time.NewTimer(100 * time.Millisecond).C
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, base+"/create",
		strings.NewReader(`{"pod":{"metadata":{"uid":"u"}}}`+strings.Repeat(" ", 1<<19)))
	require.NoError(t, err)
	request.Header.Set("Test-Client", "quick")
	start := time.Now()
	assert.Equal(t, http.StatusOK, do(t, request).code)
	assert.Less(t, time.Since(start), 10*time.Second)
}

func TestDeepJSONIsRefused(t *testing.T) {
	t.Parallel()
	plugin := newPluginDouble(t, text(`[]`))
	base := serve(t, api.Config{PluginURL: plugin.URL})
	for _, path := range []string{"/create", "/status", "/delete", "/getLogs"} {
		answer := send(t, http.MethodPost, base+path, strings.Repeat(`{"pod":`, 200000))
		assert.Equal(t, http.StatusBadRequest, answer.code)
	}
}

// TestNoGoroutineIsLeft runs one of everything and counts.
func TestNoGoroutineIsLeft(t *testing.T) {
	before := 0
	t.Run("requests", func(t *testing.T) {
		plugin := newPluginDouble(t, func(w http.ResponseWriter, r *http.Request) {
			if strings.HasPrefix(r.URL.Path, "/caas/") {
				_, _ = io.Copy(io.Discard, r.Body)
			}
			_, _ = io.WriteString(w, "[]")
		}).says(streamOffer)
		base := serve(t, api.Config{PluginURL: plugin.URL})
		all := func() {
			for _, recorded := range interlinktest.Requests(t, fixtures+"/vk") {
				do(t, recorded.New(t, base))
			}
			send(t, http.MethodGet, base+"/caas/v1/statuses", "")
			send(t, http.MethodPost, base+"/create", "{")
		}
		all()
		plain.CloseIdleConnections()
		before = settled(0)
		for range 20 {
			all()
		}
		plain.CloseIdleConnections()
		assert.LessOrEqual(t, settled(before), before)
	})
	plain.CloseIdleConnections()
	var stacks bytes.Buffer
	for line := range strings.SplitSeq(stacksOf(), "\n\n") {
		if strings.Contains(line, "sidecar/api.") || strings.Contains(line, "internal/httpserver.") {
			stacks.WriteString(line)
		}
	}
	assert.Empty(t, stacks.String())
}

// settled waits until the number of goroutines is at most want, or stops falling.
func settled(want int) int {
	count := runtime.NumGoroutine()
	for range 50 {
		<-time.NewTimer(20 * time.Millisecond).C
		count = runtime.NumGoroutine()
		if want > 0 && count <= want {
			break
		}
	}
	return count
}

func stacksOf() string {
	buffer := make([]byte, 1<<20)
	return string(buffer[:runtime.Stack(buffer, true)])
}
