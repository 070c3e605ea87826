// SPDX-License-Identifier: Apache-2.0

package figures_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/cloudveneto/caas/internal/interlink"
	"github.com/cloudveneto/caas/sidecar/plugin/figures"
	"github.com/cloudveneto/caas/sidecar/plugin/table"
	"github.com/cloudveneto/caas/sidecar/plugin/translate"
)

// cluster answers the metrics API with an error code, or with one pod.
func cluster(t *testing.T, code int, life time.Duration) (source *figures.Source, asked *atomic.Int32) {
	t.Helper()
	asked = &atomic.Int32{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		assert.Equal(t, "/apis/metrics.k8s.io/v1beta1/namespaces/cms/pods", r.URL.Path)
		assert.Equal(t, "app.kubernetes.io/managed-by=interlink-sidecar,owner=me", r.URL.Query().Get("labelSelector"))
		if code != http.StatusOK {
			http.Error(w, "no", code)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = fmt.Fprint(w, `{"items":[
			{"metadata":{"name":"remote","namespace":"cms"},"timestamp":"2026-11-21T10:00:00Z","window":"10s",
			 "containers":[{"name":"main","usage":{"cpu":"1234567n","memory":"2Ki"}}]},
			{"metadata":{"name":"gone","namespace":"cms"},"timestamp":"2026-11-21T10:00:00Z","window":"10s","containers":[]}]}`)
	}))
	t.Cleanup(server.Close)
	client, err := kubernetes.NewForConfig(&rest.Config{Host: server.URL})
	require.NoError(t, err)
	pods := table.New()
	pods.Observe(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{
		Name: "remote", Namespace: "cms", UID: "r", Labels: map[string]string{translate.LabelUID: "u", translate.LabelOrigin: "default"},
	}})
	source, err = figures.New(figures.Config{Client: client, Table: pods, Namespaces: []string{"cms"}, Selector: "owner=me", Life: life})
	require.NoError(t, err)
	return source, asked
}

func TestFigures(t *testing.T) {
	t.Parallel()
	source, asked := cluster(t, http.StatusOK, time.Hour)
	var readers sync.WaitGroup
	for range 20 {
		readers.Go(func() {
			answer, err := source.Pods(t.Context(), table.Selection{Origin: "default"})
			assert.NoError(t, err)
			assert.True(t, answer.Available)
			if assert.Len(t, answer.Pods, 1, "only what is known to be ours") {
				assert.Equal(t, "u", answer.Pods[0].UID)
				assert.Equal(t, 10*time.Second, answer.Pods[0].Window.Duration)
				assert.Equal(t, []interlink.ContainerStats{{Name: "main", CPUNanoCores: 1234567, MemoryBytes: 2048}}, answer.Pods[0].Containers)
			}
		})
	}
	readers.Wait()
	assert.Equal(t, int32(1), asked.Load(), "all readers share one question")
	other, err := source.Pods(t.Context(), table.Selection{Origin: "somebody"})
	require.NoError(t, err)
	assert.Empty(t, other.Pods)
}

func TestClusterThatDoesNotTell(t *testing.T) {
	t.Parallel()
	for _, code := range []int{http.StatusNotFound, http.StatusForbidden, http.StatusServiceUnavailable} {
		source, asked := cluster(t, code, time.Hour)
		for range 3 {
			answer, err := source.Pods(t.Context(), table.Selection{Origin: "default"})
			require.NoError(t, err)
			assert.False(t, answer.Available, code)
			assert.NotNil(t, answer.Pods)
			assert.Empty(t, answer.Pods, code)
		}
		assert.Equal(t, int32(1), asked.Load(), "that there is none is remembered, too")
	}
}

func TestAnswersGrowOld(t *testing.T) {
	t.Parallel()
	source, asked := cluster(t, http.StatusOK, time.Nanosecond)
	for range 3 {
		_, err := source.Pods(t.Context(), table.Selection{Origin: "default"})
		require.NoError(t, err)
	}
	assert.Equal(t, int32(3), asked.Load())
}
