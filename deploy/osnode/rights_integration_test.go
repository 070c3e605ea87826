// SPDX-License-Identifier: Apache-2.0

//go:build integration

package osnode_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// right is something that the controller may, or may not do.
type right struct {
	verbs                        []string
	group, resource, subresource string
	namespace, name              string
}

func TestIntegrationControllerRights(t *testing.T) {
	s := newSite(t)
	controller := s.client(s.controllerConfig())
	const signer = "kubernetes.io/kube-apiserver-client-kubelet"
	read := []string{"get", "list", "watch"}
	may := map[string]right{
		"OpenStackNodes":              {verbs: append([]string{"create", "patch", "update", "delete", "administer"}, read...), group: "osnode.infn.it", resource: "openstacknodes"},
		"their status":                {verbs: []string{"patch", "update"}, group: "osnode.infn.it", resource: "openstacknodes", subresource: "status"},
		"pools":                       {verbs: append([]string{"patch", "update"}, read...), group: "osnode.infn.it", resource: "openstacknodepools"},
		"pools' status":               {verbs: []string{"patch", "update"}, group: "osnode.infn.it", resource: "openstacknodepools", subresource: "status"},
		"Nodes":                       {verbs: append([]string{"create", "patch", "update", "delete"}, read...), resource: "nodes"},
		"pods":                        {verbs: append([]string{"delete"}, read...), resource: "pods"},
		"evict":                       {verbs: []string{"create"}, resource: "pods", subresource: "eviction"},
		"DaemonSets":                  {verbs: read, group: "apps", resource: "daemonsets"},
		"claims":                      {verbs: read, resource: "persistentvolumeclaims"},
		"attachments":                 {verbs: read, group: "storage.k8s.io", resource: "volumeattachments"},
		"namespaces":                  {verbs: read, resource: "namespaces"},
		"events":                      {verbs: []string{"create", "patch"}, group: "events.k8s.io", resource: "events"},
		"requests":                    {verbs: append([]string{"delete"}, read...), group: "certificates.k8s.io", resource: "certificatesigningrequests"},
		"approval":                    {verbs: []string{"update"}, group: "certificates.k8s.io", resource: "certificatesigningrequests", subresource: "approval"},
		"client certificates":         {verbs: []string{"approve"}, group: "certificates.k8s.io", resource: "signers", name: signer},
		"serving certificates":        {verbs: []string{"approve"}, group: "certificates.k8s.io", resource: "signers", name: "kubernetes.io/kubelet-serving"},
		"tokens":                      {verbs: []string{"create", "get", "list", "patch", "update", "delete"}, resource: "secrets", namespace: "kube-system"},
		"lease":                       {verbs: []string{"create", "get", "update", "patch"}, group: "coordination.k8s.io", resource: "leases", namespace: systemNamespace},
		"usage":                       {verbs: []string{"get", "update", "patch"}, resource: "configmaps", namespace: systemNamespace, name: "osnode-usage"},
		"abandoned":                   {verbs: []string{"get", "update", "patch"}, resource: "configmaps", namespace: systemNamespace, name: "osnode-abandoned"},
		"first record of such a kind": {verbs: []string{"create"}, resource: "configmaps", namespace: systemNamespace},
	}
	mayNot := map[string]right{
		"other signers":           {verbs: []string{"approve"}, group: "certificates.k8s.io", resource: "signers", name: "kubernetes.io/kube-apiserver-client"},
		"sign":                    {verbs: []string{"sign"}, group: "certificates.k8s.io", resource: "signers", name: signer},
		"certificates themselves": {verbs: []string{"update", "patch"}, group: "certificates.k8s.io", resource: "certificatesigningrequests", subresource: "status"},
		"users' Secrets":          {verbs: []string{"get", "list", "watch", "create", "update", "patch", "delete"}, resource: "secrets", namespace: "default"},
		"its own password":        {verbs: []string{"get", "list"}, resource: "secrets", namespace: systemNamespace},
		"users' ConfigMaps":       {verbs: []string{"get", "list", "watch", "create", "update"}, resource: "configmaps", namespace: "default"},
		"other ConfigMaps":        {verbs: []string{"get", "update", "delete"}, resource: "configmaps", namespace: systemNamespace, name: "other"},
		"make pods":               {verbs: []string{"create", "update", "patch"}, resource: "pods"},
		"run in pods":             {verbs: []string{"create", "get"}, resource: "pods", subresource: "exec"},
		"make pools":              {verbs: []string{"create", "delete"}, group: "osnode.infn.it", resource: "openstacknodepools"},
		"namespaces":              {verbs: []string{"create", "update", "patch", "delete"}, resource: "namespaces"},
		"roles":                   {verbs: []string{"create", "update", "patch", "bind", "escalate"}, group: "rbac.authorization.k8s.io", resource: "clusterroles"},
		"be somebody else":        {verbs: []string{"impersonate"}, resource: "users"},
		"tokens of accounts":      {verbs: []string{"create"}, resource: "serviceaccounts", subresource: "token"},
		"its own policies":        {verbs: []string{"create", "update", "delete"}, group: "admissionregistration.k8s.io", resource: "validatingadmissionpolicies"},
		"Nodes' status":           {verbs: []string{"update", "patch"}, resource: "nodes", subresource: "status"},
		"kubelets":                {verbs: []string{"get", "create"}, resource: "nodes", subresource: "proxy"},
	}
	check := func(t *testing.T, table map[string]right, want bool) {
		for name, r := range table {
			t.Run(name, func(t *testing.T) {
				for _, verb := range r.verbs {
					assert.Equal(t, want, allowed(t, controller, verb, r), "%s %+v", verb, r)
				}
			})
		}
	}
	t.Run("may", func(t *testing.T) { check(t, may, true) })
	t.Run("may not", func(t *testing.T) { check(t, mayNot, false) })
}

func allowed(t *testing.T, as client.Client, verb string, r right) bool {
	t.Helper()
	review := &authorizationv1.SelfSubjectAccessReview{Spec: authorizationv1.SelfSubjectAccessReviewSpec{
		ResourceAttributes: &authorizationv1.ResourceAttributes{
			Verb: verb, Group: r.group, Resource: r.resource, Subresource: r.subresource, Namespace: r.namespace, Name: r.name,
		},
	}}
	require.NoError(t, as.Create(t.Context(), review))
	return review.Status.Allowed
}

// What RBAC leaves open, the policies close.
func TestIntegrationControllerLimits(t *testing.T) {
	s := newSite(t)
	controller := s.client(s.controllerConfig())
	secret := func(name string, kind corev1.SecretType) *corev1.Secret {
		return &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceSystem, Name: name}, Type: kind,
			StringData: map[string]string{"token-id": "limits", "token-secret": tokenSecret},
		}
	}
	other := secret("limits-other", corev1.SecretTypeOpaque)
	require.NoError(t, s.admin.Create(t.Context(), other))
	require.NoError(t, controller.Create(t.Context(), secret("bootstrap-token-limits", corev1.SecretTypeBootstrapToken)))
	foreign := bareNode("limits-bare", nil)
	require.NoError(t, s.admin.Create(t.Context(), foreign))
	own := bareNode("limits-1700000000000", nil)
	require.NoError(t, controller.Create(t.Context(), own))
	refused := map[string]func(context.Context) error{
		"another Secret": func(ctx context.Context) error {
			return controller.Create(ctx, secret("limits", corev1.SecretTypeOpaque))
		},
		"a Secret of another type": func(ctx context.Context) error {
			return controller.Create(ctx, secret("bootstrap-token-limit2", corev1.SecretTypeOpaque))
		},
		"a token of another name": func(ctx context.Context) error {
			return controller.Create(ctx, secret("limits", corev1.SecretTypeBootstrapToken))
		},
		"change another Secret":       func(ctx context.Context) error { return controller.Update(ctx, other.DeepCopy()) },
		"delete another Secret":       func(ctx context.Context) error { return controller.Delete(ctx, other.DeepCopy()) },
		"make another machine's Node": func(ctx context.Context) error { return controller.Create(ctx, bareNode("limits-other", nil)) },
		"delete such a Node":          func(ctx context.Context) error { return controller.Delete(ctx, foreign.DeepCopy()) },
	}
	for name, try := range refused {
		t.Run(name, func(t *testing.T) {
			err := try(t.Context())
			assert.True(t, apierrors.IsForbidden(err), "%v", err)
			assert.ErrorContains(t, err, "osnode-controller")
		})
	}
	t.Run("its own", func(t *testing.T) {
		assert.NoError(t, controller.Delete(t.Context(), secret("bootstrap-token-limits", "")))
		assert.NoError(t, controller.Delete(t.Context(), own))
	})
}
