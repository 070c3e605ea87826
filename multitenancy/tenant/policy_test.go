// SPDX-License-Identifier: Apache-2.0

package tenant_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/cloudveneto/caas/multitenancy/tenant"
)

func TestDefaultPolicy(t *testing.T) {
	t.Parallel()
	policy := tenant.DefaultPolicy()
	require.NoError(t, policy.Validate())
	for name, test := range map[string]struct {
		group, resource string
		class           tenant.Class
		writable        bool
	}{
		"pods":              {"", "pods", tenant.Owned, true},
		"pods/exec":         {"", "pods/exec", tenant.Owned, true},
		"secrets":           {"", "secrets", tenant.Owned, true},
		"services":          {"", "services", tenant.Shareable, true},
		"openstacknodes":    {"osnode.infn.it", "openstacknodes", tenant.Shareable, true},
		"events":            {"events.k8s.io", "events", tenant.Owned, false},
		"endpointslices":    {"discovery.k8s.io", "endpointslices", tenant.Owned, false},
		"roles":             {"rbac.authorization.k8s.io", "roles", tenant.System, false},
		"bindings":          {"", "bindings", tenant.Denied, false},
		"leases":            {"coordination.k8s.io", "leases", tenant.Denied, false},
		"other group":       {"evil.io", "pods", tenant.Unknown, false},
		"no such":           {"", "gadgets", tenant.Unknown, false},
		"deployments, core": {"", "deployments", tenant.Unknown, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			assert.Equal(t, test.class, policy.Class(test.group, test.resource))
			assert.Equal(t, test.writable, policy.Writable(test.group, test.resource))
		})
	}
	scope, allowed := policy.ClusterScope("", "namespaces", "get")
	assert.True(t, allowed)
	assert.Equal(t, tenant.OwnNamespace, scope)
	scope, allowed = policy.ClusterScope("storage.k8s.io", "storageclasses", "list")
	assert.True(t, allowed)
	assert.Equal(t, tenant.AllObjects, scope)
	_, allowed = policy.ClusterScope("", "namespaces", "list")
	assert.False(t, allowed)
	assert.True(t, policy.SystemObject("", "configmaps", "kube-root-ca.crt"))
	assert.False(t, policy.SystemObject("", "secrets", "kube-root-ca.crt"))
}

func TestParsePolicy(t *testing.T) {
	t.Parallel()
	policy, err := tenant.ParsePolicy([]byte(`
resources:
- {resources: [pods], class: shareable}
- {group: kubeflow.org, resources: [notebooks], class: owned}
adminGroups: [caas-admins]
trustedUsers: [system:serviceaccount:ops:robot]
`))
	require.NoError(t, err)
	assert.Equal(t, tenant.Shareable, policy.Class("", "pods"))
	assert.Equal(t, tenant.Owned, policy.Class("kubeflow.org", "notebooks"))
	assert.Equal(t, tenant.Owned, policy.Class("apps", "deployments"), "what is not named stays")
	assert.True(t, policy.Trusted(tenant.User{Name: "system:serviceaccount:ops:robot"}))
	assert.False(t, policy.Trusted(tenant.User{Name: "system:serviceaccount:caas-system:osnode-controller"}), "lists replace")
	require.NoError(t, policy.Validate())

	admin := tenant.User{Name: "ada", Groups: []string{"caas-admins"}}
	assert.Equal(t, tenant.Admin, policy.Identity(admin).Kind)
	login := member()
	login.Groups = append(login.Groups, "caas-admins")
	assert.Equal(t, tenant.Tenant, policy.Identity(login).Kind, "a provider's group makes no administrators")
	node := tenant.User{Name: "system:node:a", Groups: []string{"system:nodes", "caas-admins"}}
	assert.Equal(t, tenant.Node, policy.Identity(node).Kind)
	assert.Equal(t, tenant.Stranger, policy.Identity(tenant.User{Groups: []string{"system:unauthenticated", "caas-admins"}}).Kind)
}

// TestNamesakes have logged in, from where names may be anything.
func TestNamesakes(t *testing.T) {
	t.Parallel()
	policy := tenant.DefaultPolicy()
	policy.TrustedUsers = []string{"prometheus"}
	namesake := member()
	namesake.Name = "prometheus"
	assert.True(t, policy.Trusted(tenant.User{Name: "prometheus", Groups: []string{"system:authenticated"}}))
	assert.False(t, policy.Trusted(namesake))
	assert.Equal(t, tenant.Tenant, policy.Identity(namesake).Kind)
	assert.True(t, tenant.User{Name: "a"}.Among([]string{"a"}))
	assert.False(t, tenant.User{Name: "a"}.Among(nil))
	assert.False(t, tenant.User{Name: "a", Groups: []string{tenant.GroupAuthenticated}}.Among([]string{"a"}))
}

func TestParsePolicyRefuses(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		text string
		want []string
	}{
		"unknown key":       {"resurces: []", []string{"resurces"}},
		"unknown class":     {"resources: [{resources: [pods], class: mine}]", []string{`resources[0]: class "mine"`}},
		"no resources":      {"resources: [{class: owned}]", []string{"no resources"}},
		"twice":             {"resources: [{resources: [pods, pods], class: owned}]", []string{"pods is named twice"}},
		"shared secrets":    {"resources: [{resources: [secrets], class: shareable}]", []string{"secrets cannot be shareable"}},
		"everybody's":       {"resources: [{resources: [secrets], class: system}]", []string{"secrets cannot be system"}},
		"rights":            {"resources: [{group: rbac.authorization.k8s.io, resources: ['*'], class: owned}]", []string{"gets rights"}},
		"traffic":           {"resources: [{group: discovery.k8s.io, resources: [endpointslices], class: owned}]", []string{"traffic"}},
		"all and one":       {"resources: [{group: x.io, resources: [a, '*'], class: owned}]", []string{"stands alone"}},
		"read-only denied":  {"resources: [{group: x.io, resources: [a], class: denied, readOnly: true}]", []string{"no meaning"}},
		"cluster writes":    {"clusterScoped: [{resources: [nodes], verbs: [delete, create]}]", []string{`verb "delete"`, "about oneself"}},
		"cluster scope":     {"clusterScoped: [{resources: [nodes], verbs: [get], scope: mine}]", []string{`scope "mine"`}},
		"cluster all":       {"clusterScoped: [{resources: ['*'], verbs: [get]}]", []string{"has to be named"}},
		"everybody's admin": {"adminGroups: ['system:authenticated', '']", []string{"everybody is in", "adminGroups[1] is empty"}},
		"all at once":       {"resources: [{resources: [Pods], class: x}]\nsystemObjects: [{name: a}]", []string{"Pods", `class "x"`, "systemObjects[0]"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := tenant.ParsePolicy([]byte(test.text))
			for _, part := range test.want {
				require.ErrorContains(t, err, part)
			}
		})
	}
}

func FuzzParsePolicy(f *testing.F) {
	f.Add("resources: [{resources: [pods], class: shareable}]")
	f.Add("clusterScoped: [{resources: [nodes], verbs: [get]}]")
	f.Fuzz(func(t *testing.T, text string) {
		policy, err := tenant.ParsePolicy([]byte(text))
		if err != nil {
			return
		}
		require.NotEqual(t, tenant.Shareable, policy.Class("", "secrets"))
		require.False(t, policy.Writable("rbac.authorization.k8s.io", "rolebindings"))
	})
}
