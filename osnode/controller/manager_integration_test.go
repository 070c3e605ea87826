// SPDX-License-Identifier: Apache-2.0

//go:build integration

package controller_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	ctrlconfig "sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/metrics/server"

	osnodev1 "github.com/cloudveneto/caas/osnode/api/v1"
	"github.com/cloudveneto/caas/osnode/cloud"
	"github.com/cloudveneto/caas/osnode/controller"
	"github.com/cloudveneto/caas/osnode/controller/controllertest"
	"github.com/cloudveneto/caas/osnode/node"
)

const many = 200

// TestIntegrationManyAtOnce runs the controller as its program does: with caches that
// are late, workers, and the real time.
func TestIntegrationManyAtOnce(t *testing.T) {
	w := newWorld(t)
	w.cloud = controllertest.New(clusterName, time.Now)
	w.cloud.Change(func(s *controllertest.State) {
		s.Trusting[owner], s.BuildTime, s.DeleteTime = true, time.Second, time.Second
	})
	registry := w.run(controller.Timers{PollCreating: 500 * time.Millisecond, AgeCreating: 250 * time.Millisecond})
	began := time.Now()
	for i := range many {
		w.osn(fmt.Sprintf("osn-%03d", i))
	}
	created := time.Now()
	joined := map[string]bool{}
	require.Eventually(t, func() bool {
		list := &osnodev1.OpenStackNodeList{}
		require.NoError(t, w.client.List(t.Context(), list, client.InNamespace(w.namespace)))
		running := 0
		for i := range list.Items {
			osn := &list.Items[i]
			switch {
			case osn.Status.Phase == osnodev1.PhaseRunning:
				running++
			case osn.Status.Phase == osnodev1.PhaseJoining && !joined[osn.Name]:
				joined[osn.Name] = true
				w.boot(osn)
			}
		}
		return running == many
	}, 2*time.Minute, 100*time.Millisecond)
	t.Logf("%d made in %s, all running after %s", many, created.Sub(began), time.Since(began))
	assert.Equal(t, many, w.cloud.Calls("Create"))
	assert.Len(t, w.cloud.Servers(), many)
	count, err := testutil.GatherAndCount(registry, "osn_time_to_ready_seconds", "osn_controller_overhead_seconds", "osn_nodes", "osn_servers_total")
	require.NoError(t, err)
	assert.GreaterOrEqual(t, count, 4)
	mean, samples := histogram(t, registry, "osn_controller_overhead_seconds")
	assert.EqualValues(t, many, samples)
	queued, samples := histogram(t, registry, "osn_turn_wait_seconds")
	assert.EqualValues(t, many, samples)
	t.Logf("a node waited for its turn for %.2f s on average", queued)
	t.Logf("the controller's own share is %.2f s on average; calls of OpenStack: create %d, find %d, list %d, resolve %d, quota %d, authorize %d",
		mean, w.cloud.Calls("Create"), w.cloud.Calls("Find"), w.cloud.Calls("List"), w.cloud.Calls("Resolve"), w.cloud.Calls("Quota"), w.cloud.Calls("Authorize"))

	began = time.Now()
	require.NoError(t, w.client.DeleteAllOf(t.Context(), &osnodev1.OpenStackNode{}, client.InNamespace(w.namespace)))
	require.Eventually(t, func() bool {
		list := &osnodev1.OpenStackNodeList{}
		require.NoError(t, w.client.List(t.Context(), list, client.InNamespace(w.namespace)))
		return len(list.Items) == 0
	}, 2*time.Minute, 100*time.Millisecond)
	t.Logf("all gone after %s", time.Since(began))
	assert.Empty(t, w.cloud.Servers())
	nodes := &corev1.NodeList{}
	require.NoError(t, w.client.List(t.Context(), nodes, client.MatchingLabels{osnodev1.NodeLabelNamespace: w.namespace}))
	assert.Empty(t, nodes.Items)
}

// run runs the controller in a manager until the test ends.
func (w *world) run(timers controller.Timers, change ...func(*controller.Config)) *prometheus.Registry {
	w.t.Helper()
	manager, err := ctrl.NewManager(shared.Cluster(w.t).RESTConfig(), ctrl.Options{
		Scheme: newScheme(w.t), Metrics: server.Options{BindAddress: "0"},
		Cache: cache.Options{ByObject: map[client.Object]cache.ByObject{
			&osnodev1.OpenStackNode{}: {Namespaces: map[string]cache.Config{w.namespace: {}}},
		}},
		Controller: ctrlconfig.Controller{SkipNameValidation: new(true)},
	})
	require.NoError(w.t, err)
	registry := prometheus.NewRegistry()
	config := w.config()
	config.Client, config.Reader, config.Clock, config.Metrics = manager.GetClient(), manager.GetAPIReader(), nil, registry
	config.Recorder, config.Timers = manager.GetEventRecorder("osnode-controller"), timers
	for _, c := range change {
		c(&config)
	}
	reconciler, err := controller.New(config)
	require.NoError(w.t, err)
	require.NoError(w.t, reconciler.SetupWithManager(manager))
	ctx, cancel := context.WithCancel(w.t.Context())
	ended := make(chan error, 1)
	go func() { ended <- manager.Start(ctx) }()
	w.t.Cleanup(func() {
		cancel()
		assert.NoError(w.t, <-ended)
	})
	return registry
}

// TestIntegrationFreedQuotaWakes has a back-off of an hour, which nobody waits for.
func TestIntegrationFreedQuotaWakes(t *testing.T) {
	w := newWorld(t)
	w.cloud = controllertest.New(clusterName, time.Now)
	w.cloud.Change(func(s *controllertest.State) {
		s.Trusting[owner] = true
		s.Limits[w.project] = cloud.Quota{Cores: cloud.Amount{Limit: 2}, Instances: cloud.Amount{Limit: 5}, MemoryMiB: cloud.Amount{Limit: -1}}
	})
	w.run(controller.Timers{PollCreating: 200 * time.Millisecond, QuotaFirst: time.Hour, QuotaMost: time.Hour})
	phase := func(name string, want osnodev1.Phase) {
		t.Helper()
		require.Eventually(t, func() bool { return w.get(name).Status.Phase == want }, 30*time.Second, 50*time.Millisecond)
	}
	w.osn("first")
	phase("first", osnodev1.PhaseJoining)
	w.osn("second")
	phase("second", osnodev1.PhasePending)
	require.Eventually(t, func() bool {
		return w.get("second").Status.Description == "Waiting for quota: cores 2/2 used, 2 needed"
	},
		10*time.Second, 50*time.Millisecond)
	w.delete("first")
	phase("second", osnodev1.PhaseJoining)
	require.Eventually(t, func() bool {
		list := &eventsv1.EventList{}
		require.NoError(t, w.client.List(t.Context(), list, client.InNamespace(w.namespace)))
		reasons := map[string]bool{}
		for i := range list.Items {
			reasons[list.Items[i].Regarding.Name+" "+list.Items[i].Reason] = true
		}
		return reasons["second QuotaExceeded"] && reasons["second ServerCreated"] && reasons["first ServerDeleted"]
	}, 10*time.Second, 100*time.Millisecond)
	w.delete("second")
	require.Eventually(t, func() bool { return w.gone("second") }, 30*time.Second, 50*time.Millisecond)
}

// boot makes the Node of a machine that is ready at once.
func (w *world) boot(osn *osnodev1.OpenStackNode) {
	w.t.Helper()
	made, err := node.For(osn, nil)
	require.NoError(w.t, err)
	if err := w.client.Create(w.t.Context(), made); !apierrors.IsAlreadyExists(err) {
		require.NoError(w.t, err)
	}
	current := &corev1.Node{}
	require.NoError(w.t, w.client.Get(w.t.Context(), types.NamespacedName{Name: made.Name}, current))
	before := current.DeepCopy()
	current.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.Now()}}
	require.NoError(w.t, w.client.Status().Patch(w.t.Context(), current, client.MergeFrom(before)))
}

func histogram(t *testing.T, registry *prometheus.Registry, name string) (mean float64, samples uint64) {
	t.Helper()
	families, err := registry.Gather()
	require.NoError(t, err)
	for _, family := range families {
		if family.GetName() == name {
			h := family.GetMetric()[0].GetHistogram()
			return h.GetSampleSum() / float64(h.GetSampleCount()), h.GetSampleCount()
		}
	}
	return 0, 0
}
