// SPDX-License-Identifier: Apache-2.0

package api_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/cloudveneto/caas/internal/httpserver"
	"github.com/cloudveneto/caas/internal/interlink"
	"github.com/cloudveneto/caas/internal/interlink/interlinktest"
	"github.com/cloudveneto/caas/sidecar/api"
)

const streamOffer = `{"pluginExtensions":["status-stream/v1","idempotent/v1"]}`

func flush(t *testing.T, w http.ResponseWriter) {
	t.Helper()
	assert.NoError(t, http.NewResponseController(w).Flush())
}

func soon(t *testing.T, done <-chan struct{}, what string) {
	t.Helper()
	select {
	case <-done:
	case <-time.NewTimer(10 * time.Second).C:
		require.Fail(t, "did not happen: "+what)
	}
}

// open sends a request and returns its open answer.
func open(t *testing.T, request *http.Request) *http.Response {
	t.Helper()
	answer, err := plain.Do(request)
	require.NoError(t, err)
	t.Cleanup(func() { _ = answer.Body.Close() })
	return answer
}

func TestLogsFlowAsTheyComeAndEndWithTheCaller(t *testing.T) {
	t.Parallel()
	gone := make(chan struct{})
	next := make(chan struct{})
	plugin := newPluginDouble(t, func(w http.ResponseWriter, r *http.Request) {
		flush(t, w)
		for i := range 3 {
			<-next
			_, _ = fmt.Fprintf(w, "line %d\n", i)
			flush(t, w)
		}
		<-r.Context().Done()
		close(gone)
	})
	base := serve(t, api.Config{PluginURL: plugin.URL})
	ctx, leave := context.WithCancel(t.Context())
	sent := interlinktest.Requests(t, fixtures+"/vk")["logs-follow-since"]
	answer := open(t, sent.New(t, base).WithContext(ctx))
	require.Equal(t, http.StatusOK, answer.StatusCode, "the header comes before the first line")
	lines := bufio.NewReader(answer.Body)
	for i := range 3 {
		next <- struct{}{}
		line, err := lines.ReadString('\n')
		require.NoError(t, err)
		assert.Equal(t, fmt.Sprintf("line %d\n", i), line)
	}
	leave()
	soon(t, gone, "the plugin's request is cancelled")
}

func TestBrokenLogDoesNotLookWhole(t *testing.T) {
	t.Parallel()
	plugin := newPluginDouble(t, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "half")
		flush(t, w)
		panic(http.ErrAbortHandler) //nolint:forbidigo // what a crashing plugin looks like
	})
	base := serve(t, api.Config{PluginURL: plugin.URL})
	sent := interlinktest.Requests(t, fixtures+"/vk")["logs"]
	answer := open(t, sent.New(t, base))
	body, err := io.ReadAll(answer.Body)
	require.Error(t, err)
	assert.Equal(t, "half", string(body))
}

func TestWatchPassesThroughBothWays(t *testing.T) {
	t.Parallel()
	gone := make(chan struct{})
	seen := make(chan *http.Request, 1)
	plugin := newPluginDouble(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != interlink.PathWatch {
			return
		}
		seen <- r
		w.Header().Set("Content-Type", interlink.ContentTypeStream)
		_, _ = io.WriteString(w, `{"type":"SYNCED"}`+"\n")
		flush(t, w)
		<-r.Context().Done()
		close(gone)
	}).says(streamOffer)
	base := serve(t, api.Config{
		PluginURL:    plugin.URL,
		Authenticate: func(*http.Request) (string, error) { return "af-cluster", nil },
	})
	client, err := interlink.NewClient(interlink.ClientConfig{BaseURL: base, HTTP: &http.Client{}, Token: func() (string, error) { return "secret", nil }})
	require.NoError(t, err)
	ctx, leave := context.WithCancel(t.Context())
	err = client.Watch(ctx, interlink.WatchRequest{Cluster: "af", Node: "virtual"}, func(event interlink.StatusEvent) error {
		assert.Equal(t, interlink.EventSynced, event.Type)
		leave()
		return nil
	})
	require.ErrorIs(t, err, context.Canceled)
	soon(t, gone, "the plugin's request is cancelled")
	request := <-seen
	assert.Equal(t, url.Values{"cluster": {"af"}, "node": {"virtual"}}, request.URL.Query())
	assert.Equal(t, "af-cluster", request.Header.Get(interlink.HeaderClient))
	assert.Empty(t, request.Header.Get("Authorization"))
	assert.Regexp(t, `^WatchStatus#`, request.Header.Get(interlink.HeaderSession))
}

func TestWatchEndsWithTheServer(t *testing.T) {
	t.Parallel()
	plugin := newPluginDouble(t, func(w http.ResponseWriter, r *http.Request) {
		flush(t, w)
		<-r.Context().Done()
	}).says(streamOffer)
	gateway, err := api.New(api.Config{PluginURL: plugin.URL})
	require.NoError(t, err)
	server, err := httpserver.New(httpserver.Config{Address: "127.0.0.1:0", Handler: gateway.Handler(), GracePeriod: time.Minute})
	require.NoError(t, err)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- server.Run(ctx) }()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+server.Addr().String()+interlink.PathWatch, nil)
	require.NoError(t, err)
	answer := open(t, request)
	require.Equal(t, http.StatusOK, answer.StatusCode)
	stop()
	select {
	case err := <-ended:
		assert.NoError(t, err)
	case <-time.NewTimer(10 * time.Second).C:
		require.Fail(t, "the stream holds the server")
	}
}

func TestUpgradedConnectionsPassThrough(t *testing.T) {
	t.Parallel()
	plugin := newPluginDouble(t, func(w http.ResponseWriter, r *http.Request) {
		assert.Equal(t, "echo", r.Header.Get("Upgrade"))
		conn, buffer, err := http.NewResponseController(w).Hijack()
		if !assert.NoError(t, err) {
			return
		}
		defer func() { _ = conn.Close() }()
		_, _ = buffer.WriteString("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
		_ = buffer.Flush()
		_, _ = io.Copy(conn, buffer)
	}).says(streamOffer)
	base := serve(t, api.Config{PluginURL: plugin.URL})
	conn := dial(t, strings.TrimPrefix(base, "http://"))
	defer func() { _ = conn.Close() }()
	_, err := io.WriteString(conn, "POST /caas/v1/exec HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
	require.NoError(t, err)
	reader := bufio.NewReader(conn)
	answer, err := http.ReadResponse(reader, nil)
	require.NoError(t, err)
	require.Equal(t, http.StatusSwitchingProtocols, answer.StatusCode)
	_, err = io.WriteString(conn, "hello\n")
	require.NoError(t, err)
	line, err := reader.ReadString('\n')
	require.NoError(t, err)
	assert.Equal(t, "hello\n", line)
}

func TestCreateAndDeleteAreFinishedWhenTheCallerLeaves(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"create-minimal", "delete"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			begun, left, finished := make(chan struct{}), make(chan struct{}), make(chan bool, 1)
			plugin := newPluginDouble(t, func(_ http.ResponseWriter, r *http.Request) {
				close(begun)
				<-left
				select {
				case <-r.Context().Done():
					finished <- false
				case <-time.NewTimer(300 * time.Millisecond).C:
					finished <- true
				}
			})
			base := serve(t, api.Config{PluginURL: plugin.URL})
			ctx, leave := context.WithCancel(t.Context())
			sent := interlinktest.Requests(t, fixtures+"/vk")[kind]
			go func() {
				request := sent.New(t, base).WithContext(ctx)
				answer, err := plain.Do(request)
				if err == nil {
					_ = answer.Body.Close()
				}
			}()
			<-begun
			leave()
			close(left)
			assert.True(t, <-finished, "the plugin's request goes on")
		})
	}
}

func TestStatusIsCancelledWhenTheCallerLeaves(t *testing.T) {
	t.Parallel()
	begun, gone := make(chan struct{}), make(chan struct{})
	plugin := newPluginDouble(t, func(_ http.ResponseWriter, r *http.Request) {
		close(begun)
		<-r.Context().Done()
		close(gone)
	})
	base := serve(t, api.Config{PluginURL: plugin.URL})
	ctx, leave := context.WithCancel(t.Context())
	sent := interlinktest.Requests(t, fixtures+"/vk")["status-one"]
	go func() {
		answer, err := plain.Do(sent.New(t, base).WithContext(ctx))
		if err == nil {
			_ = answer.Body.Close()
		}
	}()
	<-begun
	leave()
	soon(t, gone, "the plugin's request is cancelled")
}

func TestConnectionsThatThePluginClosedAreNoticedByNobody(t *testing.T) {
	t.Parallel()
	plugin := newPluginDouble(t, text("ok"))
	base := serve(t, api.Config{PluginURL: plugin.URL})
	for range 20 {
		plugin.CloseClientConnections()
		answer := send(t, http.MethodDelete, base+"/delete", `{"metadata":{"uid":"a"}}`)
		assert.Equal(t, http.StatusOK, answer.code, answer.body)
	}
}

func TestRequestsBeyondTheLimitWait(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	var open, most atomic.Int32
	plugin := newPluginDouble(t, func(http.ResponseWriter, *http.Request) {
		now := open.Add(1)
		defer open.Add(-1)
		for old := most.Load(); now > old && !most.CompareAndSwap(old, now); old = most.Load() {
		}
		<-release
	})
	base := serve(t, api.Config{PluginURL: plugin.URL, Limits: api.Limits{RequestsPerClient: 2, Patience: 2 * time.Second}})
	codes := make(chan int, 4)
	for range 3 {
		go func() { codes <- send(t, http.MethodDelete, base+"/delete", `{"metadata":{"uid":"a"}}`).code }()
	}
	assert.Equal(t, http.StatusTooManyRequests, <-codes, "patience ends")
	go func() { codes <- send(t, http.MethodDelete, base+"/delete", `{"metadata":{"uid":"a"}}`).code }()
	<-time.NewTimer(50 * time.Millisecond).C
	close(release)
	for range 3 {
		assert.Equal(t, http.StatusOK, <-codes)
	}
	assert.EqualValues(t, 2, most.Load())
}
