// SPDX-License-Identifier: Apache-2.0

package httpserver_test

import (
	"context"
	"errors"
	"net/http"
	"sync/atomic"
	"testing"

	"github.com/gorilla/mux"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/cloudveneto/caas/internal/httpserver"
)

func runOps(t *testing.T, cfg httpserver.OpsConfig) string {
	t.Helper()
	cfg.Address = "127.0.0.1:0"
	server, err := httpserver.NewOps(cfg)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- server.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		assert.NoError(t, <-ended)
	})
	return "http://" + server.Addr().String()
}

func TestOps(t *testing.T) {
	t.Parallel()
	var broken atomic.Bool
	base := runOps(t, httpserver.OpsConfig{Registry: prometheus.NewRegistry(), Ready: func(context.Context) error {
		if broken.Load() {
			return errors.New("the plugin is away")
		}
		return nil
	}})
	code, text := get(t, plain, http.MethodGet, base+"/readyz", nil)
	assert.Equal(t, http.StatusOK, code)
	assert.Equal(t, "ok\n", text)
	broken.Store(true)
	code, text = get(t, plain, http.MethodGet, base+"/readyz", nil)
	assert.Equal(t, http.StatusServiceUnavailable, code)
	assert.Equal(t, "not ready: the plugin is away\n", text)
	code, _ = get(t, plain, http.MethodGet, base+"/healthz", nil)
	assert.Equal(t, http.StatusOK, code)
	code, _ = get(t, plain, http.MethodGet, base+"/debug/pprof/", nil)
	assert.Equal(t, http.StatusNotFound, code)

	base = runOps(t, httpserver.OpsConfig{Partly: func(context.Context) []string { return []string{"one of two is away"} }})
	code, text = get(t, plain, http.MethodGet, base+"/readyz", nil)
	assert.Equal(t, http.StatusOK, code)
	assert.Equal(t, "ok\nbut: one of two is away\n", text)

	base = runOps(t, httpserver.OpsConfig{Pprof: true})
	code, _ = get(t, plain, http.MethodGet, base+"/debug/pprof/goroutine?debug=1", nil)
	assert.Equal(t, http.StatusOK, code)
	code, _ = get(t, plain, http.MethodGet, base+"/metrics", nil)
	assert.Equal(t, http.StatusNotFound, code)
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	metrics, err := httpserver.NewMetrics(registry, "test")
	require.NoError(t, err)
	_, err = httpserver.NewMetrics(registry, "test")
	require.Error(t, err, "two servers of one name")
	_, err = httpserver.NewMetrics(registry, "other")
	require.NoError(t, err)

	router := mux.NewRouter()
	router.Use(metrics.Mux)
	router.HandleFunc("/pods/{name}", func(w http.ResponseWriter, r *http.Request) {
		if mux.Vars(r)["name"] == "bad" {
			panic("bad") //nolint:forbidigo // panics are under test
		}
		w.WriteHeader(http.StatusTeapot)
	})
	router.Handle("/fixed", metrics.Route("named", http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})))
	base, _ := run(t, httpserver.Config{Handler: router})
	for _, path := range []string{"/pods/a", "/pods/b", "/pods/bad", "/fixed"} {
		get(t, plain, "MADEUP", base+path, nil)
	}
	_, text := get(t, plain, http.MethodGet, runOps(t, httpserver.OpsConfig{Registry: registry})+"/metrics", nil)
	assert.Contains(t, text, `caas_http_request_duration_seconds_count{code="418",method="other",route="/pods/{name}",server="test"} 2`)
	assert.Contains(t, text, `caas_http_request_duration_seconds_count{code="500",method="other",route="/pods/{name}",server="test"} 1`)
	assert.Contains(t, text, `caas_http_request_duration_seconds_count{code="200",method="other",route="named",server="test"} 1`)
	assert.Contains(t, text, `caas_http_requests_in_flight{route="/pods/{name}",server="test"} 0`)
}
