// SPDX-License-Identifier: Apache-2.0

package api_test

import (
	"io"
	"net/http"
	"strings"
	"sync/atomic"
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

func TestExtensionsOfAPluginThatHasNotSaidYetWhatItOffers(t *testing.T) {
	t.Parallel()
	var usable atomic.Bool
	plugin := newPluginDouble(t, func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == interlink.PathStatus && !usable.Load():
			http.Error(w, "the target cluster does not answer", http.StatusServiceUnavailable)
		case r.URL.Path == interlink.PathStatus:
			_, _ = io.WriteString(w, `{"pluginExtensions":["status-stream/v1","stats/v1","update/v1"]}`)
		default:
			_, _ = io.WriteString(w, "{}")
		}
	}).says("")
	base := serve(t, api.Config{PluginURL: plugin.URL})
	for path, method := range map[string]string{
		interlink.PathStats: http.MethodGet, interlink.PathWatch: http.MethodGet, interlink.EphemeralPath(sleepUID): http.MethodPost,
		interlink.PodUpdatePath(sleepUID): http.MethodPost, interlink.PodStreamPath(sleepUID, interlink.StreamExec): http.MethodGet,
	} {
		got := send(t, method, base+path, "{}")
		assert.Equal(t, http.StatusServiceUnavailable, got.code, "%s: that it cannot be asked does not mean that it has no such thing", path)
		assert.Contains(t, got.body, "the target cluster does not answer", path)
	}
	usable.Store(true)
	assert.Equal(t, http.StatusOK, send(t, http.MethodPost, base+interlink.PathPing, "").code)
	assert.Equal(t, http.StatusOK, send(t, http.MethodGet, base+interlink.PathStats, "").code)
	assert.Equal(t, http.StatusNotFound, send(t, http.MethodPost, base+interlink.EphemeralPath(sleepUID), "{}").code)

	usable.Store(false)
	assert.Equal(t, http.StatusServiceUnavailable, send(t, http.MethodPost, base+interlink.PathPing, "").code)
	assert.Equal(t, http.StatusOK, send(t, http.MethodGet, base+interlink.PathStats, "").code, "what it said last counts")
}
