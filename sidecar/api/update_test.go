// SPDX-License-Identifier: Apache-2.0

package api_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/cloudveneto/caas/internal/interlink"
	"github.com/cloudveneto/caas/sidecar/api"
)

const (
	updateOffer = `{"pluginExtensions":["update/v1"]}`
	updatedUID  = "0a1b2c3d-0000-4000-8000-0123456789ab"
)

func TestUpdatesArePassedOn(t *testing.T) {
	t.Parallel()
	plugin := newPluginDouble(t, text("pod updated\n")).says(updateOffer)
	base := serve(t, api.Config{PluginURL: plugin.URL, Authenticate: func(*http.Request) (string, error) { return "alice", nil }})
	const body = `{"pod":{"metadata":{"uid":"` + updatedUID + `"},"future":1}}`
	for _, method := range []string{http.MethodPost, http.MethodPut} {
		answer := send(t, method, base+interlink.PodUpdatePath(updatedUID), body)
		assert.Equal(t, http.StatusOK, answer.code)
		assert.Equal(t, "pod updated\n", answer.body)
	}
	requests := plugin.recorded()
	require.Len(t, requests, 2)
	assert.Equal(t, http.MethodPost, requests[1].Method)
	assert.Equal(t, interlink.PodUpdatePath(updatedUID), requests[1].Path)
	assert.Equal(t, body, string(requests[1].Body), "as it came")
	assert.Equal(t, "alice", requests[1].Header.Get(interlink.HeaderClient), "the caller is the one that was authenticated")
}

func TestUpdatesAreRefused(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		offer, path, body string
		plugin            http.HandlerFunc
		code              int
		text              string
		refused           bool
	}{
		"upstream's plugin": {offer: "[]", code: http.StatusNotImplemented, text: "does not offer updates"},
		"no UID":            {offer: updateOffer, path: interlink.PodUpdatePath("x"), code: http.StatusBadRequest, text: "UUID"},
		"too large":         {offer: updateOffer, body: strings.Repeat("x", 5000), code: http.StatusRequestEntityTooLarge, text: "4096"},
		"the plugin's refusal": {offer: updateOffer, plugin: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set(interlink.HeaderRefusal, "true")
			http.Error(w, "no such image", http.StatusUnprocessableEntity)
		}, code: http.StatusUnprocessableEntity, text: "no such image", refused: true},
		"not this client's": {offer: updateOffer, plugin: func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, "no such pod", http.StatusNotFound)
		}, code: http.StatusNotFound, text: "no such pod"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if test.plugin == nil {
				test.plugin = text("pod updated\n")
			}
			if test.path == "" {
				test.path = interlink.PodUpdatePath(updatedUID)
			}
			plugin := newPluginDouble(t, test.plugin).says(test.offer)
			base := serve(t, api.Config{PluginURL: plugin.URL, Limits: api.Limits{MaxBody: 4096}})
			answer := send(t, http.MethodPost, base+test.path, test.body)
			assert.Equal(t, test.code, answer.code)
			assert.Contains(t, answer.body, test.text)
			assert.Equal(t, test.refused, answer.header.Get(interlink.HeaderRefusal) == "true")
		})
	}
}
