// SPDX-License-Identifier: Apache-2.0

//go:build integration

package osnode_test

import (
	"maps"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	osnodev1 "github.com/cloudveneto/caas/osnode/api/v1"
)

// object is an OpenStackNode as a user writes it.
func object(namespace, name string, spec map[string]any) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "osnode.infn.it/v1", "kind": "OpenStackNode",
		"metadata": map[string]any{"namespace": namespace, "name": name}, "spec": spec,
	}}
}

func minimal(change func(map[string]any)) map[string]any {
	spec := map[string]any{"flavor": "cloudveneto.medium", "keyPair": "my-key", "policy": "shared"}
	if change != nil {
		change(spec)
	}
	return spec
}

func TestIntegrationCreate(t *testing.T) {
	s := newSite(t)
	namespace := s.namespace("api-create", nil)
	with := func(key string, value any) map[string]any {
		return minimal(func(spec map[string]any) { spec[key] = value })
	}
	tests := map[string]struct {
		name string
		spec map[string]any
		want string // part of the refusal
	}{
		"three fields": {spec: minimal(nil)},
		"all fields of the guide": {spec: minimal(func(spec map[string]any) {
			maps.Copy(spec, map[string]any{
				"availabilityZone": "nova", "provider": "cloudveneto", "region": "regionOne", "userData": "",
				"image": map[string]any{"id": "", "name": "almalinux9-k8s-node-26-09-2023"}, "securityGroups": []any{"K8S"},
			})
		})},
		"private":                  {spec: with("policy", "private")},
		"another policy":           {spec: with("policy", "foo"), want: "policy"},
		"no policy":                {spec: minimal(func(spec map[string]any) { delete(spec, "policy") }), want: "policy"},
		"no flavor":                {spec: minimal(func(spec map[string]any) { delete(spec, "flavor") }), want: "flavor"},
		"an empty flavor":          {spec: with("flavor", ""), want: "flavor"},
		"no key pair":              {spec: minimal(func(spec map[string]any) { delete(spec, "keyPair") }), want: "keyPair"},
		"no spec":                  {want: "spec"},
		"the image by id":          {spec: with("image", map[string]any{"id": "0b1c"})},
		"the image by id and name": {spec: with("image", map[string]any{"id": "0b1c", "name": "alma"}), want: "not both"},
		"49 characters":            {name: strings.Repeat("a", 49), spec: minimal(nil)},
		"50 characters":            {name: strings.Repeat("a", 50), spec: minimal(nil), want: "at most 49 characters"},
		"a dot":                    {name: "osn.01", spec: minimal(nil), want: "must not contain a dot"},
		"16 KiB of user data":      {spec: with("userData", strings.Repeat("#", 16384))},
		"more user data":           {spec: with("userData", strings.Repeat("#", 16385)), want: "userData"},
		"a root disk of nothing":   {spec: with("rootDisk", map[string]any{"sizeGiB": int64(0)}), want: "sizeGiB"},
		"a repair of another kind": {spec: with("repairPolicy", "Reboot"), want: "repairPolicy"},
		"a nameless group":         {spec: with("securityGroups", []any{""}), want: "securityGroups"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			if tc.name == "" {
				tc.name = "osn-01"
			}
			asked := object(namespace, tc.name, tc.spec)
			if tc.spec == nil {
				delete(asked.Object, "spec")
			}
			err := s.admin.Create(t.Context(), asked, client.DryRunAll)
			if tc.want == "" {
				require.NoError(t, err)
				return
			}
			require.True(t, apierrors.IsInvalid(err), "%v", err)
			require.ErrorContains(t, err, tc.want)
		})
	}
	t.Run("unique in the namespace", func(t *testing.T) {
		require.NoError(t, s.admin.Create(t.Context(), object(namespace, "twice", minimal(nil))))
		assert.True(t, apierrors.IsAlreadyExists(s.admin.Create(t.Context(), object(namespace, "twice", minimal(nil)))))
	})
}

// The controller fills what the user left open, once; afterwards it is fixed.
func TestIntegrationSetOnce(t *testing.T) {
	s := newSite(t)
	namespace := s.namespace("api-set-once", nil)
	osn := newNode(namespace, "osn-01")
	require.NoError(t, s.admin.Create(t.Context(), osn))
	require.EqualValues(t, 1, osn.Generation)
	filled := osn.DeepCopy()
	filled.Finalizers = []string{osnodev1.Finalizer}
	filled.Spec.AvailabilityZone, filled.Spec.Provider, filled.Spec.Region = "nova", "cloudveneto", "regionOne"
	filled.Spec.Image = &osnodev1.ImageReference{ID: new(""), Name: "almalinux9-k8s-node-26-09-2023"}
	filled.Spec.SecurityGroups, filled.Spec.UserData = []string{"K8S"}, new("")
	require.NoError(t, s.admin.Patch(t.Context(), filled, client.MergeFrom(osn)))
	require.EqualValues(t, 2, filled.Generation)
	osn = filled

	tests := map[string]struct {
		change func(*osnodev1.OpenStackNodeSpec)
		fixed  bool
	}{
		"zone":              {func(s *osnodev1.OpenStackNodeSpec) { s.AvailabilityZone = "other" }, true},
		"zone away":         {func(s *osnodev1.OpenStackNodeSpec) { s.AvailabilityZone = "" }, true},
		"provider":          {func(s *osnodev1.OpenStackNodeSpec) { s.Provider = "other" }, true},
		"region":            {func(s *osnodev1.OpenStackNodeSpec) { s.Region = "other" }, true},
		"image":             {func(s *osnodev1.OpenStackNodeSpec) { s.Image.Name = "other" }, true},
		"image away":        {func(s *osnodev1.OpenStackNodeSpec) { s.Image = nil }, true},
		"groups":            {func(s *osnodev1.OpenStackNodeSpec) { s.SecurityGroups = []string{"other"} }, true},
		"user data":         {func(s *osnodev1.OpenStackNodeSpec) { s.UserData = new("#!/bin/sh") }, true},
		"policy":            {func(s *osnodev1.OpenStackNodeSpec) { s.Policy = osnodev1.PolicyPrivate }, false},
		"what happens then": {func(s *osnodev1.OpenStackNodeSpec) { s.RepairPolicy = osnodev1.RepairRecreate }, false},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			changed := osn.DeepCopy()
			tc.change(&changed.Spec)
			err := s.admin.Patch(t.Context(), changed, client.MergeFrom(osn), client.DryRunAll)
			assert.Equal(t, tc.fixed, apierrors.IsInvalid(err), "%v", err)
			if tc.fixed {
				assert.ErrorContains(t, err, "cannot be changed: delete the node and create another one")
			}
		})
	}
	// A client that writes the whole object, with empty strings for what it does not know,
	// must be able to let the object go.
	t.Run("the finalizer goes by a whole update", func(t *testing.T) {
		bare := object(namespace, "osn-02", minimal(nil))
		bare.SetFinalizers([]string{osnodev1.Finalizer})
		require.NoError(t, s.admin.Create(t.Context(), bare))
		require.NoError(t, s.admin.Delete(t.Context(), bare.DeepCopy()))
		require.NoError(t, s.admin.Get(t.Context(), client.ObjectKeyFromObject(bare), bare))
		bare.SetFinalizers(nil)
		require.NoError(t, unstructured.SetNestedField(bare.Object, "", "spec", "region"))
		require.NoError(t, s.admin.Update(t.Context(), bare))
		assert.True(t, apierrors.IsNotFound(s.admin.Get(t.Context(), client.ObjectKeyFromObject(bare), bare)))
	})
}
