// SPDX-License-Identifier: Apache-2.0

//go:build integration

package pool_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	osnodev1 "github.com/cloudveneto/caas/osnode/api/v1"
	"github.com/cloudveneto/caas/osnode/cloud"
)

func accountOf(osn *osnodev1.OpenStackNode) cloud.Account {
	return cloud.Account{ProjectID: osn.Labels[osnodev1.LabelProjectID]}
}

func TestIntegrationPodsMakeThePoolGrowAndShrink(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "grow")
	w.pool("work", func(p *osnodev1.OpenStackNodePool) { p.Spec.Autoscaling.Min = 1 })
	w.eventually(func() bool { return w.poolState("work").Status.ReadyReplicas == 1 }, "the least size")

	for i := range 9 { // three to a node of 3800m
		w.pod(fmt.Sprintf("job-%d", i), "1200m")
	}
	began := time.Now()
	w.eventually(func() bool { return w.scheduled() == 9 }, "all pods run")
	t.Logf("9 pods on 3 nodes after %s", time.Since(began).Round(time.Millisecond))
	state := w.poolState("work")
	assert.Len(t, w.nodes(), 3)
	assert.EqualValues(t, 3, *state.Spec.Replicas)
	require.NotNil(t, state.Status.LastScale)
	assert.Equal(t, "PodsUnschedulable", state.Status.LastScale.Reason)
	w.eventually(func() bool { return len(w.events("TriggeredScaleUp")) > 0 }, "pods are told")
	for _, osn := range w.nodes() {
		assert.Equal(t, "user-grow", osn.Labels[osnodev1.LabelUserID])
		assert.Regexp(t, `^work-[a-z2-7]{5}$`, osn.Name)
		assert.True(t, metav1.IsControlledBy(&osn, state))
	}

	w.never(func() bool { return len(w.nodes()) != 3 }, "nodes with pods stay")
	w.deletePods()
	w.eventually(func() bool { return len(w.nodes()) == 1 }, "idle nodes go, but for the least size")
	w.never(func() bool { return len(w.nodes()) != 1 }, "the least size stays")
	assert.Equal(t, 3, w.machines.greatest(), "never more than needed")
	state = w.poolState("work")
	assert.Equal(t, "NodeIdle", state.Status.LastScale.Reason)
	assert.True(t, meta.IsStatusConditionTrue(state.Status.Conditions, osnodev1.ConditionPoolReady))
}

func TestIntegrationScale(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "scale")
	p := w.pool("fixed", func(p *osnodev1.OpenStackNodePool) { p.Spec.Autoscaling, p.Spec.Replicas = nil, new(int32(1)) })
	w.eventually(func() bool { return w.poolState("fixed").Status.ReadyReplicas == 1 }, "one node")

	scale := &autoscalingv1.Scale{Spec: autoscalingv1.ScaleSpec{Replicas: 4}}
	require.NoError(t, w.client.SubResource("scale").Update(t.Context(), p, client.WithSubResourceBody(scale)))
	w.eventually(func() bool { return w.poolState("fixed").Status.ReadyReplicas == 4 }, "four nodes")
	require.NoError(t, w.client.SubResource("scale").Get(t.Context(), p, scale))
	assert.EqualValues(t, 4, scale.Status.Replicas)
	assert.Equal(t, "osn.infn.it/nodepool=fixed", scale.Status.Selector)

	w.pod("busy", "1")
	w.eventually(func() bool { return w.scheduled() == 1 }, "the pod runs")
	var busy corev1.Pod
	require.NoError(t, w.client.Get(t.Context(), types.NamespacedName{Namespace: "scale", Name: "busy"}, &busy))
	w.change("fixed", func(p *osnodev1.OpenStackNodePool) { p.Spec.Replicas = new(int32(1)) })
	w.eventually(func() bool { return len(w.nodes()) == 1 }, "one node")
	assert.Equal(t, busy.Spec.NodeName, w.nodes()[0].Status.NodeID, "the node with the pod is the one that stays")

	require.NoError(t, w.client.Delete(t.Context(), p))
	w.eventually(func() bool { return len(w.nodes()) == 0 }, "the nodes go with the pool")
}

func TestIntegrationQuota(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "quota")
	w.cloud.LimitCores("project-quota", 9)
	w.pool("work", nil)
	for i := range 5 { // one to a node
		w.pod(fmt.Sprintf("job-%d", i), "3")
	}
	w.eventually(func() bool { return w.scheduled() == 2 }, "the quota's nodes")
	w.eventually(func() bool {
		return meta.IsStatusConditionTrue(w.poolState("work").Status.Conditions, osnodev1.ConditionScalingLimited)
	}, "the pool says so")
	w.never(func() bool { return len(w.nodes()) != 2 }, "the quota holds")
	w.eventually(func() bool { return len(w.events("NotTriggerScaleUp")) > 0 }, "pods are told")
	assert.Contains(t, w.events("NotTriggerScaleUp")[0], "needs 4 cores, of which the project's quota leaves 1")
	told := w.told("NotTriggerScaleUp")
	assert.GreaterOrEqual(t, len(told), 3, "the scheduler may give a node to another pod than it was made for")
	for name, times := range told {
		assert.Equal(t, 1, times, "pod %s: %q", name, w.events("NotTriggerScaleUp"))
	}

	w.cloud.LimitCores("project-quota", 20)
	w.eventually(func() bool { return w.scheduled() == 5 }, "more quota, more nodes")
	assert.Equal(t, 5, w.machines.greatest())
}

func TestIntegrationQuotaUnknown(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "unknown")
	w.cloud.Fail(&cloud.Error{Class: cloud.Unavailable, Message: "OpenStack does not answer"})
	w.pool("work", nil)
	w.pod("job", "1")
	w.eventually(func() bool { return len(w.events("NotTriggerScaleUp")) == 1 }, "the pod is told")
	assert.Contains(t, w.events("NotTriggerScaleUp")[0], "OpenStack does not answer")
	assert.Empty(t, w.nodes())
	w.cloud.Fail(nil)
	w.eventually(func() bool { return w.scheduled() == 1 }, "it goes on by itself")
}

func TestIntegrationBackoffTakesTheNextFlavor(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "backoff")
	w.cloud.Refuse("medium", osnodev1.ReasonNoValidHost)
	w.pool("work", func(p *osnodev1.OpenStackNodePool) { p.Spec.Flavors = []string{"medium", "large"} })
	w.pod("job", "3")
	w.eventually(func() bool { return w.scheduled() == 1 }, "the pod runs")
	assert.Equal(t, map[string]int{"large": 1}, w.flavors())
	backoff := w.poolState("work").Status.Backoff
	require.Len(t, backoff, 1)
	assert.Equal(t, "medium", backoff[0].Flavor)
	assert.EqualValues(t, 1, backoff[0].Failures)
	assert.Equal(t, "the cloud says no", backoff[0].Message)
	assert.NotEmpty(t, w.events("FlavorBackedOff"))
}

func TestIntegrationBackoffIsTriedAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "again")
	w.cloud.Refuse("medium", osnodev1.ReasonQuotaExceeded)
	w.pool("work", nil)
	w.pod("job", "3")
	w.eventually(func() bool {
		backoff := w.poolState("work").Status.Backoff
		return len(backoff) == 1 && backoff[0].Failures == 2
	}, "a second try after the back-off")
	w.cloud.Refuse("medium", "")
	w.eventually(func() bool { return w.scheduled() == 1 }, "the pod runs")
	assert.Equal(t, 1, w.machines.greatest())
}

func TestIntegrationTwoFlavors(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "flavors")
	w.pool("work", func(p *osnodev1.OpenStackNodePool) { p.Spec.Flavors = []string{"medium", "large", "gpu"} })
	w.pod("big", "6")
	w.eventually(func() bool { return w.scheduled() == 1 }, "the first pod runs")
	w.pod("small", "1")
	w.pod("other", "2")
	w.eventually(func() bool { return w.scheduled() == 3 }, "all pods run")
	assert.Equal(t, map[string]int{"medium": 1, "large": 1}, w.flavors())
	assert.Equal(t, 2, w.machines.greatest())
	w.pod("huge", "30")
	w.eventually(func() bool { return len(w.events("NotTriggerScaleUp")) == 1 }, "too large for all")
	assert.Contains(t, w.events("NotTriggerScaleUp")[0], "asks for more than a node of flavor")
}

func TestIntegrationRestartMakesNothingTwice(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "restart")
	w.machines.setBoot(4 * time.Second)
	w.pool("work", func(p *osnodev1.OpenStackNodePool) { p.Spec.Autoscaling.Max = 20 })
	for i := range 6 { // two nodes
		w.pod(fmt.Sprintf("job-%d", i), "1200m")
	}
	for range 4 {
		time.Sleep(700 * time.Millisecond)
		w.stop()
		w.start()
	}
	w.eventually(func() bool { return w.scheduled() == 6 }, "all pods run")
	assert.Len(t, w.nodes(), 2)
	assert.Equal(t, 2, w.machines.greatest())
}

func TestIntegrationReplacement(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "replace")
	w.pool("fixed", func(p *osnodev1.OpenStackNodePool) { p.Spec.Autoscaling, p.Spec.Replicas = nil, new(int32(3)) })
	w.eventually(func() bool { return w.poolState("fixed").Status.ReadyReplicas == 3 }, "three nodes")
	w.pod("busy", "1")
	w.eventually(func() bool { return w.scheduled() == 1 }, "the pod runs")
	w.change("fixed", func(p *osnodev1.OpenStackNodePool) {
		p.Spec.Template.Image = &osnodev1.ImageReference{Name: "new-image"}
	})
	images := func() (fresh, old int) {
		for _, osn := range w.nodes() {
			if osn.Spec.Image != nil && osn.Spec.Image.Name == "new-image" {
				fresh++
			} else {
				old++
			}
		}
		return fresh, old
	}
	w.eventually(func() bool { fresh, old := images(); return fresh == 2 && old == 1 }, "the empty nodes are replaced")
	w.never(func() bool { _, old := images(); return old != 1 }, "the one with a pod is not")
	assert.Equal(t, 4, w.machines.greatest(), "one more at a time")
	w.deletePods()
	w.eventually(func() bool { fresh, old := images(); return fresh == 3 && old == 0 }, "it is, once it is empty")
	w.eventually(func() bool {
		var nodes corev1.NodeList
		require.NoError(t, w.client.List(t.Context(), &nodes, client.MatchingLabels{osnodev1.NodeLabelNamespace: "replace"}))
		closed := slices.ContainsFunc(nodes.Items, func(node corev1.Node) bool { return node.Spec.Unschedulable })
		return len(nodes.Items) == 3 && !closed
	}, "no node stays closed")
}

func TestIntegrationTTL(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "ttl")
	w.pool("fixed", func(p *osnodev1.OpenStackNodePool) {
		p.Spec.Autoscaling, p.Spec.Replicas, p.Spec.TTL = nil, new(int32(1)), &metav1.Duration{Duration: 6 * time.Second}
	})
	w.eventually(func() bool { return w.poolState("fixed").Status.ReadyReplicas == 1 }, "one node")
	first := w.nodes()[0].Name
	w.pod("busy", "1")
	w.eventually(func() bool { return w.scheduled() == 1 }, "the pod runs")
	w.eventually(func() bool { nodes := w.nodes(); return len(nodes) == 1 && nodes[0].Name != first }, "another one takes its place, pod or not")
	assert.Equal(t, 2, w.machines.greatest())
}

func TestIntegrationOwner(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "owner")
	w.pool("foreign", func(p *osnodev1.OpenStackNodePool) {
		p.Labels[osnodev1.LabelProjectID] = "another"
		p.Spec.Autoscaling, p.Spec.Replicas = nil, new(int32(1))
	})
	w.eventually(func() bool {
		condition := meta.FindStatusCondition(w.poolState("foreign").Status.Conditions, osnodev1.ConditionPoolReady)
		return condition != nil && condition.Reason == osnodev1.ReasonOwnerUnknown
	}, "the pool says so")
	w.never(func() bool { return len(w.nodes()) > 0 }, "nothing is made in another project's name")
}

func TestIntegrationPlatformPool(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "platform")
	require.NoError(t, w.client.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "platform-user", Labels: map[string]string{"guests": "platform"}}}))
	w.eventually(func() bool {
		return w.client.Get(t.Context(), types.NamespacedName{Namespace: "platform-user", Name: "default"}, &corev1.ServiceAccount{}) == nil
	}, "a service account")
	w.pool("tenant", func(p *osnodev1.OpenStackNodePool) { p.Spec.Autoscaling.Max = 1 })
	w.podIn("platform-user", "guest", "1")
	w.never(func() bool { return len(w.nodes()) > 0 }, "a tenant's pool is not for others")
	w.pool("burst", func(p *osnodev1.OpenStackNodePool) {
		p.Spec.AllowedNamespaces = &metav1.LabelSelector{MatchLabels: map[string]string{"guests": "platform"}}
	})
	w.eventually(func() bool { return len(w.nodes()) == 1 }, "the platform's pool grows for its guests")
	assert.Equal(t, "burst", w.nodes()[0].Labels[osnodev1.LabelPool])
}
