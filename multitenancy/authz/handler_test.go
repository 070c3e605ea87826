// SPDX-License-Identifier: Apache-2.0

package authz_test

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cloudveneto/caas/multitenancy/authz"
	"github.com/cloudveneto/caas/multitenancy/tenant"
)

// cluster answers lookups from a world of its own, and counts them.
type cluster struct {
	world

	mu    sync.Mutex
	asked []string
}

func (c *cluster) Object(_ context.Context, user string, key authz.Key) (authz.Object, authz.Knowledge) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked = append(c.asked, user+" "+key.String())
	object, knowledge := c.world.Object(key)
	if knowledge == authz.Unknown {
		knowledge = authz.Absent
	}
	return object, knowledge
}

func newAuthorizer(t *testing.T, facts authz.Facts, objects authz.Objects) (*authz.Authorizer, *prometheus.Registry) {
	t.Helper()
	registry := prometheus.NewRegistry()
	authorizer, err := authz.New(authz.Config{Rules: newRules(t, authz.Options{}), Facts: facts, Objects: objects, Metrics: registry})
	require.NoError(t, err)
	return authorizer, registry
}

func TestAuthorizerAsksForWhatItDoesNotKnow(t *testing.T) {
	t.Parallel()
	pod := key(resource("", "pods"), space, "mine")
	robot := by(accountOf(space, "robot", "uid-robot"))
	for name, test := range map[string]struct {
		request authz.Request
		known   []authz.Key
		passes  bool
		asked   int
	}{
		"all is known":           {ask("get", named("mine")), []authz.Key{pod, key(resource("", "namespaces"), "", space)}, true, 0},
		"object is not":          {ask("get", named("mine")), []authz.Key{key(resource("", "namespaces"), "", space)}, true, 1},
		"nothing is":             {ask("get", named("mine")), nil, true, 2},
		"nothing is, for robots": {ask("get", named("mine"), robot), nil, true, 3},
		"Bob's":                  {ask("get", named("his")), nil, false, 2},
		"does not exist":         {ask("get", named("new")), nil, false, 2},
		"apply":                  {ask("patch", named("new")), nil, true, 2},
		"list":                   {ask("list", selecting(in(tenant.LabelUserID, alice))), nil, true, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			facts := world{objects: map[authz.Key]authz.Object{}}
			for _, k := range test.known {
				facts.objects[k] = someWorld().objects[k]
			}
			objects := &cluster{world: someWorld()}
			authorizer, _ := newAuthorizer(t, facts, objects)
			verdict := authorizer.Decide(t.Context(), test.request)
			assert.Equal(t, test.passes, verdict.Outcome == authz.NoOpinion, verdict.Text)
			assert.Len(t, objects.asked, test.asked)
		})
	}
}

func TestHandler(t *testing.T) {
	t.Parallel()
	body := func(spec authorizationv1.SubjectAccessReviewSpec) string {
		review := authorizationv1.SubjectAccessReview{TypeMeta: metav1.TypeMeta{APIVersion: "authorization.k8s.io/v1", Kind: "SubjectAccessReview"}, Spec: spec}
		content, err := json.Marshal(review)
		require.NoError(t, err)
		return string(content)
	}
	get := func(name string) string {
		return string(reviewBody(t, userOf(alice, project), authorizationv1.ResourceAttributes{Verb: "get", Resource: "pods", Namespace: space, Name: name}))
	}
	huge := authorizationv1.ResourceAttributes{Verb: "list", Resource: "pods", Namespace: space, LabelSelector: &authorizationv1.LabelSelectorAttributes{
		Requirements: []metav1.LabelSelectorRequirement{in(tenant.LabelUserID, strings.Split(strings.Repeat(alice+",", 20_000), ",")...)},
	}}
	raw := authorizationv1.ResourceAttributes{Verb: "list", Resource: "pods", Namespace: space, LabelSelector: &authorizationv1.LabelSelectorAttributes{
		RawSelector: tenant.LabelUserID + "=" + alice,
	}}
	for name, test := range map[string]struct {
		method, body string
		code         int
		denied       bool
		reason       string
	}{
		"own":                         {body: get("mine"), code: 200},
		"Bob's":                       {body: get("his"), code: 200, denied: true, reason: "mt: not found or not yours"},
		"A65 many values":             {body: string(reviewBody(t, userOf(alice, project), huge)), code: 200, denied: true, reason: "mt: select"},
		"selector that nobody parsed": {body: string(reviewBody(t, userOf(alice, project), raw)), code: 200, denied: true, reason: "mt: select"},
		"A65 too large":               {body: `{"spec":{"user":"` + strings.Repeat("x", authz.MaxReview) + `"}}`, code: 200, denied: true, reason: "mt: the request is too large; use a shorter selector"},
		"no JSON":                     {body: `<html>`, code: 400},
		"nothing":                     {body: ``, code: 400},
		"old version":                 {body: strings.Replace(get("mine"), "/v1", "/v1beta1", 1), code: 400},
		"another kind":                {body: strings.Replace(get("mine"), "SubjectAccessReview", "TokenReview", 1), code: 400},
		"no attributes":               {body: body(authorizationv1.SubjectAccessReviewSpec{User: "x"}), code: 400},
		"both attributes":             {body: body(authorizationv1.SubjectAccessReviewSpec{User: "x", ResourceAttributes: &authorizationv1.ResourceAttributes{}, NonResourceAttributes: &authorizationv1.NonResourceAttributes{}}), code: 400},
		"empty attributes":            {body: body(authorizationv1.SubjectAccessReviewSpec{ResourceAttributes: &authorizationv1.ResourceAttributes{}}), code: 200, denied: true, reason: "mt: "},
		"non-resource":                {body: body(authorizationv1.SubjectAccessReviewSpec{NonResourceAttributes: &authorizationv1.NonResourceAttributes{Path: "/version", Verb: "get"}}), code: 200},
		"GET":                         {method: http.MethodGet, code: 405},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			authorizer, registry := newAuthorizer(t, someWorld(), &cluster{world: someWorld()})
			method := test.method
			if method == "" {
				method = http.MethodPost
			}
			recorder := httptest.NewRecorder()
			authorizer.Handler().ServeHTTP(recorder, httptest.NewRequestWithContext(t.Context(), method, authz.Path, strings.NewReader(test.body)))
			require.Equal(t, test.code, recorder.Code, recorder.Body.String())
			if test.code != http.StatusOK {
				return
			}
			answer := authorizationv1.SubjectAccessReview{}
			require.NoError(t, json.Unmarshal(recorder.Body.Bytes(), &answer))
			assert.Equal(t, "authorization.k8s.io/v1", answer.APIVersion)
			assert.False(t, answer.Status.Allowed, "never")
			assert.Equal(t, test.denied, answer.Status.Denied)
			assert.Contains(t, answer.Status.Reason, test.reason)
			count, err := testutil.GatherAndCount(registry, "mt_authz_decisions_total")
			require.NoError(t, err)
			assert.Equal(t, 1, count)
		})
	}
}

// TestMetricsAreBounded sends what callers may make up.
func TestMetricsAreBounded(t *testing.T) {
	t.Parallel()
	authorizer, registry := newAuthorizer(t, someWorld(), &cluster{world: someWorld()})
	for i := range 100 {
		odd := strings.Repeat("x", i+1)
		body := reviewBody(t, userOf(alice, project), authorizationv1.ResourceAttributes{Verb: odd, Group: odd, Resource: odd, Namespace: space, Name: odd, Subresource: odd})
		body2 := reviewBody(t, userOf(alice, project), authorizationv1.ResourceAttributes{Verb: "get", Group: odd, Resource: odd, Namespace: space, Name: odd})
		for _, content := range [][]byte{body, body2} {
			authorizer.Handler().ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(t.Context(), http.MethodPost, authz.Path, strings.NewReader(string(content))))
		}
	}
	count, err := testutil.GatherAndCount(registry, "mt_authz_decisions_total")
	require.NoError(t, err)
	assert.LessOrEqual(t, count, 2)
}

// limited answers nothing any more, whatever is asked for.
type limited struct{}

func (limited) Object(context.Context, string, authz.Key) (authz.Object, authz.Knowledge) {
	return authz.Object{}, authz.Limited
}

// TestMetricsAreBoundedForThoseWhoAskTooMuch sends kinds that are made up in namespaces that are, too: its verdict comes
// before the kind is looked at.
func TestMetricsAreBoundedForThoseWhoAskTooMuch(t *testing.T) {
	t.Parallel()
	authorizer, registry := newAuthorizer(t, someWorld(), limited{})
	for i := range 100 {
		odd := strings.Repeat("x", i+1)
		body := reviewBody(t, userOf(alice, project), authorizationv1.ResourceAttributes{Verb: "get", Resource: odd, Namespace: odd, Name: odd})
		recorder := httptest.NewRecorder()
		authorizer.Handler().ServeHTTP(recorder, httptest.NewRequestWithContext(t.Context(), http.MethodPost, authz.Path, strings.NewReader(string(body))))
		require.Contains(t, recorder.Body.String(), "too many requests")
	}
	count, err := testutil.GatherAndCount(registry, "mt_authz_decisions_total")
	require.NoError(t, err)
	assert.Equal(t, 1, count)
}
