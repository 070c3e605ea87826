// SPDX-License-Identifier: Apache-2.0

package clients_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/cloudveneto/caas/internal/interlink"
	"github.com/cloudveneto/caas/sidecar/clients"
)

// service answers with its name.
type service struct {
	name    string
	problem error
}

func (s service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_, _ = io.WriteString(w, s.name+" for "+r.Header.Get(interlink.HeaderClient))
}

func (s service) Ready(context.Context) error { return s.problem }

func route(t *testing.T, served map[string]clients.Service) (*clients.Router, *prometheus.Registry) {
	t.Helper()
	registry := prometheus.NewRegistry()
	router, err := clients.New(clients.Config{Served: served, Registry: registry})
	require.NoError(t, err)
	return router, registry
}

func ask(t *testing.T, router *clients.Router, path string, header http.Header) (int, string) {
	t.Helper()
	request := httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, http.NoBody)
	request.Header = header
	answer := httptest.NewRecorder()
	router.ServeHTTP(answer, request)
	return answer.Code, strings.TrimSpace(answer.Body.String())
}

func from(client string) http.Header {
	header := http.Header{}
	if client != "" {
		header.Set(interlink.HeaderClient, client)
	}
	return header
}

func probe() http.Header {
	header := http.Header{}
	header.Set(interlink.HeaderProbe, "true")
	return header
}

func TestClientsAreToldApart(t *testing.T) {
	t.Parallel()
	listed := map[string]clients.Service{"af": service{name: "af's"}, "default": service{name: "nobody's"}}
	open := map[string]clients.Service{"af": service{name: "af's"}, clients.Others: service{name: "everyone's"}}
	closed := map[string]clients.Service{"af": service{name: "af's"}}
	for name, test := range map[string]struct {
		served map[string]clients.Service
		client string
		code   int
		want   string
	}{
		"named":                  {closed, "af", http.StatusOK, "af's for af"},
		"not named":              {closed, "mallory", http.StatusForbidden, `the site does not know the client "mallory"`},
		"by letter":              {closed, "AF", http.StatusForbidden, `"AF"`},
		"without a name":         {closed, "", http.StatusForbidden, `"default"`},
		"without, but served":    {listed, "", http.StatusOK, "nobody's for"},
		"called default":         {listed, "default", http.StatusOK, "nobody's for default"},
		"others":                 {open, "mallory", http.StatusOK, "everyone's for mallory"},
		"others, without a name": {open, "", http.StatusOK, "everyone's for"},
		"called like the others": {closed, clients.Others, http.StatusForbidden, `"*"`},
		"a long name":            {closed, strings.Repeat("x", 5000), http.StatusForbidden, `xxx…"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			router, _ := route(t, test.served)
			code, text := ask(t, router, interlink.PathCreate, from(test.client))
			assert.Equal(t, test.code, code)
			assert.Contains(t, text, test.want)
			assert.Less(t, len(text), 400)
		})
	}
}

func TestReadyWhenOneIs(t *testing.T) {
	t.Parallel()
	router, registry := route(t, map[string]clients.Service{
		"af": service{}, "biology": service{problem: errors.New("the target cluster cannot be reached")},
	})
	require.NoError(t, router.Ready(t.Context()))
	assert.Equal(t, []string{`client "biology": the target cluster cannot be reached`}, router.Problems(t.Context()))
	code, text := ask(t, router, interlink.PathStatus, probe())
	assert.Equal(t, http.StatusOK, code)
	assert.JSONEq(t, `{"status":"ok"}`, text, "it offers nothing: nobody has asked for himself")
	code, _ = ask(t, router, interlink.PathCreate, probe())
	assert.Equal(t, http.StatusForbidden, code, "only a ping can be a probe")
	require.NoError(t, testutil.GatherAndCompare(registry, strings.NewReader(`
# HELP caas_sidecar_client_ready 1 when pods can be created for the client, else 0.
# TYPE caas_sidecar_client_ready gauge
caas_sidecar_client_ready{client="af"} 1
caas_sidecar_client_ready{client="biology"} 0
# HELP caas_sidecar_unknown_clients_total Requests that were refused because nobody serves their client.
# TYPE caas_sidecar_unknown_clients_total counter
caas_sidecar_unknown_clients_total 1
`)))

	router, _ = route(t, map[string]clients.Service{
		"b": service{problem: errors.New("away")}, "a": service{problem: errors.New("full")},
	})
	require.EqualError(t, router.Ready(t.Context()), `client "a": full; client "b": away`)
	code, text = ask(t, router, interlink.PathStatus, probe())
	assert.Equal(t, http.StatusServiceUnavailable, code)
	assert.Contains(t, text, "away")
}

func TestRouterNeedsSomebody(t *testing.T) {
	t.Parallel()
	_, err := clients.New(clients.Config{Registry: prometheus.NewRegistry()})
	require.Error(t, err)
}
