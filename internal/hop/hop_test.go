// SPDX-License-Identifier: Apache-2.0

package hop_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/cloudveneto/caas/internal/hop"
)

func request(t *testing.T, method, url string) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, http.NoBody)
	require.NoError(t, err)
	return r
}

func TestKubernetes(t *testing.T) {
	t.Parallel()
	for call, want := range map[string]string{
		"GET /api/v1/pods?watch=true&resourceVersion=7":                        "watch pods",
		"GET /api/v1/namespaces/cms/pods?limit=1":                              "list pods",
		"GET /api/v1/namespaces/cms/pods/p":                                    "get pods",
		"POST /api/v1/namespaces/cms/pods":                                     "create pods",
		"PATCH /api/v1/namespaces/cms/pods/p/status":                           "patch pods/status",
		"DELETE /api/v1/namespaces/cms/pods/p":                                 "delete pods",
		"DELETE /api/v1/namespaces/cms/pods":                                   "deletecollection pods",
		"GET /api/v1/namespaces/cms/pods/p/log?follow=true":                    "get pods/log",
		"GET /api/v1/namespaces/kube-system":                                   "get namespaces",
		"GET /api/v1/namespaces":                                               "list namespaces",
		"PUT /api/v1/namespaces/cms/finalize":                                  "update namespaces/finalize",
		"PUT /apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/n": "update leases",
		"POST /apis/authorization.k8s.io/v1/selfsubjectaccessreviews":          "create selfsubjectaccessreviews",
		"GET /apis/metrics.k8s.io/v1beta1/namespaces/cms/pods?labelSelector=a": "list pods",
		"GET /version":      "other",
		"OPTIONS /api/v1/a": "other a",
		"GET /":             "other",
	} {
		method, path, _ := strings.Cut(call, " ")
		assert.Equal(t, want, hop.Kubernetes(request(t, method, "http://cluster"+path)), call)
	}
}

type failing struct{ closed int }

func (*failing) RoundTrip(*http.Request) (*http.Response, error) { return nil, errors.New("unplugged") }

func (f *failing) CloseIdleConnections() { f.closed++ }

func TestTransport(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	far, err := hop.New(registry, "far-end", func(r *http.Request) string { return strings.Trim(r.URL.Path, "/") })
	require.NoError(t, err)
	_, err = hop.New(registry, "origin", hop.Kubernetes)
	require.NoError(t, err, "one registry, several hops")
	_, err = hop.New(registry, "origin", hop.Kubernetes)
	require.ErrorContains(t, err, `metrics of requests to "origin"`)
	during := make(chan float64, 1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		families, err := registry.Gather()
		assert.NoError(t, err)
		for _, family := range families {
			if family.GetName() == "caas_hop_requests_in_flight" {
				during <- family.GetMetric()[0].GetGauge().GetValue()
			}
		}
		w.WriteHeader(http.StatusTeapot)
	}))
	t.Cleanup(server.Close)
	answer, err := far.Transport(server.Client().Transport).RoundTrip(request(t, http.MethodGet, server.URL+"/create"))
	require.NoError(t, err)
	require.NoError(t, answer.Body.Close())
	assert.InDelta(t, 1, <-during, 0)
	below := &failing{}
	broken := far.Transport(below)
	_, err = broken.RoundTrip(request(t, http.MethodGet, server.URL+"/delete"))
	require.ErrorContains(t, err, "unplugged")
	(&http.Client{Transport: broken}).CloseIdleConnections()
	assert.Equal(t, 1, below.closed)
	require.NoError(t, testutil.GatherAndCompare(registry, strings.NewReader(`
# HELP caas_hop_requests_in_flight Requests that were sent and whose answer has not begun.
# TYPE caas_hop_requests_in_flight gauge
caas_hop_requests_in_flight{operation="create",to="far-end"} 0
caas_hop_requests_in_flight{operation="delete",to="far-end"} 0
`), "caas_hop_requests_in_flight"))
	assert.Equal(t, map[string]uint64{"create 418": 1, "delete 0": 1}, answers(t, registry))
}

// answers are how many there were, by operation and code.
func answers(t *testing.T, registry *prometheus.Registry) map[string]uint64 {
	t.Helper()
	families, err := registry.Gather()
	require.NoError(t, err)
	counts := map[string]uint64{}
	for _, family := range families {
		if family.GetName() != "caas_hop_duration_seconds" {
			continue
		}
		for _, metric := range family.GetMetric() {
			labels := map[string]string{}
			for _, label := range metric.GetLabel() {
				labels[label.GetName()] = label.GetValue()
			}
			counts[labels["operation"]+" "+labels["code"]] = metric.GetHistogram().GetSampleCount()
		}
	}
	return counts
}
