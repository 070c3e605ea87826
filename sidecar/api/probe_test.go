// SPDX-License-Identifier: Apache-2.0

package api_test

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/cloudveneto/caas/internal/httpserver"
	"github.com/cloudveneto/caas/internal/interlink"
	"github.com/cloudveneto/caas/internal/interlink/interlinktest"
	"github.com/cloudveneto/caas/sidecar/api"
)

// pings are the pings that the plugin got, in order.
func (p *pluginDouble) pings() []interlinktest.Request {
	p.mu.Lock()
	defer p.mu.Unlock()
	var pings []interlinktest.Request
	for _, request := range p.requests {
		if string(request.Body) == "[]" {
			pings = append(pings, request)
		}
	}
	return pings
}

// TestProbesAreNoClients: the plugin can tell the gateway's own question, and what it answers to that does not take away
// what it offers to clients.
func TestProbesAreNoClients(t *testing.T) {
	t.Parallel()
	plugin := newPluginDouble(t, text("ok")).says(`{"pluginExtensions":["stats/v1"]}`)
	gateway, err := api.New(api.Config{PluginURL: plugin.URL, Authenticate: func(*http.Request) (string, error) { return "af", nil }})
	require.NoError(t, err)
	t.Cleanup(gateway.Close)
	base := serveHandler(t, gateway.Handler(), httpserver.Config{})
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, base+"/pinglink", http.NoBody)
	require.NoError(t, err)
	request.Header.Set(interlink.HeaderProbe, "true")
	request.Header.Set(interlink.HeaderClient, "somebody-else")
	require.Equal(t, http.StatusOK, do(t, request).code)
	first := plugin.pings()[0]
	assert.Equal(t, []string{"af"}, first.Header.Values(interlink.HeaderClient), "a client cannot take another name")
	assert.Empty(t, first.Header.Get(interlink.HeaderProbe), "nor pose as the gateway")

	require.NoError(t, gateway.Ready(t.Context()))
	probe := plugin.pings()[1]
	assert.Equal(t, "true", probe.Header.Get(interlink.HeaderProbe))
	assert.Empty(t, probe.Header.Get(interlink.HeaderClient))

	// The offer of a client's ping outlives the answer to a probe that offers nothing.
	plugin.says(`{"status":"ok"}`)
	require.NoError(t, gateway.Ready(t.Context()))
	assert.Equal(t, http.StatusOK, send(t, http.MethodGet, base+interlink.PathStats, "").code)
}
