// SPDX-License-Identifier: Apache-2.0

package main_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	main "github.com/cloudveneto/caas/cmd/interlink-sidecar"
	"github.com/cloudveneto/caas/multitenancy/tenant"
	"github.com/cloudveneto/caas/sidecar/plugin"
	"github.com/cloudveneto/caas/sidecar/plugin/translate"
)

func TestTenantSelectors(t *testing.T) {
	t.Parallel()
	robot := tenant.Identity{Kind: tenant.Tenant, Owner: "me", Projects: []tenant.Project{{ID: "cms"}}}
	shared := translate.Policy{Annotations: map[string]string{tenant.AnnotationPolicy: tenant.PolicyShared}}
	for name, test := range map[string]struct {
		settings        plugin.Settings
		identity        tenant.Identity
		selector, nodes string
	}{
		"no tenant": {identity: tenant.Identity{Kind: tenant.Admin}},
		"private":   {identity: robot, selector: "osn.infn.it/userid=me", nodes: tenant.NodePoolLabel + " in (u-me)"},
		"shared": {
			settings: plugin.Settings{Policy: shared}, identity: robot,
			selector: "osn.infn.it/userid=me", nodes: tenant.NodePoolLabel + " in (p-cms,u-me)",
		},
		"the file says": {
			settings: plugin.Settings{Selector: "a=b", VisibleNodes: "c=d"}, identity: robot, selector: "a=b", nodes: "c=d",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := main.Restricted(test.settings, test.identity)
			assert.Equal(t, test.selector, got.Selector)
			assert.Equal(t, test.nodes, got.VisibleNodes)
		})
	}
}

// credential is client-go's transport below: the first token is refused, and another one is there afterwards.
type credential struct {
	next  http.RoundTripper
	token string
}

func (c *credential) RoundTrip(request *http.Request) (*http.Response, error) {
	request = request.Clone(request.Context())
	request.Header.Set("Authorization", c.token)
	answer, err := c.next.RoundTrip(request)
	if err == nil && answer.StatusCode == http.StatusUnauthorized {
		c.token = "new"
	}
	return answer, err
}

func TestRequestsOutliveTheToken(t *testing.T) {
	t.Parallel()
	var bodies []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		assert.NoError(t, err)
		bodies = append(bodies, r.Header.Get("Authorization")+" "+string(body))
		if r.Header.Get("Authorization") != "new" {
			w.WriteHeader(http.StatusUnauthorized)
		}
	}))
	t.Cleanup(server.Close)
	send := func(token string, body io.Reader) int {
		client := &http.Client{Transport: main.Again(&credential{next: server.Client().Transport, token: token})}
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL, body)
		require.NoError(t, err)
		answer, err := client.Do(request)
		require.NoError(t, err)
		require.NoError(t, answer.Body.Close())
		return answer.StatusCode
	}
	assert.Equal(t, http.StatusOK, send("old", strings.NewReader("a pod")))
	assert.Equal(t, []string{"old a pod", "new a pod"}, bodies, "the same request, with the new token")
	bodies = nil
	assert.Equal(t, http.StatusOK, send("new", strings.NewReader("a pod")))
	assert.Len(t, bodies, 1)
	bodies = nil
	assert.Equal(t, http.StatusUnauthorized, send("old", io.MultiReader(strings.NewReader("a stream"))), "what cannot be sent twice is not")
	assert.Len(t, bodies, 1)
}
