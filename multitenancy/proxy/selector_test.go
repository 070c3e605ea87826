// SPDX-License-Identifier: Apache-2.0

package proxy_test

import (
	"net/http"
	"net/url"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/cloudveneto/caas/multitenancy/proxy"
	"github.com/cloudveneto/caas/multitenancy/tenant"
)

const (
	core    = "/api/v1/namespaces/cms/"
	nodes   = "/apis/osnode.infn.it/v1/namespaces/cms/openstacknodes"
	mine    = "osn.infn.it/userid in (" + alice + ")"
	visible = "osn.infn.it/visible-to in (" + alice + ",project)"
	pools   = "osn.infn.it.node-restriction.kubernetes.io/pool in (p-" + project + ",u-" + alice + ")"
)

func TestSelectorAdded(t *testing.T) {
	t.Parallel()
	b := newBackend(t)
	f := newFront(t, b)
	for name, test := range map[string]struct{ token, method, path, selector string }{
		"pods":                {"alice", http.MethodGet, core + "pods", mine},
		"watch":               {"alice", http.MethodGet, core + "pods?watch=true&resourceVersion=7", mine},
		"own selector":        {"alice", http.MethodGet, core + "pods?labelSelector=app%3Dx%2Ctier+notin+%28a%2Cb%29", "app=x,tier notin (a,b)," + mine},
		"empty selector":      {"alice", http.MethodGet, core + "pods?labelSelector=", mine},
		"blank selector":      {"alice", http.MethodGet, core + "pods?labelSelector=+", mine},
		"other selection":     {"alice", http.MethodGet, core + "events?fieldSelector=metadata.name%3Dx", mine},
		"apps":                {"alice", http.MethodGet, "/apis/apps/v1/namespaces/cms/deployments?limit=500", mine},
		"shareable":           {"alice", http.MethodGet, nodes, visible},
		"config maps":         {"alice", http.MethodGet, core + "configmaps", visible},
		"deletion":            {"alice", http.MethodDelete, core + "pods", mine},
		"shareable deletion":  {"alice", http.MethodDelete, nodes, mine},
		"deletion of visible": {"alice", http.MethodDelete, core + "configmaps?labelSelector=osn.infn.it%2Fvisible-to%3Dproject", "osn.infn.it/visible-to=project," + mine},
		"nodes":               {"alice", http.MethodGet, "/api/v1/nodes?limit=500", pools},
		"volumes":             {"alice", http.MethodGet, "/api/v1/persistentvolumes", mine},
		"trailing slash":      {"alice", http.MethodGet, core + "pods/", mine},
		"bob":                 {"bob", http.MethodGet, core + "pods", "osn.infn.it/userid in (" + bob + ")"},
		"ServiceAccount":      {"robot", http.MethodGet, core + "pods", mine},
		"robot's nodes":       {"robot", http.MethodGet, "/api/v1/nodes", pools},
	} {
		t.Run(name, func(t *testing.T) {
			got := f.do(t, test.token, test.method, test.path, "")
			require.Equal(t, result{http.StatusOK, "passed", got.header}, got)
			passed, _ := b.seen()
			sent, err := url.Parse(test.path)
			require.NoError(t, err)
			want := sent.Query()
			want.Set("labelSelector", test.selector)
			assert.Equal(t, want, passed.URL.Query())
			assert.Equal(t, sent.Path, passed.URL.Path)
			assert.Equal(t, "Bearer "+test.token, passed.Header.Get("Authorization"))
		})
	}
}

func TestSelectorLeftAlone(t *testing.T) {
	t.Parallel()
	b := newBackend(t)
	f := newFront(t, b)
	for name, test := range map[string]struct{ token, method, path string }{
		"own id":               {"alice", http.MethodGet, core + "pods?labelSelector=osn.infn.it%2Fuserid%3D" + alice},
		"somebody else's":      {"alice", http.MethodGet, core + "pods?labelSelector=osn.infn.it%2Fuserid%3D" + bob},
		"any":                  {"alice", http.MethodGet, core + "pods?labelSelector=osn.infn.it%2Fuserid"},
		"what is shown":        {"alice", http.MethodGet, nodes + "?labelSelector=osn.infn.it%2Fvisible-to%3Dproject"},
		"own pool":             {"alice", http.MethodGet, "/api/v1/nodes?labelSelector=osn.infn.it.node-restriction.kubernetes.io%2Fpool%3Dp-x"},
		"two selectors":        {"alice", http.MethodGet, core + "pods?labelSelector=a%3Db&labelSelector="},
		"malformed selector":   {"alice", http.MethodGet, core + "pods?labelSelector=%28%28"},
		"malformed query":      {"alice", http.MethodGet, core + "pods?limit=5;labelSelector=a&%zz"},
		"odd order":            {"alice", http.MethodGet, core + "pods/x?b=2&a=1&&c"},
		"named":                {"alice", http.MethodGet, core + "pods/x?watch=true"},
		"log":                  {"alice", http.MethodGet, core + "pods/x/log?follow=true"},
		"create":               {"alice", http.MethodPost, core + "pods"},
		"system":               {"alice", http.MethodGet, core + "resourcequotas"},
		"denied":               {"alice", http.MethodGet, "/apis/coordination.k8s.io/v1/namespaces/cms/leases"},
		"unknown":              {"alice", http.MethodGet, "/apis/example.org/v1/namespaces/cms/things"},
		"all namespaces":       {"alice", http.MethodGet, "/api/v1/pods"},
		"namespaces":           {"alice", http.MethodGet, "/api/v1/namespaces"},
		"storage classes":      {"alice", http.MethodGet, "/apis/storage.k8s.io/v1/storageclasses"},
		"deprecated watch":     {"alice", http.MethodGet, "/api/v1/watch/namespaces/cms/pods"},
		"deprecated in groups": {"alice", http.MethodGet, "/apis/apps/v1/watch/namespaces/cms/deployments"},
		"discovery":            {"alice", http.MethodGet, "/apis?timeout=32s"},
		"odd path":             {"alice", http.MethodGet, "/api/v1/namespaces/cms/secrets//s-b"},
		"escaped path":         {"alice", http.MethodGet, "/api/v1/namespaces/cms/services/http:x%2Fy:80/proxy/a%2Fb/../c"},
		"double slash":         {"alice", http.MethodGet, "//api//v1/pods"},
		"short":                {"alice", http.MethodGet, "/api/v1/watch"},
		"administrator":        {"admin", http.MethodGet, core + "pods"},
		"trusted operator":     {"operator", http.MethodGet, core + "pods"},
		"another's robot":      {"stale", http.MethodGet, core + "pods"},
		"site's robot":         {"site", http.MethodGet, core + "pods"},
		"unknown token":        {"nobody", http.MethodGet, core + "pods"},
	} {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, "passed", f.do(t, test.token, test.method, test.path, "").body)
			passed, _ := b.seen()
			assert.Equal(t, test.path, passed.RequestURI)
		})
	}
	f.do(t, "admin", http.MethodGet, core+"pods", "", "Impersonate-User", "alice")
	passed, _ := b.seen()
	assert.Equal(t, "alice", passed.Header.Get("Impersonate-User"))
	assert.Empty(t, passed.URL.RawQuery)
}

func TestListProject(t *testing.T) {
	t.Parallel()
	b := newBackend(t)
	f := newFront(t, b, func(c *proxy.Config) { c.ListProject = true })
	for path, want := range map[string]string{core + "pods": "", core + "secrets": mine, nodes: ""} {
		f.do(t, "alice", http.MethodGet, path, "")
		passed, _ := b.seen()
		assert.Equal(t, want, passed.URL.Query().Get("labelSelector"), path)
	}
	f.do(t, "alice", http.MethodDelete, core+"pods", "")
	passed, _ := b.seen()
	assert.Equal(t, mine, passed.URL.Query().Get("labelSelector"))
}

func TestPolicy(t *testing.T) {
	t.Parallel()
	policy, err := tenant.ParsePolicy([]byte("resources: [{group: example.org, resources: [things], class: owned}]"))
	require.NoError(t, err)
	b := newBackend(t)
	f := newFront(t, b, func(c *proxy.Config) { c.Policy = policy })
	f.do(t, "alice", http.MethodGet, "/apis/example.org/v1/namespaces/cms/things", "")
	passed, _ := b.seen()
	assert.Equal(t, mine, passed.URL.Query().Get("labelSelector"))
}
