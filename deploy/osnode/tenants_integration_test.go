// SPDX-License-Identifier: Apache-2.0

//go:build integration

package osnode_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	osnodev1 "github.com/cloudveneto/caas/osnode/api/v1"
)

func TestIntegrationOwnerLabels(t *testing.T) {
	s := newSite(t)
	namespace := s.namespace("owner-labels", nil)
	long := strings.Repeat("zangrand.", 8) + "long"
	tests := map[string]struct {
		extra map[string][]string
		given map[string]string
		want  map[string]string
	}{
		"as the login says": {
			extra: map[string][]string{
				"osn.infn.it/userid": {userID}, "osn.infn.it/username": {"zangrand@infn.it"},
				"osn.infn.it/projectid": {projectID}, "osn.infn.it/projectname": {"QST"},
			},
			want: map[string]string{
				osnodev1.LabelUserID: userID, osnodev1.LabelUserName: "zangrand-at-infn.it",
				osnodev1.LabelProjectID: projectID, osnodev1.LabelProjectName: "QST",
			},
		},
		"what the user wrote is overwritten, and other labels stay": {
			extra: map[string][]string{"osn.infn.it/userid": {userID}, "osn.infn.it/projectid": {projectID}},
			given: map[string]string{
				osnodev1.LabelUserID: "somebody-else", osnodev1.LabelUserName: "root", osnodev1.LabelProjectID: "p2", "app": "x",
			},
			want: map[string]string{osnodev1.LabelUserID: userID, osnodev1.LabelProjectID: projectID, "app": "x"},
		},
		"a login without a project claims nothing": {
			given: map[string]string{osnodev1.LabelUserID: "u1", osnodev1.LabelProjectID: "p1", osnodev1.LabelProjectName: "P"},
			want:  map[string]string{},
		},
		"an ambiguous login claims nothing": {
			extra: map[string][]string{"osn.infn.it/userid": {"u1", "u2"}},
			given: map[string]string{osnodev1.LabelUserID: "u1"},
			want:  map[string]string{},
		},
		"names of any form": {
			extra: map[string][]string{
				"osn.infn.it/userid": {userID}, "osn.infn.it/username": {long},
				"osn.infn.it/projectid": {projectID}, "osn.infn.it/projectname": {"Fisica & più"},
			},
			want: map[string]string{
				osnodev1.LabelUserID: userID, osnodev1.LabelUserName: long[:54] + "-" + userID[:8],
				osnodev1.LabelProjectID: projectID, osnodev1.LabelProjectName: "Fisica-pi",
			},
		},
		"an id that no label holds is not written": {
			extra: map[string][]string{"osn.infn.it/userid": {strings.Repeat("a", 64)}, "osn.infn.it/projectid": {projectID}},
			given: map[string]string{osnodev1.LabelUserID: "u1"},
			want:  map[string]string{osnodev1.LabelProjectID: projectID},
		},
	}
	user := 0
	for name, tc := range tests {
		user++
		caller := s.tenantOf(namespace, "owner-"+string(rune('a'+user)), tc.extra)
		t.Run(name, func(t *testing.T) {
			osn, pool := newNode(namespace, "osn"), newPool(namespace, "pool")
			osn.Labels, pool.Labels = tc.given, tc.given
			require.NoError(t, caller.Create(t.Context(), osn, client.DryRunAll))
			require.NoError(t, caller.Create(t.Context(), pool, client.DryRunAll))
			for what, labels := range map[string]map[string]string{"node": osn.Labels, "pool": pool.Labels} {
				if len(tc.want) == 0 {
					assert.Empty(t, labels, what)
					continue
				}
				assert.Equal(t, tc.want, labels, what)
			}
		})
	}
	t.Run("the platform writes them for the owner of a pool", func(t *testing.T) {
		osn := newNode(namespace, "of-pool")
		osn.Labels = map[string]string{osnodev1.LabelUserID: userID, osnodev1.LabelProjectID: projectID, osnodev1.LabelPool: "pool"}
		require.NoError(t, s.client(s.controllerConfig()).Create(t.Context(), osn, client.DryRunAll))
		assert.Equal(t, userID, osn.Labels[osnodev1.LabelUserID])
		assert.Equal(t, "pool", osn.Labels[osnodev1.LabelPool])
	})
}

func TestIntegrationTenantCannotChange(t *testing.T) {
	s := newSite(t)
	namespace := s.namespace("tenants", nil)
	alice, controller := s.tenant(namespace, "alice"), s.client(s.controllerConfig())
	osn := newNode(namespace, "osn-01")
	require.NoError(t, alice.Create(t.Context(), osn))
	platform := osn.DeepCopy()
	platform.Finalizers = []string{osnodev1.Finalizer}
	platform.Labels[osnodev1.LabelSecret] = "bootstrap-token-mqkldv"
	require.NoError(t, controller.Patch(t.Context(), platform, client.MergeFrom(osn)))
	osn = platform

	tests := map[string]struct {
		change func(*osnodev1.OpenStackNode)
		want   string // empty for what is allowed
	}{
		"the owner":               {func(o *osnodev1.OpenStackNode) { o.Labels[osnodev1.LabelUserID] = "bob" }, "cannot be changed"},
		"the owner's name":        {func(o *osnodev1.OpenStackNode) { o.Labels[osnodev1.LabelUserName] = "bob" }, "cannot be changed"},
		"the project, away":       {func(o *osnodev1.OpenStackNode) { delete(o.Labels, osnodev1.LabelProjectID) }, "cannot be changed"},
		"the project's name":      {func(o *osnodev1.OpenStackNode) { o.Labels[osnodev1.LabelProjectName] = "CMS" }, "cannot be changed"},
		"the token's Secret":      {func(o *osnodev1.OpenStackNode) { o.Labels[osnodev1.LabelSecret] = "bootstrap-token-000000" }, "cannot be changed"},
		"the token's Secret away": {func(o *osnodev1.OpenStackNode) { delete(o.Labels, osnodev1.LabelSecret) }, "cannot be changed"},
		"the pool":                {func(o *osnodev1.OpenStackNode) { o.Labels[osnodev1.LabelPool] = "p" }, "cannot be changed"},
		"all labels away":         {func(o *osnodev1.OpenStackNode) { o.Labels = nil }, "cannot be changed"},
		"abandon": {func(o *osnodev1.OpenStackNode) {
			o.Annotations = map[string]string{osnodev1.AnnotationAbandon: "true"}
		}, "only administrators"},
		"the finalizer": {func(o *osnodev1.OpenStackNode) { o.Finalizers = nil }, "the finalizer goes"},
		"another label": {func(o *osnodev1.OpenStackNode) { o.Labels["app"] = "x" }, ""},
		"retry": {func(o *osnodev1.OpenStackNode) {
			o.Annotations = map[string]string{osnodev1.AnnotationRetry: "1"}
		}, ""},
		"the policy": {func(o *osnodev1.OpenStackNode) { o.Spec.Policy = osnodev1.PolicyPrivate }, ""},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			changed := osn.DeepCopy()
			tc.change(changed)
			err := alice.Patch(t.Context(), changed, client.MergeFrom(osn), client.DryRunAll)
			if tc.want == "" {
				require.NoError(t, err)
				return
			}
			require.True(t, apierrors.IsForbidden(err), "%v", err)
			require.ErrorContains(t, err, "ValidatingAdmissionPolicy 'osnode-tenants'")
			require.ErrorContains(t, err, tc.want)

			changed = osn.DeepCopy()
			tc.change(changed)
			assert.NoError(t, s.admin.Patch(t.Context(), changed, client.MergeFrom(osn), client.DryRunAll), "an administrator may")
		})
	}
	t.Run("a node with a token's Secret of its own choice", func(t *testing.T) {
		forged := newNode(namespace, "forged")
		forged.Labels = map[string]string{osnodev1.LabelSecret: "bootstrap-token-mqkldv"}
		assert.True(t, apierrors.IsForbidden(alice.Create(t.Context(), forged)))
	})
	t.Run("an abandoned node from the beginning", func(t *testing.T) {
		forged := newNode(namespace, "forged")
		forged.Annotations = map[string]string{osnodev1.AnnotationAbandon: "true"}
		assert.True(t, apierrors.IsForbidden(alice.Create(t.Context(), forged)))
	})
	t.Run("the status", func(t *testing.T) {
		changed := osn.DeepCopy()
		changed.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "8.8.8.8"}}
		assert.True(t, apierrors.IsForbidden(alice.Status().Patch(t.Context(), changed, client.MergeFrom(osn))))
	})
	t.Run("delete, and the platform takes the finalizer off", func(t *testing.T) {
		require.NoError(t, alice.Delete(t.Context(), osn.DeepCopy()))
		require.NoError(t, controller.Get(t.Context(), client.ObjectKeyFromObject(osn), osn))
		require.False(t, osn.DeletionTimestamp.IsZero())
		done := osn.DeepCopy()
		done.Finalizers = nil
		require.NoError(t, controller.Patch(t.Context(), done, client.MergeFrom(osn)))
		assert.True(t, apierrors.IsNotFound(controller.Get(t.Context(), client.ObjectKeyFromObject(osn), osn)))
	})
}

// Without anything that writes the owner's labels, a user can still not claim to be another.
func TestIntegrationForgedOwnerWithoutMutation(t *testing.T) {
	s := newSite(t)
	namespace := s.namespace("no-mutation", nil)
	binding := "osnode-owner-labels"
	s.kubectl("delete", "mutatingadmissionpolicybinding", binding)
	t.Cleanup(func() {
		content := "apiVersion: admissionregistration.k8s.io/v1beta1\nkind: MutatingAdmissionPolicyBinding\nmetadata: {name: " + binding +
			"}\nspec: {policyName: " + binding + "}\n"
		s.applyText(content)
		s.awaitOwnerLabels(namespace)
	})
	mallory := s.tenant(namespace, "mallory")
	require.Eventually(t, func() bool {
		osn := newNode(namespace, "probe")
		return mallory.Create(t.Context(), osn, client.DryRunAll) == nil && osn.Labels[osnodev1.LabelUserID] == ""
	}, soon, tick, "the policy is no longer in effect")
	tests := map[string]struct {
		labels    map[string]string
		forbidden bool
	}{
		"her own":              {map[string]string{osnodev1.LabelUserID: "mallory", osnodev1.LabelProjectID: projectID, osnodev1.LabelUserName: "mallory-at-infn.it"}, false},
		"none":                 {nil, false},
		"another user":         {map[string]string{osnodev1.LabelUserID: "alice"}, true},
		"another project":      {map[string]string{osnodev1.LabelProjectID: "p2"}, true},
		"a hash she needs not": {map[string]string{osnodev1.LabelUserID: "h-abc"}, true},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			osn := newNode(namespace, "osn")
			osn.Labels = tc.labels
			err := mallory.Create(t.Context(), osn, client.DryRunAll)
			assert.Equal(t, tc.forbidden, apierrors.IsForbidden(err), "%v", err)
			if !tc.forbidden {
				assert.NoError(t, err)
			}
		})
	}
}

func TestIntegrationPools(t *testing.T) {
	s := newSite(t)
	namespace := s.namespace("pools", nil)
	platform := s.namespace("platform-pools", map[string]string{"osn.infn.it/platform": "true"})
	tests := map[string]struct {
		namespace string
		change    func(*osnodev1.OpenStackNodePool)
		want      string
	}{
		"plain": {},
		"a label and a taint of its own": {change: func(p *osnodev1.OpenStackNodePool) {
			p.Spec.Template.Labels = map[string]string{"example.org/kind": "gpu", "tier": "x"}
			p.Spec.Template.Taints = []corev1.Taint{{Key: "example.org/gpu", Effect: corev1.TaintEffectNoSchedule}}
		}},
		"a label of Kubernetes": {change: func(p *osnodev1.OpenStackNodePool) {
			p.Spec.Template.Labels = map[string]string{"node-role.kubernetes.io/control-plane": ""}
		}, want: "template.labels"},
		"a protected label": {change: func(p *osnodev1.OpenStackNodePool) {
			p.Spec.Template.Labels = map[string]string{osnodev1.NodeLabelPool: "u-alice"}
		}, want: "template.labels"},
		"a label of the platform": {change: func(p *osnodev1.OpenStackNodePool) {
			p.Spec.Template.Labels = map[string]string{osnodev1.LabelUserID: "alice"}
		}, want: "template.labels"},
		"a taint of the platform": {change: func(p *osnodev1.OpenStackNodePool) {
			p.Spec.Template.Taints = []corev1.Taint{{Key: osnodev1.TaintPool, Value: "u-alice", Effect: corev1.TaintEffectNoSchedule}}
		}, want: "template.taints"},
		"shared by a tenant": {change: func(p *osnodev1.OpenStackNodePool) {
			p.Spec.AllowedNamespaces = &metav1.LabelSelector{}
		}, want: "allowedNamespaces"},
		"shared by the platform": {namespace: platform, change: func(p *osnodev1.OpenStackNodePool) {
			p.Spec.AllowedNamespaces = &metav1.LabelSelector{}
		}},
		"min beyond max": {change: func(p *osnodev1.OpenStackNodePool) {
			p.Spec.Autoscaling = &osnodev1.Autoscaling{Enabled: true, Min: 3, Max: 2}
		}, want: "min must not be greater than max"},
		"a name that its nodes cannot have": {change: func(p *osnodev1.OpenStackNodePool) {
			p.Name = strings.Repeat("a", 44)
		}, want: "at most 43 characters"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			if tc.namespace == "" {
				tc.namespace = namespace
			}
			pool := newPool(tc.namespace, "pool")
			if tc.change != nil {
				tc.change(pool)
			}
			err := s.admin.Create(t.Context(), pool, client.DryRunAll)
			if tc.want == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, tc.want)
		})
	}
}
