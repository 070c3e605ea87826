// SPDX-License-Identifier: Apache-2.0

//go:build integration

package pool_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	osnodev1 "github.com/cloudveneto/caas/osnode/api/v1"
)

func TestIntegrationDoNotDisrupt(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "keep")
	w.pool("work", nil)
	w.pod("job", "1")
	w.eventually(func() bool { return w.scheduled() == 1 }, "the pod runs")
	osn := w.nodes()[0]
	before := osn.DeepCopy()
	osn.Annotations = map[string]string{osnodev1.AnnotationDoNotDisrupt: "true"}
	require.NoError(t, w.client.Patch(t.Context(), &osn, client.MergeFrom(before)))
	w.deletePods()
	time.Sleep(2 * time.Second)
	w.never(func() bool { return len(w.nodes()) != 1 }, "the node stays")
	before = osn.DeepCopy()
	osn.Annotations = nil
	require.NoError(t, w.client.Patch(t.Context(), &osn, client.MergeFrom(before)))
	w.eventually(func() bool { return len(w.nodes()) == 0 }, "it goes when it may")
}

func TestIntegrationPodComesToAClosedNode(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "reopen")
	w.stop()
	w.timers.Retire = 4 * time.Second
	w.start()
	w.pool("work", func(p *osnodev1.OpenStackNodePool) {
		p.Spec.Autoscaling.Max, p.Spec.Autoscaling.IdleTTL = 3, &metav1.Duration{Duration: time.Second}
	})
	w.pod("first", "1")
	w.eventually(func() bool { return w.scheduled() == 1 }, "the pod runs")
	name := w.nodes()[0].Status.NodeID
	w.deletePods()
	var object corev1.Node
	w.eventually(func() bool {
		return w.client.Get(t.Context(), types.NamespacedName{Name: name}, &object) == nil && object.Spec.Unschedulable
	}, "the empty node is closed")
	w.pod("second", "1")
	w.eventually(func() bool { return w.scheduled() == 1 }, "the pod runs")
	var second corev1.Pod
	require.NoError(t, w.client.Get(t.Context(), types.NamespacedName{Namespace: "reopen", Name: "second"}, &second))
	assert.Equal(t, name, second.Spec.NodeName, "on the node that was opened again")
	assert.Equal(t, 1, w.machines.greatest())
}

func TestIntegrationPodsThatKeepApart(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "apart")
	w.pool("work", func(p *osnodev1.OpenStackNodePool) { p.Spec.Autoscaling.Max = 3 })
	for _, name := range []string{"one", "two", "three"} {
		p := &corev1.Pod{}
		template := w.template(name, "100m")
		template.DeepCopyInto(p)
		p.Labels = map[string]string{"app": "apart"}
		p.Spec.Affinity = &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{{
			TopologyKey: corev1.LabelHostname, LabelSelector: &metav1.LabelSelector{MatchLabels: p.Labels},
		}}}}
		require.NoError(t, w.client.Create(t.Context(), p))
	}
	w.eventually(func() bool { return w.scheduled() == 3 }, "each has a node of its own")
	assert.Equal(t, 3, w.machines.greatest())
}

func TestIntegrationMachinesMadeInVain(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "vain")
	w.stop()
	w.timers.Settle, w.timers.BackoffFirst = 2*time.Second, time.Minute
	w.start()
	w.pool("work", nil)
	p := w.template("picky", "1")
	p.Spec.Containers[0].Ports = []corev1.ContainerPort{{ContainerPort: 80, HostPort: 80}}
	first := w.template("first", "1")
	first.Spec.Containers[0].Ports = p.Spec.Containers[0].Ports
	require.NoError(t, w.client.Create(t.Context(), first))
	w.eventually(func() bool { return w.scheduled() == 1 }, "the first pod has the port")
	require.NoError(t, w.client.Create(t.Context(), p))
	w.eventually(func() bool { return w.scheduled() == 2 }, "the second gets a node although the first's has room")
	assert.Equal(t, 2, w.machines.greatest())

	impossible := w.template("impossible", "1")
	impossible.Spec.Containers[0].Ports = p.Spec.Containers[0].Ports
	impossible.Spec.TopologySpreadConstraints = []corev1.TopologySpreadConstraint{{
		MaxSkew: 1, TopologyKey: "no-node-has-it", WhenUnsatisfiable: corev1.DoNotSchedule, LabelSelector: &metav1.LabelSelector{},
	}}
	require.NoError(t, w.client.Create(t.Context(), impossible))
	w.eventually(func() bool { return len(w.events("NotTriggerScaleUp")) > 0 }, "the pod is told")
	assert.Contains(t, w.events("NotTriggerScaleUp")[0], "nodes were made for this pod before")
	assert.LessOrEqual(t, w.machines.greatest(), 4, "not up to the maximum")
}
