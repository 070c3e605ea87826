// SPDX-License-Identifier: Apache-2.0

package interlink_test

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"

	"github.com/cloudveneto/caas/internal/interlink"
	"github.com/cloudveneto/caas/internal/interlink/interlinktest"
)

// requestType returns what a request's body is decoded into.
func requestType(t *testing.T, side, name string) any {
	t.Helper()
	switch kind, _, _ := strings.Cut(name, "-"); side + " " + kind {
	case "vk create":
		return &interlink.CreateRequest{}
	case "plugin create":
		if strings.HasSuffix(name, "array") {
			return &[]interlink.PluginPod{}
		}
		return &interlink.PluginPod{}
	case "vk status", "plugin status", "plugin ping":
		return &[]corev1.Pod{}
	case "vk delete", "plugin delete", "vk updatecache":
		return &corev1.Pod{}
	case "vk logs", "plugin logs":
		return &interlink.LogRequest{}
	}
	require.Fail(t, "no type for this request")
	return nil
}

// addedByNewer is what re-encoding adds to messages of old versions.
var addedByNewer = map[string]map[string]string{
	"vk/create-0.3": {"projectedvolumesmaps": "null", "jobscriptURL": `""`},
}

func TestRequestsAreDecodedWithoutLoss(t *testing.T) {
	t.Parallel()
	for _, side := range []string{"vk", "plugin"} {
		for name, recorded := range interlinktest.Requests(t, filepath.Join("testdata", side)) {
			if len(recorded.Body) == 0 || name == "create-0.4-array" {
				continue // no body; and see TestOldPluginRequests
			}
			t.Run(side+"/"+name, func(t *testing.T) {
				t.Parallel()
				message := requestType(t, side, name)
				require.NoError(t, json.Unmarshal(recorded.Body, message))
				encoded, err := json.Marshal(message)
				require.NoError(t, err)
				want := recorded.Body
				if added := addedByNewer[side+"/"+name]; added != nil {
					want = withFields(t, want, added)
				}
				assert.Equal(t, interlinktest.Canonical(t, want), interlinktest.Canonical(t, encoded))
			})
		}
	}
}

func withFields(t *testing.T, text []byte, added map[string]string) []byte {
	t.Helper()
	fields := map[string]json.RawMessage{}
	require.NoError(t, json.Unmarshal(text, &fields))
	for name, value := range added {
		fields[name] = json.RawMessage(value)
	}
	encoded, err := json.Marshal(fields)
	require.NoError(t, err)
	return encoded
}

func TestOldPluginRequests(t *testing.T) {
	t.Parallel()
	recorded := interlinktest.Requests(t, "testdata/plugin")["create-0.4-array"]
	var pods []interlink.PluginPod
	require.NoError(t, json.Unmarshal(recorded.Body, &pods))
	require.Len(t, pods, 1)
	assert.Equal(t, "sleep", pods[0].Pod.Name)
	assert.Equal(t, []interlink.PluginContainer{{Name: "main"}}, pods[0].Containers)
	assert.Equal(t, interlink.JobConfig{}, pods[0].JobConfig)
}

func TestAnswersAreDecodedWithoutLoss(t *testing.T) {
	t.Parallel()
	for name, message := range map[string]any{
		"created":             &interlink.Created{},
		"ping-0.6.2":          &interlink.PingResponse{},
		"ping-cleared-taints": &interlink.PingResponse{},
		"ping-extensions":     &interlink.PingResponse{},
		"statuses":            &[]interlink.PodStatus{},
		"statuses-null":       &[]interlink.PodStatus{},
		"event-status":        &interlink.StatusEvent{},
		"event-synced":        &interlink.StatusEvent{},
		"event-node":          &interlink.StatusEvent{},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			recorded := interlinktest.Answer(t, "testdata/answers", name)
			require.NoError(t, json.Unmarshal(recorded, message))
			encoded, err := json.Marshal(message)
			require.NoError(t, err)
			assert.Equal(t, interlinktest.Canonical(t, recorded), interlinktest.Canonical(t, encoded))
		})
	}
}

func TestNullAndEmptyListsDiffer(t *testing.T) {
	t.Parallel()
	encoded, err := json.Marshal(interlink.PluginPod{Containers: []interlink.PluginContainer{{Name: "main"}}})
	require.NoError(t, err)
	assert.Contains(t, string(encoded),
		`"container":[{"name":"main","configMaps":null,"projectedvolumemaps":null,"secrets":null,"emptyDirs":null}],"jobConfig":{`)
	assert.NotContains(t, string(encoded), `"jobScript"`)
	assert.NotContains(t, string(encoded), `"referenced"`)

	var ping interlink.PingResponse
	require.NoError(t, json.Unmarshal([]byte(`{}`), &ping))
	assert.Nil(t, ping.Taints, "absent taints leave the node's as they are")
	require.NoError(t, json.Unmarshal([]byte(`{"taints":[]}`), &ping))
	require.NotNil(t, ping.Taints, "an empty list clears them")
	assert.Empty(t, *ping.Taints)
}

func TestOnlyTheServersExtensionsCount(t *testing.T) {
	t.Parallel()
	var ping interlink.PingResponse
	require.NoError(t, json.Unmarshal(interlinktest.Answer(t, "testdata/answers", "ping-extensions"), &ping))
	assert.False(t, ping.Has(interlink.ExtensionStatusStream), "a plugin's offer alone, as upstream's API passes it on")
	ping.Extensions = []interlink.Extension{interlink.ExtensionStatusStream}
	assert.True(t, ping.Has(interlink.ExtensionStatusStream))
}
