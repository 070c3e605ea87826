// SPDX-License-Identifier: Apache-2.0

package api_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/client-go/util/exec"

	"github.com/cloudveneto/caas/internal/httpserver"
	"github.com/cloudveneto/caas/internal/interlink"
	"github.com/cloudveneto/caas/internal/interlink/interlinktest"
	"github.com/cloudveneto/caas/internal/tunnel"
	"github.com/cloudveneto/caas/sidecar/api"
)

const sessionOffer = `{"pluginExtensions":["exec/v1","attach/v1","port-forward/v1"]}`

// sessionPlugin is a plugin that answers pings with offer and opens streams in cluster.
func sessionPlugin(t *testing.T, cluster *interlinktest.Cluster, offer string) string {
	t.Helper()
	target, err := url.Parse(cluster.URL)
	require.NoError(t, err)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == interlink.PathStatus {
			_, _ = io.WriteString(w, offer)
			return
		}
		_ = tunnel.Serve(w, r, &httputil.ReverseProxy{
			Transport: cluster.Client().Transport,
			Rewrite:   func(p *httputil.ProxyRequest) { p.SetURL(target) },
		}, tunnel.Limits{})
	}))
	t.Cleanup(server.Close)
	return server.URL
}

func sessionClient(t *testing.T, base string) *interlink.Client {
	t.Helper()
	transport, err := interlink.NewTransport(base, nil)
	require.NoError(t, err)
	client, err := interlink.NewClient(interlink.ClientConfig{
		BaseURL: base, HTTP: &http.Client{Transport: transport}, Token: func() (string, error) { return "secret", nil },
	})
	require.NoError(t, err)
	return client
}

func named(r *http.Request) (string, error) {
	if r.Header.Get("Authorization") != "Bearer secret" {
		return "", fmt.Errorf("%w: no token", api.ErrUnauthenticated)
	}
	return "af-cluster", nil
}

func TestSessionsPassThrough(t *testing.T) {
	t.Parallel()
	for _, protocol := range []string{"websocket", "spdy"} {
		t.Run(protocol, func(t *testing.T) {
			t.Parallel()
			cluster := interlinktest.NewCluster(t, "")
			cluster.NoWebSocket.Store(protocol == "spdy")
			registry := prometheus.NewRegistry()
			client := sessionClient(t, serve(t, api.Config{
				PluginURL: sessionPlugin(t, cluster, sessionOffer), Authenticate: named, Registry: registry,
			}))
			var out bytes.Buffer
			require.NoError(t, client.Exec(t.Context(), &interlink.Terminal{
				PodUID: sleepUID, Container: "main", Command: []string{"cat"}, Stdin: strings.NewReader("hello"), Stdout: &out,
			}))
			assert.Equal(t, "hello", out.String())
			err := client.Exec(t.Context(), &interlink.Terminal{
				PodUID: sleepUID, Command: []string{"exit", "3"}, Stdout: &out, Stderr: io.Discard,
			})
			var code exec.CodeExitError
			require.ErrorAs(t, err, &code)
			assert.Equal(t, 3, code.Code)
			out.Reset()
			require.NoError(t, client.Attach(t.Context(), &interlink.Terminal{PodUID: sleepUID, Stdin: strings.NewReader("main"), Stdout: &out}))
			assert.Equal(t, "main", out.String())
			forwarder := client.Forwarder(sleepUID)
			local, remote := net.Pipe()
			done := make(chan error, 1)
			go func() { done <- forwarder.Forward(t.Context(), 7, remote) }()
			_, err = io.WriteString(local, "x")
			require.NoError(t, err)
			_, err = io.ReadFull(local, make([]byte, 1))
			require.NoError(t, err)
			_ = local.Close()
			<-done
			require.NoError(t, forwarder.Close())
			stream := cluster.Streams()[0]
			assert.Equal(t, "af-cluster", stream.Header.Get(interlink.HeaderClient))
			assert.Empty(t, stream.Header.Get("Authorization"))
			assert.Equal(t, interlink.PodStreamPath(sleepUID, interlink.StreamExec), stream.Path)
			require.Eventually(t, func() bool {
				count, err := testutil.GatherAndCount(registry, "caas_interlink_sessions_total")
				return assert.NoError(t, err) && count == 3
			}, 10*time.Second, time.Millisecond)
		})
	}
}

func TestSessionsThatAreNotOpened(t *testing.T) {
	t.Parallel()
	cluster := interlinktest.NewCluster(t, "")
	all := serve(t, api.Config{PluginURL: sessionPlugin(t, cluster, sessionOffer), Authenticate: named})
	some := serve(t, api.Config{PluginURL: sessionPlugin(t, cluster, `{"pluginExtensions":["exec/v1"]}`), Authenticate: named})
	path := interlink.PodStreamPath(sleepUID, interlink.StreamAttach)
	for name, c := range map[string]struct {
		url, token, upgrade string
		code                int
		text                string
	}{
		"stranger":       {all + path, "other", "websocket", http.StatusUnauthorized, "not authenticated"},
		"not offered":    {some + path, "secret", "websocket", http.StatusNotImplemented, "does not offer attach"},
		"no upgrade":     {all + path, "secret", "", http.StatusBadRequest, "does a proxy before this server drop the header Upgrade?"},
		"other protocol": {all + path, "secret", "h2c", http.StatusBadRequest, "WebSocket or SPDY/3.1"},
		"no UID":         {all + "/caas/v1/pods/x/attach", "secret", "websocket", http.StatusBadRequest, "not a lower-case UUID"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, c.url, nil)
			require.NoError(t, err)
			request.Header.Set("Authorization", "Bearer "+c.token)
			if c.upgrade != "" {
				request.Header.Set("Connection", "Upgrade")
				request.Header.Set("Upgrade", c.upgrade)
			}
			answer := open(t, request)
			body, err := io.ReadAll(answer.Body)
			require.NoError(t, err)
			assert.Equal(t, c.code, answer.StatusCode)
			assert.Contains(t, string(body), c.text)
		})
	}
}

// waiting opens an exec that only waits, and returns how it ends.
func waiting(ctx context.Context, t *testing.T, client *interlink.Client) <-chan error {
	t.Helper()
	from, to := io.Pipe()
	done := make(chan error, 1)
	go func() {
		err := client.Exec(ctx, &interlink.Terminal{PodUID: sleepUID, Command: []string{"wait"}, Stdout: to})
		_ = to.CloseWithError(errors.Join(err, io.EOF))
		done <- err
	}()
	_, err := io.ReadFull(from, make([]byte, len("waiting\n")))
	require.NoError(t, err)
	return done
}

func TestHangUpReachesTheCluster(t *testing.T) {
	t.Parallel()
	cluster := interlinktest.NewCluster(t, "")
	client := sessionClient(t, serve(t, api.Config{PluginURL: sessionPlugin(t, cluster, sessionOffer)}))
	ctx, hangUp := context.WithCancel(t.Context())
	done := waiting(ctx, t, client)
	hangUp()
	require.ErrorIs(t, <-done, context.Canceled)
	require.Eventually(t, func() bool { return cluster.Open() == 0 && cluster.Running() == 0 }, 10*time.Second, time.Millisecond)
}

func TestClusterHangsUp(t *testing.T) {
	t.Parallel()
	cluster := interlinktest.NewCluster(t, "")
	plugin := sessionPlugin(t, cluster, sessionOffer)
	client := sessionClient(t, serve(t, api.Config{PluginURL: plugin}))
	done := waiting(t.Context(), t, client)
	cluster.HangUp()
	select {
	case err := <-done:
		require.Error(t, err)
	case <-time.NewTimer(10 * time.Second).C:
		require.Fail(t, "the caller was not told")
	}
}

func TestSessionsAreLimited(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		limits api.Limits
		text   string
	}{
		"each":         {api.Limits{SessionsPerClient: 1}, "429: this client has 1 connections into pods open, and no more are allowed"},
		"all together": {api.Limits{Sessions: 1}, "429: 1 connections into pods are open here, and no more are allowed"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cluster := interlinktest.NewCluster(t, "")
			client := sessionClient(t, serve(t, api.Config{PluginURL: sessionPlugin(t, cluster, sessionOffer), Limits: c.limits}))
			ctx, hangUp := context.WithCancel(t.Context())
			done := waiting(ctx, t, client)
			err := client.Exec(t.Context(), &interlink.Terminal{PodUID: sleepUID, Command: []string{"cat"}, Stdout: io.Discard})
			require.ErrorContains(t, err, c.text)
			hangUp()
			<-done
			require.Eventually(t, func() bool {
				err := client.Exec(t.Context(), &interlink.Terminal{PodUID: sleepUID, Command: []string{"flood", "1"}, Stdout: io.Discard})
				return err == nil
			}, 10*time.Second, 10*time.Millisecond)
		})
	}
}

func TestSessionsEndWithTheServer(t *testing.T) {
	t.Parallel()
	cluster := interlinktest.NewCluster(t, "")
	gateway, err := api.New(api.Config{PluginURL: sessionPlugin(t, cluster, sessionOffer)})
	require.NoError(t, err)
	server, err := httpserver.New(httpserver.Config{Address: "127.0.0.1:0", Handler: gateway.Handler(), GracePeriod: time.Minute})
	require.NoError(t, err)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- server.Run(ctx) }()
	done := waiting(t.Context(), t, sessionClient(t, "http://"+server.Addr().String()))
	stop()
	for _, channel := range []<-chan error{done, ended} {
		select {
		case <-channel:
		case <-time.NewTimer(10 * time.Second).C:
			require.Fail(t, "the session holds the server")
		}
	}
}
