// SPDX-License-Identifier: Apache-2.0

package authz_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	apiserverv1 "k8s.io/apiserver/pkg/apis/apiserver/v1"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/yaml"

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
	lookup := newLookup(t, slowServer(t, 0, &asked), authz.LookupConfig{Burst: 100, Timeout: 20 * time.Second})
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

// slow is an API server with one pod, without a network. In a bubble of synctest its delay begins when all have asked.
type slow struct {
	delay time.Duration
	asked atomic.Int64
}

func (s *slow) RoundTrip(r *http.Request) (*http.Response, error) {
	s.asked.Add(1)
	timer := time.NewTimer(s.delay)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
	body := `{"apiVersion":"meta.k8s.io/v1","kind":"PartialObjectMetadata","metadata":{"name":"mine","uid":"u","labels":{"osn.infn.it/userid":"` + alice + `"}}}`
	return &http.Response{
		StatusCode: http.StatusOK, Header: http.Header{"Content-Type": []string{"application/json"}}, Body: io.NopCloser(strings.NewReader(body)), Request: r,
	}, nil
}

func TestLookupIsSharedAndLimited(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		server := &slow{delay: 200 * time.Millisecond}
		lookup := newLookup(t, &rest.Config{Host: "http://api", QPS: -1, Transport: server}, authz.LookupConfig{Rate: 0.001, Burst: 5})
		var together sync.WaitGroup
		for range 5 {
			together.Go(func() {
				_, knowledge := lookup.Object(t.Context(), alice, podKey("mine"))
				assert.Equal(t, authz.Known, knowledge)
			})
		}
		together.Wait()
		assert.EqualValues(t, 1, server.asked.Load(), "those who ask at the same time ask once")
		_, knowledge := lookup.Object(t.Context(), alice, podKey("mine"))
		assert.Equal(t, authz.Limited, knowledge)
		_, knowledge = lookup.Object(t.Context(), bob, podKey("mine"))
		assert.Equal(t, authz.Known, knowledge, "others have limits of their own")
	})
}

// TestBusyAPIServer has it take seconds for the owner's question, or for ever: the decision comes before the API server that
// asked for it gives up.
func TestBusyAPIServer(t *testing.T) {
	t.Parallel()
	configured, err := newRules(t, authz.Options{}).AuthorizationConfiguration("/k")
	require.NoError(t, err)
	var configuration apiserverv1.AuthorizationConfiguration
	require.NoError(t, yaml.Unmarshal(configured, &configuration))
	patience := configuration.Authorizers[1].Webhook.Timeout.Duration
	for name, test := range map[string]struct {
		delay time.Duration
		want  authz.Outcome
	}{
		"soon enough": {5 * time.Second, authz.NoOpinion},
		"never":       {time.Hour, authz.Deny},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				lookup := newLookup(t, &rest.Config{Host: "http://api", QPS: -1, Transport: &slow{delay: test.delay}}, authz.LookupConfig{})
				authorizer, _ := newAuthorizer(t, someWorld().with(podKey("mine"), authz.Unknown), lookup)
				began := time.Now()
				verdict := authorizer.Decide(t.Context(), ask("get", named("mine")))
				assert.Equal(t, test.want, verdict.Outcome, verdict.Text)
				assert.Less(t, time.Since(began), patience)
				if test.want == authz.Deny {
					assert.Equal(t, authz.ReasonUnavailable, verdict.Reason)
				}
				synctest.Wait()
			})
		})
	}
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
