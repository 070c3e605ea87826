// SPDX-License-Identifier: Apache-2.0

package node_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	osnodev1 "github.com/cloudveneto/caas/osnode/api/v1"
	"github.com/cloudveneto/caas/osnode/node"
)

const (
	nodeID     = "osn-01-1696949601872"
	providerID = "openstack://regionOne/ac4a4470"
)

func osNode() *osnodev1.OpenStackNode {
	return &osnodev1.OpenStackNode{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "qst", Name: "osn-01", UID: "e29c8c4c",
			Labels: map[string]string{
				osnodev1.LabelUserID: "2ddd", osnodev1.LabelUserName: "zangrand-at-infn.it",
				osnodev1.LabelProjectID: "5515", osnodev1.LabelProjectName: "QST",
				osnodev1.LabelSecret: "bootstrap-token-mqkldv", "app": "mine",
			},
		},
		Spec: osnodev1.OpenStackNodeSpec{Policy: osnodev1.PolicyPrivate, Region: "regionOne", AvailabilityZone: "nova"},
		Status: osnodev1.OpenStackNodeStatus{
			NodeID: nodeID, ProviderID: providerID, Resolved: &osnodev1.Resolved{GPU: "A100", GPUs: 1},
		},
	}
}

func pool() *osnodev1.OpenStackNodePool {
	return &osnodev1.OpenStackNodePool{Spec: osnodev1.OpenStackNodePoolSpec{Template: osnodev1.NodeTemplate{
		Labels: map[string]string{
			"example.org/tier": "gpu", "plain": "x",
			osnodev1.NodeLabelPool: "u-victim", "kubernetes.io/hostname": "other", osnodev1.LabelUserID: "victim", "bad key": "x", "bad-value": "a b",
		},
		Taints: []corev1.Taint{
			{Key: "example.org/gpu", Value: "yes", Effect: corev1.TaintEffectNoExecute},
			{Key: osnodev1.TaintPool, Value: "u-victim", Effect: corev1.TaintEffectNoSchedule},
			{Key: "example.org/odd", Effect: "Sometimes"},
		},
	}}}
}

func notJoined() corev1.Taint {
	return corev1.Taint{Key: osnodev1.TaintNotJoined, Effect: corev1.TaintEffectNoSchedule}
}

func poolTaint(value string) corev1.Taint {
	return corev1.Taint{Key: osnodev1.TaintPool, Value: value, Effect: corev1.TaintEffectNoSchedule}
}

func TestFor(t *testing.T) {
	t.Parallel()
	made, err := node.For(osNode(), nil)
	require.NoError(t, err)
	assert.Equal(t, &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: nodeID, Labels: map[string]string{
			"kubernetes.io/hostname": nodeID, "topology.kubernetes.io/region": "regionOne", "topology.kubernetes.io/zone": "nova",
			"osn.infn.it/userid": "2ddd", "osn.infn.it/username": "zangrand-at-infn.it",
			"osn.infn.it/projectid": "5515", "osn.infn.it/projectname": "QST",
			"osn.infn.it/policy": "private", "osn.infn.it/gpu": "A100",
			"osn.infn.it.node-restriction.kubernetes.io/pool":      "u-2ddd",
			"osn.infn.it.node-restriction.kubernetes.io/userid":    "2ddd",
			"osn.infn.it.node-restriction.kubernetes.io/projectid": "5515",
			"osn.infn.it.node-restriction.kubernetes.io/policy":    "private",
			"osn.infn.it.node-restriction.kubernetes.io/osnode":    "e29c8c4c",
			"osn.infn.it.node-restriction.kubernetes.io/namespace": "qst",
			"osn.infn.it.node-restriction.kubernetes.io/name":      "osn-01",
		}},
		Spec: corev1.NodeSpec{ProviderID: providerID, Taints: []corev1.Taint{poolTaint("u-2ddd"), notJoined()}},
	}, made)
	assert.True(t, node.Waiting(made))
	assert.True(t, node.BelongsTo(made, osNode()))
}

// A kubelet judges pods by this Node until it has seen its own report: it must not find less than the machine has.
func TestForHasRoom(t *testing.T) {
	t.Parallel()
	osn := osNode()
	osn.Status.Resolved.VCPUs, osn.Status.Resolved.MemoryMiB = 2, 4096
	osn.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "10.88.32.42"}}
	made, err := node.For(osn, nil)
	require.NoError(t, err)
	assert.Equal(t, osn.Status.Addresses, made.Status.Addresses)
	assert.Equal(t, made.Status.Capacity, made.Status.Allocatable)
	for name, least := range map[corev1.ResourceName]string{
		corev1.ResourceCPU: "2", corev1.ResourceMemory: "4Gi", corev1.ResourcePods: "256", corev1.ResourceEphemeralStorage: "100Ti",
	} {
		has := made.Status.Allocatable[name]
		assert.GreaterOrEqual(t, has.Cmp(resource.MustParse(least)), 0, "%s: %s", name, has.String())
	}
	assert.Empty(t, made.Status.Conditions, "nobody has said that it is ready")
}

func TestForPool(t *testing.T) {
	t.Parallel()
	osn := osNode()
	osn.Labels[osnodev1.LabelPool] = "gpus"
	made, err := node.For(osn, pool())
	require.NoError(t, err)
	plain, err := node.For(osNode(), nil)
	require.NoError(t, err)
	plain.Labels["example.org/tier"], plain.Labels["plain"], plain.Labels[osnodev1.LabelPool] = "gpu", "x", "gpus"
	assert.Equal(t, plain.Labels, made.Labels, "the template adds what is not reserved, and changes nothing")
	assert.Equal(t, []corev1.Taint{
		poolTaint("u-2ddd"), {Key: "example.org/gpu", Value: "yes", Effect: corev1.TaintEffectNoExecute}, notJoined(),
	}, made.Spec.Taints)
}

func TestForIncomplete(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		change func(*osnodev1.OpenStackNode)
		want   string
	}{
		"no UID":       {func(o *osnodev1.OpenStackNode) { o.UID = "" }, "UID is missing"},
		"no node id":   {func(o *osnodev1.OpenStackNode) { o.Status.NodeID = "" }, "status.nodeid is missing"},
		"no machine":   {func(o *osnodev1.OpenStackNode) { o.Status.ProviderID = "" }, "status.providerID is missing"},
		"no owner":     {func(o *osnodev1.OpenStackNode) { delete(o.Labels, osnodev1.LabelUserID) }, osnodev1.LabelUserID},
		"no project":   {func(o *osnodev1.OpenStackNode) { o.Labels = map[string]string{osnodev1.LabelUserID: "u"} }, osnodev1.LabelProjectID},
		"no policy":    {func(o *osnodev1.OpenStackNode) { o.Spec.Policy = "" }, "spec.policy"},
		"a new policy": {func(o *osnodev1.OpenStackNode) { o.Spec.Policy = "open" }, "spec.policy"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			osn := osNode()
			tc.change(osn)
			_, err := node.For(osn, nil)
			require.ErrorContains(t, err, tc.want)
			require.ErrorContains(t, err, "OpenStackNode qst/osn-01")
		})
	}
	_, err := node.For(&osnodev1.OpenStackNode{}, nil)
	assert.ErrorContains(t, err, "UID is missing\na valid spec.policy is missing\nlabel osn.infn.it/projectid is missing")
}

func TestPoolValue(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		policy            osnodev1.Policy
		userID, projectID string
		want              string
	}{
		"private":       {osnodev1.PolicyPrivate, "u1", "p1", "u-u1"},
		"shared":        {osnodev1.PolicyShared, "u1", "p1", "p-p1"},
		"nobody's":      {osnodev1.PolicyPrivate, "", "p1", ""},
		"no project's":  {osnodev1.PolicyShared, "u1", "", ""},
		"no policy":     {"", "u1", "p1", ""},
		"61 characters": {osnodev1.PolicyPrivate, strings.Repeat("a", 61), "", "u-" + strings.Repeat("a", 61)},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			osn := osNode()
			osn.Spec.Policy = tc.policy
			osn.Labels = map[string]string{osnodev1.LabelUserID: tc.userID, osnodev1.LabelProjectID: tc.projectID}
			got := node.PoolValue(osn)
			assert.Empty(t, validation.IsValidLabelValue(got))
			assert.Equal(t, tc.want, got)
		})
	}
}

// An id may fill a label to its last character.
func TestPoolValueOfLongIDs(t *testing.T) {
	t.Parallel()
	one, other := osNode(), osNode()
	one.Labels[osnodev1.LabelUserID] = strings.Repeat("a", 63)
	other.Labels[osnodev1.LabelUserID] = strings.Repeat("a", 62) + "b"
	assert.Regexp(t, `^u-h-[a-z2-7]{52}$`, node.PoolValue(one))
	assert.Equal(t, node.PoolValue(one), node.PoolValue(one))
	assert.NotEqual(t, node.PoolValue(one), node.PoolValue(other))
}

func TestRepair(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		spoil func(*corev1.Node)
		osn   func(*osnodev1.OpenStackNode)
		check func(*testing.T, *corev1.Node)
	}{
		"nothing": {},
		"a label for people was changed": {
			spoil: func(n *corev1.Node) { n.Labels[osnodev1.LabelPolicy] = "shared" },
		},
		"labels were removed": {spoil: func(n *corev1.Node) { n.Labels = map[string]string{osnodev1.NodeLabelOSNode: "e29c8c4c"} }},
		"a taint was removed": {spoil: func(n *corev1.Node) { n.Spec.Taints = []corev1.Taint{notJoined()} }},
		"a taint was changed": {spoil: func(n *corev1.Node) { n.Spec.Taints[0].Value = "u-other" }},
		"no provider id":      {spoil: func(n *corev1.Node) { n.Spec.ProviderID = "" }},
		"joined, and stays so": {
			spoil: func(n *corev1.Node) { node.Joined(n); n.Labels[osnodev1.LabelPolicy] = "x" },
			check: func(t *testing.T, n *corev1.Node) { assert.False(t, node.Waiting(n)) },
		},
		"others' labels, taints and marks stay": {
			spoil: func(n *corev1.Node) {
				n.Labels["example.org/x"], n.Annotations = "y", map[string]string{"a": "b"}
				n.Spec.Taints = append(n.Spec.Taints, corev1.Taint{Key: "example.org/t", Effect: corev1.TaintEffectNoExecute})
				n.Spec.Unschedulable, n.Labels[osnodev1.NodeLabelPool] = true, "p-5515"
			},
			check: func(t *testing.T, n *corev1.Node) {
				assert.Equal(t, "y", n.Labels["example.org/x"])
				assert.Equal(t, map[string]string{"a": "b"}, n.Annotations)
				assert.Contains(t, n.Spec.Taints, corev1.Taint{Key: "example.org/t", Effect: corev1.TaintEffectNoExecute})
				assert.True(t, n.Spec.Unschedulable)
			},
		},
		"the policy has changed": {
			osn: func(o *osnodev1.OpenStackNode) { o.Spec.Policy = osnodev1.PolicyShared },
			check: func(t *testing.T, n *corev1.Node) {
				assert.Equal(t, []corev1.Taint{poolTaint("p-5515"), notJoined()}, n.Spec.Taints)
				assert.Equal(t, "p-5515", n.Labels[osnodev1.NodeLabelPool])
				assert.Equal(t, "shared", n.Labels[osnodev1.NodeLabelPolicy])
			},
		},
		"a node that registered itself": {
			spoil: func(n *corev1.Node) { n.Labels, n.Spec.Taints = nil, nil },
			check: func(t *testing.T, n *corev1.Node) { assert.True(t, node.Waiting(n)) },
		},
		"a node of an earlier object of that name": {
			spoil: func(n *corev1.Node) { node.Joined(n); n.Labels[osnodev1.NodeLabelOSNode] = "other" },
			check: func(t *testing.T, n *corev1.Node) { assert.True(t, node.Waiting(n)) },
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			current, err := node.For(osNode(), nil)
			require.NoError(t, err)
			osn := osNode()
			if tc.spoil != nil {
				tc.spoil(current)
			}
			if tc.osn != nil {
				tc.osn(osn)
			}
			assert.Equal(t, tc.spoil != nil || tc.osn != nil, node.Repair(current, osn, nil))
			for key, value := range node.Labels(osn, nil) {
				assert.Equal(t, value, current.Labels[key], key)
			}
			assert.Subset(t, current.Spec.Taints, node.Taints(osn, nil))
			assert.Equal(t, providerID, current.Spec.ProviderID)
			if tc.check != nil {
				tc.check(t, current)
			}
			assert.False(t, node.Repair(current, osn, nil), "once is enough")
		})
	}
}

func TestJoined(t *testing.T) {
	t.Parallel()
	current, err := node.For(osNode(), nil)
	require.NoError(t, err)
	before := current.DeepCopy()
	shallow := *current
	assert.True(t, node.Joined(&shallow))
	assert.Equal(t, []corev1.Taint{poolTaint("u-2ddd")}, shallow.Spec.Taints)
	assert.Equal(t, before, current, "a cached object's taints are not changed in place")
	assert.False(t, node.Joined(&shallow))
	assert.False(t, node.Waiting(&shallow))
}

func TestLabelsSkipWhatNoLabelHolds(t *testing.T) {
	t.Parallel()
	osn := osNode()
	osn.Spec.AvailabilityZone, osn.Status.Resolved, osn.Spec.Region = "zone with spaces", nil, strings.Repeat("r", 64)
	labels := node.Labels(osn, nil)
	assert.NotContains(t, labels, corev1.LabelTopologyZone)
	assert.NotContains(t, labels, corev1.LabelTopologyRegion)
	assert.NotContains(t, labels, osnodev1.LabelGPU)
}

func TestReserved(t *testing.T) {
	t.Parallel()
	for key, want := range map[string]bool{
		"kubernetes.io/hostname": true, "node-role.kubernetes.io/x": true, "k8s.io/x": true, "a.b.k8s.io/x": true,
		"osn.infn.it/userid": true, osnodev1.NodeLabelPool: true, "x.osn.infn.it/y": true, "osnode.infn.it/x": true, "SECRET": true,
		"example.org/x": false, "plain": false, "mykubernetes.io/x": false, "infn.it/x": false, "kubernetes.io": false,
	} {
		assert.Equal(t, want, node.Reserved(key), key)
	}
}

func TestProviderID(t *testing.T) {
	t.Parallel()
	assert.Equal(t, "openstack://regionOne/ac4a", node.ProviderID("regionOne", "ac4a"))
}
