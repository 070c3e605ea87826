// SPDX-License-Identifier: Apache-2.0

package interlink_test

import (
	"encoding/json"
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cloudveneto/caas/internal/interlink"
)

func TestUpdate(t *testing.T) {
	t.Parallel()
	code := http.StatusOK
	client := newClient(t, func(w http.ResponseWriter, r *http.Request) {
		var request interlink.CreateRequest
		assert.NoError(t, json.NewDecoder(r.Body).Decode(&request))
		assert.Equal(t, "p", request.Pod.Name)
		assert.Equal(t, http.MethodPost, r.Method)
		assert.Equal(t, "/caas/v1/pods/u-1/update", r.URL.Path)
		assert.Contains(t, r.Header.Get(interlink.HeaderSession), "UpdatePod#")
		w.WriteHeader(code)
	})
	request := &interlink.CreateRequest{Pod: corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p", UID: "u-1"}}}
	require.NoError(t, client.Update(t.Context(), request))
	code = http.StatusConflict
	err := client.Update(t.Context(), request)
	assert.True(t, interlink.IsConflict(err))
	assert.False(t, interlink.IsRefused(err))
}

func TestPathsOfUpdates(t *testing.T) {
	t.Parallel()
	uid, ok := interlink.ParsePodUpdatePath(interlink.PodUpdatePath("a-b"))
	assert.True(t, ok)
	assert.Equal(t, "a-b", uid)
	for _, path := range []string{"/update", "/caas/v1/pods/", "/caas/v1/pods/update", "/caas/v1/pods//update", "/caas/v1/pods/u/x/update", "/caas/v1/pods/u/update/x"} {
		_, ok := interlink.ParsePodUpdatePath(path)
		assert.False(t, ok, path)
	}
}
