// SPDX-License-Identifier: Apache-2.0

package api_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/cloudveneto/caas/sidecar/api"
)

func pods(phases map[string]string) string {
	list := []string{}
	for uid, phase := range phases {
		list = append(list, fmt.Sprintf(`{"metadata":{"name":"p","uid":%q},"status":{"phase":%q}}`, uid, phase))
	}
	return "[" + strings.Join(list, ",") + "]"
}

func uids(t *testing.T, list string) []string {
	t.Helper()
	var elements []struct {
		UID      string `json:"UID"`
		Metadata struct {
			UID string `json:"uid"`
		} `json:"metadata"`
	}
	require.NoError(t, json.Unmarshal([]byte(list), &elements), list)
	found := []string{}
	for _, element := range elements {
		found = append(found, element.UID+element.Metadata.UID)
	}
	return found
}

// TestStatusCache follows upstream's rules: what may have changed is asked for,
// in one call; what the plugin does not mention is answered as it was last known.
func TestStatusCache(t *testing.T) {
	t.Parallel()
	var says atomic.Value
	says.Store(`[{"UID":"a","name":"p","n":1},{"UID":"b","name":"p","n":1},{"UID":"not-asked"},{"name":"without UID"}]`)
	plugin := newPluginDouble(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/delete" {
			_, _ = io.WriteString(w, "ok")
			return
		}
		_, _ = io.WriteString(w, says.Load().(string))
	}).says("")
	base := serve(t, api.Config{PluginURL: plugin.URL})
	status := func(phases map[string]string) string {
		answer := send(t, http.MethodGet, base+"/status", pods(phases))
		require.Equal(t, http.StatusOK, answer.code, answer.body)
		return answer.body
	}
	assert.ElementsMatch(t, []string{"a", "b"}, uids(t, status(map[string]string{"a": "Running", "b": "Succeeded", "c": "Pending"})))
	require.Len(t, plugin.recorded(), 1)
	assert.ElementsMatch(t, []string{"a", "b", "c"}, uids(t, string(plugin.recorded()[0].Body)), "unknown pods are asked for whatever their phase")

	says.Store(`[{"UID":"a","n":2}]`)
	answer := status(map[string]string{"a": "Running", "b": "Succeeded"})
	assert.ElementsMatch(t, []string{"a", "b"}, uids(t, answer))
	assert.Contains(t, answer, `"n":2`)
	assert.Equal(t, []string{"a"}, uids(t, string(plugin.recorded()[1].Body)), "the end of b is known")

	says.Store(`null`)
	assert.Equal(t, []string{"a"}, uids(t, status(map[string]string{"a": "Pending"})), "an unmentioned pod is answered from the cache")

	for _, body := range []string{"[]", "null", ""} {
		whole := send(t, http.MethodGet, base+"/status", body)
		assert.ElementsMatch(t, []string{"a", "b"}, uids(t, whole.body))
	}
	assert.Len(t, plugin.recorded(), 3, "the whole cache is answered without the plugin")

	require.Equal(t, http.StatusOK, send(t, http.MethodDelete, base+"/delete", `{"metadata":{"uid":"b"}}`).code)
	assert.Equal(t, []string{"a"}, uids(t, send(t, http.MethodGet, base+"/status", "[]").body))
	send(t, http.MethodPost, base+"/updateCache", "a")
	assert.Equal(t, "[]", send(t, http.MethodGet, base+"/status", "[]").body)

	says.Store(`{"not":"a list"}`)
	bad := send(t, http.MethodGet, base+"/status", pods(map[string]string{"a": "Running"}))
	assert.Equal(t, http.StatusInternalServerError, bad.code)
	assert.Contains(t, bad.body, "plugin's answer is not valid")
}

// TestDeleteBeatsALateStatus: a status asked for before a delete must not bring
// the pod back into the cache.
func TestDeleteBeatsALateStatus(t *testing.T) {
	t.Parallel()
	asked, release := make(chan struct{}), make(chan struct{})
	plugin := newPluginDouble(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/status" {
			close(asked)
			<-release
			_, _ = io.WriteString(w, `[{"UID":"a"}]`)
		}
	}).says("")
	base := serve(t, api.Config{PluginURL: plugin.URL})
	late := make(chan answered, 1)
	go func() { late <- send(t, http.MethodGet, base+"/status", pods(map[string]string{"a": "Running"})) }()
	<-asked
	require.Equal(t, http.StatusOK, send(t, http.MethodDelete, base+"/delete", `{"metadata":{"uid":"a"}}`).code)
	close(release)
	assert.Equal(t, "[]", (<-late).body)
	assert.Equal(t, "[]", send(t, http.MethodGet, base+"/status", "[]").body)
}

func TestCacheIsPerClientAndBounded(t *testing.T) {
	t.Parallel()
	plugin := newPluginDouble(t, func(w http.ResponseWriter, r *http.Request) {
		body := recordedBody(r)
		list := []string{}
		for _, uid := range uids(t, body) {
			list = append(list, fmt.Sprintf(`{"UID":%q,"padding":%q}`, uid, strings.Repeat("x", 100)))
		}
		_, _ = io.WriteString(w, "["+strings.Join(list, ",")+"]")
	}).says("")
	base := serve(t, api.Config{
		PluginURL:    plugin.URL,
		Authenticate: func(r *http.Request) (string, error) { return r.Header.Get("Test-Client"), nil },
		Cache:        api.CacheLimits{Pods: 3, Age: 2 * time.Second},
	})
	as := func(client, body string) []string {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, base+"/status", strings.NewReader(body))
		require.NoError(t, err)
		request.Header.Set("Test-Client", client)
		return uids(t, do(t, request).body)
	}
	assert.Equal(t, []string{"a"}, as("one", pods(map[string]string{"a": "Running"})))
	assert.Empty(t, as("two", "[]"), "a client sees its own pods only")
	for _, uid := range []string{"b", "c", "d"} {
		as("one", pods(map[string]string{uid: "Running"}))
	}
	assert.Equal(t, []string{"b", "c", "d"}, as("one", "[]"), "the least used went first")
	<-time.NewTimer(2200 * time.Millisecond).C
	assert.Empty(t, as("one", "[]"), "what nobody asked for expires")
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	plugin := newPluginDouble(t, text(`[{"UID":"a"}]`)).says("")
	registry := prometheus.NewRegistry()
	base := serve(t, api.Config{PluginURL: plugin.URL, Registry: registry})
	send(t, http.MethodGet, base+"/status", pods(map[string]string{"a": "Running"}))
	plugin.Close()
	send(t, http.MethodPost, base+"/delete", `{"metadata":{"uid":"b"}}`)
	expected := `
# HELP caas_interlink_status_cache_pods Pods in the status cache.
# TYPE caas_interlink_status_cache_pods gauge
caas_interlink_status_cache_pods 2
`
	require.NoError(t, testutil.GatherAndCompare(registry, strings.NewReader(expected), "caas_interlink_status_cache_pods"))
	count, err := testutil.GatherAndCount(registry, "caas_hop_duration_seconds")
	require.NoError(t, err)
	assert.Equal(t, 2, count, "/status with code 200, /delete with none")
	_, err = api.New(api.Config{PluginURL: plugin.URL, Registry: registry})
	require.Error(t, err, "two gateways cannot share a registry")
}
