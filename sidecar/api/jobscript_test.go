// SPDX-License-Identifier: Apache-2.0

package api_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/cloudveneto/caas/internal/interlink"
	"github.com/cloudveneto/caas/sidecar/api"
)

func TestJobScripts(t *testing.T) {
	t.Parallel()
	var asked interlink.PluginPod
	builder := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/broken" {
			http.Error(w, "no", http.StatusInternalServerError)
			return
		}
		assert.NoError(t, json.NewDecoder(r.Body).Decode(&asked))
		_, _ = io.WriteString(w, "#!/bin/sh\n")
	}))
	t.Cleanup(builder.Close)
	plugin := newPluginDouble(t, text(`{}`))
	base := serve(t, api.Config{
		PluginURL:       plugin.URL,
		JobConfig:       &interlink.JobConfig{SingularityHub: interlink.SingularityHub{Server: "hub"}},
		JobScriptURLs:   []string{builder.URL + "/build", builder.URL + "/broken"},
		JobScriptClient: builder.Client(),
	})
	create := func(url string) answered {
		return send(t, http.MethodPost, base+"/create", `{"pod":{"metadata":{"uid":"u"}},"jobscriptURL":"`+url+`"}`)
	}
	require.Equal(t, http.StatusOK, create(builder.URL+"/build").code)
	assert.Equal(t, "hub", asked.JobConfig.SingularityHub.Server)
	assert.Empty(t, asked.JobScript)
	var got interlink.PluginPod
	require.NoError(t, json.Unmarshal(plugin.recorded()[0].Body, &got))
	assert.Equal(t, "#!/bin/sh\n", got.JobScript)
	assert.Equal(t, "hub", got.JobConfig.SingularityHub.Server)

	answer := create(builder.URL + "/broken")
	assert.Equal(t, http.StatusInternalServerError, answer.code)
	assert.Equal(t, "create: the job script builder answered 500\n", answer.body)
	assert.Equal(t, http.StatusBadRequest, create(builder.URL+"/other").code)
	assert.Len(t, plugin.recorded(), 1)
}

func TestNewRefusesBadConfigurations(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		cfg  api.Config
		want string
	}{
		"no plugin":       {api.Config{}, "scheme must be http, https or unix"},
		"no host":         {api.Config{PluginURL: "http://"}, "no host"},
		"bad form":        {api.Config{PluginURL: "http://x", CreateForm: "x"}, "create form"},
		"builder, no cfg": {api.Config{PluginURL: "http://x", JobScriptURLs: []string{"http://y"}}, "job script"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := api.New(test.cfg)
			require.ErrorContains(t, err, test.want)
		})
	}
	_, err := api.NewOIDC([]api.Issuer{{URL: "https://x"}})
	require.ErrorContains(t, err, "audience")
	_, err = api.NewOIDC([]api.Issuer{{URL: "https://x", Audience: "y", Client: &http.Client{}}})
	require.ErrorContains(t, err, "timeout")
}
