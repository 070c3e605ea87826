// SPDX-License-Identifier: Apache-2.0

package admission_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

// TestMakerOfNamespaces furnishes a project's namespace: what it makes there is nobody's.
func TestMakerOfNamespaces(t *testing.T) {
	t.Parallel()
	for resource, text := range map[string]string{
		"rbac.authorization.k8s.io/rolebindings": "metadata: {name: mt-tenant}\nroleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: mt-tenant}",
		"core/resourcequotas":                    "metadata: {name: project}\nspec: {hard: {pods: '1'}}",
		"core/limitranges":                       "metadata: {name: project}\nspec: {limits: []}",
		"networking.k8s.io/networkpolicies":      "metadata: {name: from-the-project}\nspec: {podSelector: {}}",
	} {
		made := parse(t, text)
		after, response := newWorld(t).decide(t, request{by: system("system:kube-mt-tenants"), resource: resource, object: made})
		assert.Empty(t, refused(response), resource)
		assert.Equal(t, made, after, resource)
		_, response = newWorld(t).decide(t, request{by: system("system:kube-mt-others"), resource: resource, object: made})
		assert.NotEmpty(t, refused(response), resource)
	}
	_, response := newWorld(t).decide(t, request{by: system("system:kube-mt-tenants"), resource: "core/pods", object: pod(t, "")})
	assert.NotEmpty(t, refused(response), "pods are somebody's")
}
