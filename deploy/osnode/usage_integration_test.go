// SPDX-License-Identifier: Apache-2.0

//go:build integration

package osnode_test

import (
	"context"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	osnodev1 "github.com/cloudveneto/caas/osnode/api/v1"
	"github.com/cloudveneto/caas/osnode/usage"
)

// exported is the number of hours of virtual CPUs that a flavor's metrics show, -1 if none.
func exported(t *testing.T, registry *prometheus.Registry, flavor string) float64 {
	t.Helper()
	families, err := registry.Gather()
	require.NoError(t, err)
	for _, family := range families {
		if family.GetName() != "osn_usage_vcpu_hours_total" {
			continue
		}
		for _, metric := range family.GetMetric() {
			for _, label := range metric.GetLabel() {
				if label.GetName() == "flavor" && label.GetValue() == flavor {
					return metric.GetCounter().GetValue()
				}
			}
		}
	}
	return -1
}

// The counters go on over restarts and changes of the leader, with the controller's own rights.
func TestIntegrationUsage(t *testing.T) {
	s := newSite(t)
	namespace := s.namespace("usage", nil)
	controller := s.client(s.controllerConfig())
	const flavor = "usage.flavor"
	clock := time.Now().Truncate(time.Second)
	osn := newNode(namespace, "osn-01")
	osn.Labels = map[string]string{osnodev1.LabelProjectID: projectID, osnodev1.LabelUserID: userID}
	osn.Spec.Flavor = flavor
	require.NoError(t, s.admin.Create(t.Context(), osn))
	before := osn.DeepCopy()
	osn.Status.Resolved = &osnodev1.Resolved{VCPUs: 4, MemoryMiB: 8192}
	osn.Status.Server = &osnodev1.ServerStatus{ID: "usage-1", Status: "ACTIVE", Created: &metav1.Time{Time: clock.Add(-time.Hour)}}
	require.NoError(t, s.admin.Status().Patch(t.Context(), osn, client.MergeFrom(before)))

	meter := func() (*usage.Meter, *prometheus.Registry) {
		registry := prometheus.NewRegistry()
		made, err := usage.New(usage.Config{
			Client: controller, Reader: controller, Namespace: systemNamespace, Metrics: registry,
			Clock: func() time.Time { return clock }, Interval: 20 * time.Millisecond,
		})
		require.NoError(t, err)
		return made, registry
	}
	first, firstMetrics := meter()
	assert.InDelta(t, -1, exported(t, firstMetrics, flavor), 0, "nothing before it leads")
	require.NoError(t, first.Count(t.Context()))
	assert.InDelta(t, 4, exported(t, firstMetrics, flavor), 1e-6)

	clock = clock.Add(30 * time.Minute) // nobody counts
	second, secondMetrics := meter()
	require.NoError(t, second.Count(t.Context()))
	assert.InDelta(t, 6, exported(t, secondMetrics, flavor), 1e-6)
	clock = clock.Add(30 * time.Minute)
	require.NoError(t, first.Count(t.Context()), "the old leader has not noticed")
	assert.InDelta(t, 8, exported(t, firstMetrics, flavor), 1e-6)
	require.NoError(t, second.Count(t.Context()))
	assert.InDelta(t, 8, exported(t, secondMetrics, flavor), 1e-6, "nothing is counted twice")

	t.Run("while it leads", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		third, metrics := meter()
		assert.True(t, third.NeedLeaderElection())
		done := make(chan error, 1)
		go func() { done <- third.Start(ctx) }()
		require.Eventually(t, func() bool { return exported(t, metrics, flavor) == 8 }, soon, tick)
		cancel()
		require.NoError(t, <-done)
		assert.InDelta(t, -1, exported(t, metrics, flavor), 0, "and not after that")
	})
	t.Run("what cannot be read is not overwritten", func(t *testing.T) {
		var kept corev1.ConfigMap
		key := types.NamespacedName{Namespace: systemNamespace, Name: usage.ConfigMapName}
		require.NoError(t, s.admin.Get(t.Context(), key, &kept))
		kept.Data["usage.json"] = "spoiled"
		require.NoError(t, s.admin.Update(t.Context(), &kept))
		require.ErrorContains(t, second.Count(t.Context()), "decode usage")
		require.NoError(t, s.admin.Get(t.Context(), key, &kept))
		assert.Equal(t, "spoiled", kept.Data["usage.json"])
		assert.True(t, apierrors.IsForbidden(controller.Delete(t.Context(), &kept)))
	})
}
