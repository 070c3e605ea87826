// SPDX-License-Identifier: Apache-2.0

package api_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/cloudveneto/caas/internal/interlink"
	"github.com/cloudveneto/caas/sidecar/api"
)

// TestCallersAreTold: what each client has open, what waits for it, and how often it asked.
func TestCallersAreTold(t *testing.T) {
	t.Parallel()
	begun, end := make(chan struct{}, 2), make(chan struct{})
	plugin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		select {
		case begun <- struct{}{}:
		default: // later, nobody waits for it
		}
		<-end
		_, _ = w.Write([]byte("[]"))
	}))
	t.Cleanup(plugin.Close)
	registry := prometheus.NewRegistry()
	base := serve(t, api.Config{
		PluginURL: plugin.URL, Registry: registry, Limits: api.Limits{RequestsPerClient: 1},
		Authenticate: func(r *http.Request) (string, error) { return r.Header.Get("From"), nil },
	})
	caller := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	ask := func(client string) {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodDelete, base+interlink.PathDelete, strings.NewReader(`{"metadata":{"uid":"u"}}`))
		if assert.NoError(t, err) {
			request.Header.Set("From", client)
			answer, err := caller.Do(request)
			if assert.NoError(t, err) {
				assert.NoError(t, answer.Body.Close())
			}
		}
	}
	done := make(chan struct{}, 3)
	for _, client := range []string{"af", "af", "biology"} {
		go func() {
			ask(client)
			done <- struct{}{}
		}()
	}
	<-begun
	<-begun
	const busy = `
# HELP caas_interlink_client_requests_in_flight Requests of a client that are being answered.
# TYPE caas_interlink_client_requests_in_flight gauge
caas_interlink_client_requests_in_flight{client="af",kind="request"} 1
caas_interlink_client_requests_in_flight{client="biology",kind="request"} 1
# HELP caas_interlink_client_requests_total Requests of a client that is known to be who it is.
# TYPE caas_interlink_client_requests_total counter
caas_interlink_client_requests_total{client="af",kind="request"} 2
caas_interlink_client_requests_total{client="biology",kind="request"} 1
# HELP caas_interlink_client_requests_waiting Requests of a client that wait, because it has as many open as it may.
# TYPE caas_interlink_client_requests_waiting gauge
caas_interlink_client_requests_waiting{client="af",kind="request"} 1
caas_interlink_client_requests_waiting{client="biology",kind="request"} 0
`
	names := []string{"caas_interlink_client_requests_in_flight", "caas_interlink_client_requests_total", "caas_interlink_client_requests_waiting"}
	require.Eventually(t, func() bool { return testutil.GatherAndCompare(registry, strings.NewReader(busy), names...) == nil },
		20*time.Second, time.Millisecond)
	close(end)
	for range 3 {
		<-done
	}
	for i := range 150 {
		ask(fmt.Sprintf("user-%d", i))
	}
	count, err := testutil.GatherAndCount(registry, names[1])
	require.NoError(t, err)
	assert.Equal(t, 101, count, "a hundred names and one for all others")
}
