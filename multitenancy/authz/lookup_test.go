// SPDX-License-Identifier: Apache-2.0

package authz_test

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"

	"github.com/cloudveneto/caas/multitenancy/authz"
	"github.com/cloudveneto/caas/multitenancy/tenant"
)

// slowServer is an API server with one pod, which takes its time, breaks down when asked to, and counts.
func slowServer(t *testing.T, delay time.Duration, asked *atomic.Int64) *rest.Config {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		timer := time.NewTimer(delay)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-r.Context().Done():
			return
		}
		w.Header().Set("Content-Type", "application/json")
		var answer any
		switch {
		case strings.HasSuffix(r.URL.Path, "/pods/mine"):
			answer = metav1.PartialObjectMetadata{
				TypeMeta:   metav1.TypeMeta{APIVersion: "meta.k8s.io/v1", Kind: "PartialObjectMetadata"},
				ObjectMeta: metav1.ObjectMeta{Name: "mine", Namespace: space, UID: "u", Labels: map[string]string{tenant.LabelUserID: alice}},
			}
		case strings.HasSuffix(r.URL.Path, "/pods/broken"):
			w.WriteHeader(http.StatusInternalServerError)
			answer = metav1.Status{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}, Status: "Failure", Code: 500}
		default:
			w.WriteHeader(http.StatusNotFound)
			answer = metav1.Status{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}, Status: "Failure", Reason: metav1.StatusReasonNotFound, Code: 404}
		}
		assert.NoError(t, json.NewEncoder(w).Encode(answer))
	}))
	t.Cleanup(server.Close)
	return &rest.Config{Host: server.URL, QPS: -1}
}

func newLookup(t *testing.T, config *rest.Config, settings authz.LookupConfig) *authz.Lookup {
	t.Helper()
	client, err := metadata.NewForConfig(config)
	require.NoError(t, err)
	settings.Metadata = client
	settings.Version = func(r authz.Resource) (schema.GroupVersionResource, bool) {
		return schema.GroupVersionResource{Group: r.Group, Version: "v1", Resource: r.Resource}, r.Resource == "pods"
	}
	lookup, err := authz.NewLookup(settings)
	require.NoError(t, err)
	return lookup
}

func podKey(name string) authz.Key { return key(resource("", "pods"), space, name) }

func TestLookup(t *testing.T) {
	t.Parallel()
	var asked atomic.Int64
	lookup := newLookup(t, slowServer(t, 0, &asked), authz.LookupConfig{Burst: 100})
	object, knowledge := lookup.Object(t.Context(), alice, podKey("mine"))
	assert.Equal(t, authz.Known, knowledge)
	assert.Equal(t, authz.Object{UID: "u", Owner: tenant.Owner{UserID: alice}, Labels: map[string]string{tenant.LabelUserID: alice}}, object)
	for name, want := range map[string]authz.Knowledge{"absent": authz.Absent, "broken": authz.Unavailable} {
		_, knowledge := lookup.Object(t.Context(), alice, podKey(name))
		assert.Equal(t, want, knowledge, name)
	}
	_, knowledge = lookup.Object(t.Context(), alice, key(resource("", "widgets"), space, "x"))
	assert.Equal(t, authz.Unavailable, knowledge, "a kind that is not served")
}

func TestLookupIsSharedAndLimited(t *testing.T) {
	t.Parallel()
	var asked atomic.Int64
	lookup := newLookup(t, slowServer(t, 200*time.Millisecond, &asked), authz.LookupConfig{Rate: 0.001, Burst: 5})
	var together sync.WaitGroup
	for range 5 {
		together.Go(func() {
			_, knowledge := lookup.Object(t.Context(), alice, podKey("mine"))
			assert.Equal(t, authz.Known, knowledge)
		})
	}
	together.Wait()
	assert.Less(t, asked.Load(), int64(3), "those who ask at the same time ask once")
	_, knowledge := lookup.Object(t.Context(), alice, podKey("mine"))
	assert.Equal(t, authz.Limited, knowledge)
	_, knowledge = lookup.Object(t.Context(), bob, podKey("mine"))
	assert.Equal(t, authz.Known, knowledge, "others have limits of their own")
}

func TestLookupGivesUp(t *testing.T) {
	t.Parallel()
	var asked atomic.Int64
	lookup := newLookup(t, slowServer(t, time.Minute, &asked), authz.LookupConfig{Timeout: 50 * time.Millisecond})
	_, knowledge := lookup.Object(t.Context(), alice, podKey("mine"))
	assert.Equal(t, authz.Unavailable, knowledge)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, knowledge = lookup.Object(ctx, alice, podKey("mine"))
	assert.Equal(t, authz.Unavailable, knowledge)
}
