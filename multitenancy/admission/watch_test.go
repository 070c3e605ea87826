// SPDX-License-Identifier: Apache-2.0

package admission_test

import (
	"context"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"

	"github.com/cloudveneto/caas/multitenancy/admission"
	"github.com/cloudveneto/caas/multitenancy/tenant"
)

// listTime is what a list of the custom kind others takes.
const listTime = 1500 * time.Millisecond

// emptyCluster is an API server without objects, which cannot list one kind as long as it is broken.
type emptyCluster struct {
	broken atomic.Pointer[string]
	// kinds are the custom ones.
	kinds atomic.Pointer[string]
	// watches counts what is watched of the custom kind others.
	watches atomic.Int64
}

func (c *emptyCluster) RoundTrip(r *http.Request) (*http.Response, error) {
	answer := func(code int, body string) (*http.Response, error) {
		return &http.Response{
			StatusCode: code, Header: http.Header{"Content-Type": []string{"application/json"}}, Body: io.NopCloser(strings.NewReader(body)), Request: r,
		}, nil
	}
	const verbs = `"namespaced":true,"verbs":["list","watch","get"]`
	switch path := r.URL.Path; {
	case path == "/api":
		return answer(http.StatusOK, `{"kind":"APIVersions","versions":["v1"]}`)
	case path == "/apis":
		return answer(http.StatusOK, `{"kind":"APIGroupList","apiVersion":"v1","groups":[{"name":"example.org",`+
			`"versions":[{"groupVersion":"example.org/v1","version":"v1"}],"preferredVersion":{"groupVersion":"example.org/v1","version":"v1"}}]}`)
	case path == "/api/v1":
		return answer(http.StatusOK, `{"kind":"APIResourceList","groupVersion":"v1","resources":[`+
			`{"name":"pods","kind":"Pod",`+verbs+`},{"name":"secrets","kind":"Secret",`+verbs+`}]}`)
	case path == "/apis/example.org/v1":
		var kinds []string
		for kind := range strings.SplitSeq(*c.kinds.Load(), ",") {
			kinds = append(kinds, `{"name":"`+kind+`","kind":"K`+kind+`",`+verbs+`}`)
		}
		return answer(http.StatusOK, `{"kind":"APIResourceList","groupVersion":"example.org/v1","resources":[`+strings.Join(kinds, ",")+`]}`)
	case strings.HasSuffix(path, "/"+*c.broken.Load()):
		return answer(http.StatusInternalServerError, `{"kind":"Status","apiVersion":"v1","status":"Failure","code":500,"message":"conversion webhook"}`)
	case strings.HasSuffix(path, "/others") && r.URL.Query().Get("watch") == "":
		time.Sleep(listTime)
		return answer(http.StatusOK, emptyList(path))
	case r.URL.Query().Get("sendInitialEvents") != "":
		return answer(http.StatusUnprocessableEntity, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Invalid","code":422}`)
	case path == "/apis/example.org/v1/namespaces/cms/others/one":
		return answer(http.StatusOK, `{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1","metadata":{`+
			`"name":"one","namespace":"cms","uid":"u-1","labels":{"`+tenant.LabelUserID+`":"u-alice"}}}`)
	case strings.HasPrefix(path, "/apis/example.org/v1/namespaces/"):
		return answer(http.StatusNotFound, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"NotFound","code":404}`)
	case r.URL.Query().Get("watch") != "":
		if strings.HasSuffix(path, "/others") {
			c.watches.Add(1)
		}
		<-r.Context().Done()
		return nil, r.Context().Err()
	default:
		return answer(http.StatusOK, emptyList(path))
	}
}

// emptyList is of the type that the client of that kind wants.
func emptyList(path string) string {
	kind, version := "PartialObjectMetadataList", "meta.k8s.io/v1"
	switch path {
	case "/api/v1/namespaces":
		kind, version = "NamespaceList", "v1"
	case "/api/v1/nodes":
		kind, version = "NodeList", "v1"
	case "/api/v1/pods":
		kind, version = "PodList", "v1"
	}
	return `{"kind":"` + kind + `","apiVersion":"` + version + `","metadata":{"resourceVersion":"1"},"items":[]}`
}

func (c *emptyCluster) set(broken, kinds string) {
	c.broken.Store(&broken)
	c.kinds.Store(&kinds)
}

// TestBrokenKind has a kind that cannot be listed: after a while it holds up nobody but those who ask about it.
func TestBrokenKind(t *testing.T) {
	t.Parallel()
	policy := tenant.DefaultPolicy()
	policy.Resources = append(policy.Resources, tenant.Rule{Group: "example.org", Resources: []string{tenant.Any}, Class: tenant.Owned})
	custom := func(name string) schema.GroupResource {
		return schema.GroupResource{Group: "example.org", Resource: name}
	}
	secrets := schema.GroupResource{Resource: "secrets"}
	start := func(t *testing.T, server *emptyCluster) *admission.Watcher {
		t.Helper()
		watcher, err := admission.NewWatcher(&rest.Config{Host: "http://api", QPS: -1, Transport: server}, policy,
			admission.NewIndex(time.Minute, time.Now), admission.NewNodes())
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { assert.NoError(t, watcher.Run(ctx)) })
		t.Cleanup(func() {
			cancel()
			running.Wait()
		})
		time.Sleep(2 * time.Second)
		return watcher
	}
	for name, test := range map[string]func(t *testing.T){
		"from the beginning": func(t *testing.T) {
			server := &emptyCluster{}
			server.set("things", "things,others")
			watcher := start(t, server)
			require.ErrorContains(t, watcher.Ready(), "things.example.org are not all read yet")
			time.Sleep(10 * time.Second)
			require.NoError(t, watcher.Ready())
			require.NoError(t, watcher.ReadyFor(t.Context(), secrets))
			require.NoError(t, watcher.ReadyFor(t.Context(), custom("others")))
			require.ErrorContains(t, watcher.ReadyFor(t.Context(), custom("things")), "things.example.org are not all read yet")
		},
		"added later": func(t *testing.T) {
			server := &emptyCluster{}
			server.set("things", "others")
			watcher := start(t, server)
			require.NoError(t, watcher.Ready())
			server.set("things", "things,others")
			time.Sleep(time.Minute)
			require.NoError(t, watcher.Ready(), "nobody else waits for it")
			require.Error(t, watcher.ReadyFor(t.Context(), custom("things")))
		},
		"asked about when it is new": func(t *testing.T) {
			server := &emptyCluster{}
			server.set("none", "things")
			watcher := start(t, server)
			require.NoError(t, watcher.Ready())
			one := admission.Key{Resource: custom("others"), Namespace: "cms", Name: "one"}
			found, err := watcher.Lookup(t.Context(), one)
			require.NoError(t, err)
			assert.Nil(t, found, "there is no such kind")
			server.set("none", "things,others")
			found, err = watcher.Lookup(t.Context(), one)
			require.NoError(t, err)
			require.NotNil(t, found)
			assert.Equal(t, "u-alice", found.Owner.UserID)
			synctest.Wait()
			began := time.Now()
			require.ErrorContains(t, watcher.ReadyFor(t.Context(), custom("others")), "others.example.org are not all read yet")
			assert.Equal(t, time.Second, time.Since(began), "a request waits for its new kind a little")
			require.NoError(t, watcher.ReadyFor(t.Context(), custom("others")))
			assert.Greater(t, time.Since(began), listTime)
			time.Sleep(time.Second)
			assert.Positive(t, server.watches.Load(), "from now on it is watched")
			found, err = watcher.Lookup(t.Context(), admission.Key{Resource: custom("others"), Namespace: "cms", Name: "nobody"})
			require.NoError(t, err)
			assert.Nil(t, found)
			found, err = watcher.Lookup(t.Context(), admission.Key{Resource: schema.GroupResource{Group: "else.org", Resource: "others"}, Name: "one"})
			require.NoError(t, err)
			assert.Nil(t, found, "of such a kind users own nothing")
		},
		"Kubernetes' own": func(t *testing.T) {
			server := &emptyCluster{}
			server.set("secrets", "things")
			watcher := start(t, server)
			time.Sleep(time.Minute)
			require.ErrorContains(t, watcher.Ready(), "secrets are not all read yet")
			require.Error(t, watcher.ReadyFor(t.Context(), custom("things")), "what it refers to cannot be told")
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, test)
		})
	}
}
