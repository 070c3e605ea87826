// SPDX-License-Identifier: Apache-2.0

package api_test

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/cloudveneto/caas/internal/interlink"
	"github.com/cloudveneto/caas/sidecar/api"
)

func TestShortRequestsOfExtensionsAreRelayed(t *testing.T) {
	t.Parallel()
	plugin := newPluginDouble(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case interlink.PathStats:
			_, _ = io.WriteString(w, `{"available":true,"query":"`+r.URL.RawQuery+`"}`)
		case interlink.EphemeralPath(sleepUID):
			w.Header().Set(interlink.HeaderRefusal, "true")
			http.Error(w, "no: "+recordedBody(r), http.StatusUnprocessableEntity)
		}
	}).says(`{"pluginExtensions":["stats/v1","ephemeral/v1"]}`)
	base := serve(t, api.Config{PluginURL: plugin.URL, Limits: api.Limits{MaxBody: 1000}})
	got := send(t, http.MethodGet, base+interlink.PathStats+"?cluster=c1&node=vk1", "")
	assert.Equal(t, http.StatusOK, got.code)
	assert.JSONEq(t, `{"available":true,"query":"cluster=c1&node=vk1"}`, got.body)

	got = send(t, http.MethodPost, base+interlink.EphemeralPath(sleepUID), "the pod")
	assert.Equal(t, http.StatusUnprocessableEntity, got.code)
	assert.Equal(t, "no: the pod", strings.TrimSpace(got.body))
	assert.Equal(t, "true", got.header.Get(interlink.HeaderRefusal))

	sent := len(plugin.recorded())
	assert.Equal(t, http.StatusBadRequest, send(t, http.MethodPost, base+interlink.EphemeralPath("Not-A-UID"), "{}").code)
	assert.Equal(t, http.StatusRequestEntityTooLarge, send(t, http.MethodPost, base+interlink.EphemeralPath(sleepUID), strings.Repeat("x", 2000)).code)
	assert.Len(t, plugin.recorded(), sent, "neither reaches the plugin")
}

func TestExtensionsThatThePluginDoesNotOffer(t *testing.T) {
	t.Parallel()
	plugin := newPluginDouble(t, text("it answers anyway")).says(`{"pluginExtensions":["status-stream/v1"]}`)
	base := serve(t, api.Config{PluginURL: plugin.URL})
	got := send(t, http.MethodGet, base+interlink.PathStats, "")
	assert.Equal(t, http.StatusNotFound, got.code)
	assert.Contains(t, got.body, "does not offer")
	assert.Equal(t, http.StatusNotFound, send(t, http.MethodPost, base+interlink.EphemeralPath(sleepUID), "{}").code)
	require.Empty(t, plugin.recorded())
}
