// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package drills_test

import (
	"maps"
	"slices"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/cloudveneto/caas/internal/lab/openstack"
	osnodev1 "github.com/cloudveneto/caas/osnode/api/v1"
)

// foreignName has a server of the node's name that somebody made by hand before.
func foreignName(d *drill) {
	foreign := d.byHand(d.login(owner), d.project, d.name(), nil)
	osn := d.running(d.name())
	assert.NotEqual(d.t, foreign, osn.Status.Server.ID)
	assert.Len(d.t, d.everMade(osn.UID), 1)
	d.told(osn, "ServerAdopted", 0)
	d.remove(d.name())
	d.gone(d.name())
	pause(d.t.Context(), orphanAge+2*collect)
	assert.True(d.t, d.there(foreign), "it is nobody's business here")
	d.discard(foreign)
}

// forgedMetadata has servers that claim to be the node's, each with one thing wrong: the project, the cluster, or who
// made them. None is taken for the node's machine, and none is deleted, not even when the node is gone.
func forgedMetadata(d *drill) {
	d.create(d.name(), func(osn *osnodev1.OpenStackNode) { osn.Spec.Flavor = "no.such.flavor" })
	osn := d.reaches(d.name(), osnodev1.PhaseFailed)
	who, err := d.cloud.User(owner)
	require.NoError(d.t, err)
	marks := func(change map[string]string) map[string]string {
		all := map[string]string{
			osnodev1.MetaUID: string(osn.UID), osnodev1.MetaCluster: clusterName, osnodev1.MetaNamespace: d.namespace,
			osnodev1.MetaName: d.name(), osnodev1.MetaNodeID: osn.Status.NodeID, osnodev1.MetaOwner: who.ID,
		}
		maps.Copy(all, change)
		return all
	}
	lisa, err := d.cloud.AddUser(d.t.Context(), openstack.Lisa, d.project.Name)
	require.NoError(d.t, err)
	elsewhere, err := d.addProject(d.t.Context(), d.project.Name+"-other")
	require.NoError(d.t, err)
	there, err := d.cloud.Login(d.t.Context(), owner, elsewhere.Name)
	require.NoError(d.t, err)
	forged := map[string]string{
		"of another cluster":               d.byHand(d.login(owner), d.project, d.name(), marks(map[string]string{osnodev1.MetaCluster: "another"})),
		"in another project":               d.byHand(there, elsewhere, d.name(), marks(nil)),
		"made by another user":             d.byHand(d.login(openstack.Lisa), d.project, d.name(), marks(nil)),
		"made by another user, who admits": d.byHand(d.login(openstack.Lisa), d.project, d.name(), marks(map[string]string{osnodev1.MetaOwner: lisa.ID})),
	}
	require.NoError(d.t, d.change(d.name(), func(osn *osnodev1.OpenStackNode) { osn.Spec.Flavor = flavor }))
	now := d.reaches(d.name(), osnodev1.PhaseRunning)
	assert.NotContains(d.t, slices.Collect(maps.Values(forged)), now.Status.Server.ID)
	d.told(osn, "ServerAdopted", 0)
	d.told(osn, "ServerCreated", 1)
	pause(d.t.Context(), orphanAge+2*collect)
	for what, id := range forged {
		assert.True(d.t, d.there(id), "a server %s is left alone while the node lives", what)
	}
	own := now.Status.Server.ID
	d.remove(d.name())
	d.eventually("the node is gone", func() (bool, string) { return !d.exists(d.name()), "" })
	pause(d.t.Context(), orphanAge+2*collect)
	assert.False(d.t, d.there(own))
	for what, id := range forged {
		// Whoever admits to have made a server for a node that is not there may lose it.
		if what != "made by another user, who admits" {
			assert.True(d.t, d.there(id), "a server %s is left alone when the node is gone", what)
		}
	}
	d.discard(slices.Collect(maps.Values(forged))...)
	d.gone(d.name())
}

// bareMetal has Nodes that nobody made here, one with a name as the platform's have.
func bareMetal(d *drill) {
	ctx := d.t.Context()
	var nodes []*corev1.Node
	for _, name := range []string{"worker-7", d.name() + "-1696949601872"} {
		node := &corev1.Node{
			ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"example.org/rack": "4", corev1.LabelHostname: name}},
			Spec:       corev1.NodeSpec{ProviderID: "metal://4/" + name, Taints: []corev1.Taint{{Key: "example.org/gpu", Effect: corev1.TaintEffectNoSchedule}}},
		}
		require.NoError(d.t, d.admin.Create(ctx, node))
		nodes = append(nodes, node)
	}
	osn := d.running(d.name())
	d.remove(osn.Name)
	d.gone(osn.Name)
	pause(ctx, orphanAge+2*collect)
	for _, was := range nodes {
		now := &corev1.Node{}
		require.NoError(d.t, d.admin.Get(ctx, types.NamespacedName{Name: was.Name}, now))
		assert.Equal(d.t, was.UID, now.UID)
		assert.Equal(d.t, was.Labels, now.Labels)
		assert.Equal(d.t, was.Annotations["osn.infn.it/request"], now.Annotations["osn.infn.it/request"])
		assert.Equal(d.t, was.Spec.ProviderID, now.Spec.ProviderID)
		assert.False(d.t, now.Spec.Unschedulable)
		assert.Contains(d.t, now.Spec.Taints, was.Spec.Taints[0])
		for _, taint := range now.Spec.Taints { // Kubernetes' own come, because no kubelet is there
			assert.NotContains(d.t, taint.Key, "osn.infn.it")
		}
		for _, field := range now.ManagedFields {
			assert.NotContains(d.t, field.Manager, "osnode-controller")
		}
		require.NoError(d.t, d.admin.Delete(ctx, now))
	}
}

// foreignKeyPair names a key pair that only another user has, until the owner has one of that name.
func foreignKeyPair(d *drill) {
	const key = "m1-key"
	ctx := d.t.Context()
	_, err := d.cloud.AddUser(ctx, openstack.Lisa, d.project.Name)
	require.NoError(d.t, err)
	require.NoError(d.t, d.cloud.AddKeyPair(ctx, openstack.Lisa, d.project.Name, key))
	osn := d.create(d.name(), func(osn *osnodev1.OpenStackNode) { osn.Spec.KeyPair = key })
	now := d.reaches(d.name(), osnodev1.PhaseFailed)
	d.condition(now, osnodev1.ConditionSpecResolved, metav1.ConditionFalse, osnodev1.ReasonInvalidSpec, `There is no key pair "m1-key" of the owner`)
	assert.Contains(d.t, now.Status.Description, `There is no key pair "m1-key" of the owner`)
	d.told(osn, osnodev1.ReasonInvalidSpec, 1)
	assert.Empty(d.t, d.everMade(osn.UID))
	require.NoError(d.t, d.cloud.AddKeyPair(ctx, owner, d.project.Name, key))
	d.reaches(d.name(), osnodev1.PhaseRunning)
	machine, there := d.machines.named(d.name())
	require.True(d.t, there)
	assert.Equal(d.t, key, machine.Server.KeyName)
	assert.Len(d.t, d.everMade(osn.UID), 1)
}
