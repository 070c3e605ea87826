// SPDX-License-Identifier: Apache-2.0

package proxy_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/cloudveneto/caas/internal/httpserver"
	"github.com/cloudveneto/caas/internal/httpserver/httpservertest"
	"github.com/cloudveneto/caas/multitenancy/proxy"
)

// serveFront serves the handler as the program does.
func serveFront(tb testing.TB, handler http.Handler, registry *prometheus.Registry) front {
	tb.Helper()
	base, pool, _ := serveTLS(tb, handler)
	return frontOf(tb, base, pool, registry)
}

func frontOf(tb testing.TB, base string, pool *x509.CertPool, registry *prometheus.Registry) front {
	tb.Helper()
	client := &http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}, ForceAttemptHTTP2: true, DisableCompression: true,
		MaxIdleConnsPerHost: 64,
	}}
	tb.Cleanup(client.CloseIdleConnections)
	return front{url: base, client: client, registry: registry}
}

// serveTLS also returns the file with the authority of the server's certificate.
func serveTLS(tb testing.TB, handler http.Handler) (base string, pool *x509.CertPool, caFile string) {
	tb.Helper()
	ca := httpservertest.NewCA(tb, "proxy")
	certificate, key := ca.Issue(tb, "proxy")
	dir := tb.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	for name, content := range map[string][]byte{"ca.crt": ca.PEM(), "tls.crt": certificate, "tls.key": key} {
		require.NoError(tb, os.WriteFile(path(name), content, 0o600))
	}
	server, err := httpserver.New(httpserver.Config{
		Address: "127.0.0.1:0", Handler: handler, MaxBody: -1, GracePeriod: 5 * time.Second,
		TLS: &httpserver.TLS{CertFile: path("tls.crt"), KeyFile: path("tls.key")},
	})
	require.NoError(tb, err)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { assert.NoError(tb, server.Run(ctx)) })
	tb.Cleanup(func() { cancel(); running.Wait() })
	return "https://" + server.Addr().String(), ca.Pool(), path("ca.crt")
}

type result struct {
	code   int
	body   string
	header http.Header
}

// do sends a request as a user; headers are pairs. The path is sent as it is, odd or not.
func (f front) do(tb testing.TB, token, method, path, body string, headers ...string) result {
	tb.Helper()
	request, err := http.NewRequestWithContext(tb.Context(), method, f.url, strings.NewReader(body))
	require.NoError(tb, err)
	at, query, _ := strings.Cut(path, "?")
	request.URL.Opaque, request.URL.RawQuery = "//"+request.URL.Host+at, query
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		request.Header.Add(headers[i], headers[i+1])
	}
	response, err := f.client.Do(request)
	require.NoError(tb, err)
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	require.NoError(tb, err)
	return result{response.StatusCode, string(content), response.Header}
}

// metrics is what /metrics would show.
func (f front) metrics(tb testing.TB) string {
	tb.Helper()
	answer := httptest.NewRecorder()
	promhttp.HandlerFor(f.registry, promhttp.HandlerOpts{}).ServeHTTP(answer, httptest.NewRequestWithContext(tb.Context(), http.MethodGet, "/metrics", http.NoBody))
	return answer.Body.String()
}

// TestRobotIsKnownSoon has a ServiceAccount come before the authorizer can tell whose it is.
func TestRobotIsKnownSoon(t *testing.T) {
	t.Parallel()
	b := newBackend(t)
	f := newFront(t, b, func(c *proxy.Config) { c.Limits = proxy.Limits{CallerTTL: time.Hour} })
	selector := func() string {
		require.Equal(t, http.StatusOK, f.do(t, "robot", http.MethodGet, core+"pods", "").code)
		last, _ := b.seen()
		return last.URL.Query().Get("labelSelector")
	}
	b.unready.Store(true)
	assert.Empty(t, selector())
	b.unready.Store(false)
	require.Eventually(t, func() bool { return selector() == "osn.infn.it/userid in ("+alice+")" }, 20*time.Second, 10*time.Millisecond)
}
