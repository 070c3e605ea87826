// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package osnode_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cloudveneto/caas/internal/lab/openstack"
	osnodev1 "github.com/cloudveneto/caas/osnode/api/v1"
)

// TestOsnodeShared has two members of a project, of whom one has nodes. What their pods select and tolerate is what the
// platform's admission will write into them.
func TestOsnodeShared(t *testing.T) {
	w := theWorld(t)
	t.Parallel() // after the tests that end the controller
	zangrand, lisa := w.user(t, openstack.Zangrand, openstack.QST), w.user(t, openstack.Lisa, openstack.QST)
	shared := w.sharedPool(t, openstack.QST)
	w.clean(t, emptyPod(poolNamespace, "lisa-on-shared"), emptyPod(poolNamespace, "lisa-on-private"), emptyPod(poolNamespace, "lisa-with-her-own"),
		emptyPod(poolNamespace, "zangrand-on-private"), emptyNode(poolNamespace, "shared"), emptyNode(poolNamespace, "private"))
	var nodes, uids []string
	for _, policy := range []osnodev1.Policy{osnodev1.PolicyShared, osnodev1.PolicyPrivate} {
		zangrand.apply(t, &osnodev1.OpenStackNode{
			TypeMeta:   metav1.TypeMeta{APIVersion: osnodev1.GroupVersion().String(), Kind: "OpenStackNode"},
			ObjectMeta: metav1.ObjectMeta{Name: string(policy)},
			Spec:       osnodev1.OpenStackNodeSpec{Flavor: "cloudveneto.medium", KeyPair: "my-key", Policy: policy},
		})
	}
	for _, policy := range []osnodev1.Policy{osnodev1.PolicyShared, osnodev1.PolicyPrivate} {
		osn := w.awaitPhase(t, poolNamespace, string(policy), osnodev1.PhaseRunning)
		nodes, uids = append(nodes, osn.Status.NodeID), append(uids, string(osn.UID))
	}

	lisa.run(t, workload{name: "lisa-on-shared", cpu: "100m", pool: shared})
	lisa.run(t, workload{name: "lisa-on-private", cpu: "100m", node: nodes[1], tolerate: []string{shared, w.privatePool(t, openstack.Lisa)}})
	lisa.run(t, workload{name: "lisa-with-her-own", cpu: "100m", pool: w.privatePool(t, openstack.Lisa)})
	zangrand.run(t, workload{name: "zangrand-on-private", cpu: "100m", pool: w.privatePool(t, openstack.Zangrand)})
	lisa.kubectl(t, "wait", "--for=condition=Ready", "pod/lisa-on-shared", "pod/zangrand-on-private", "--timeout=170s")
	assert.Equal(t, nodes[0], lisa.pod(t, "lisa-on-shared").Spec.NodeName)
	assert.Equal(t, nodes[1], zangrand.pod(t, "zangrand-on-private").Spec.NodeName)
	for _, name := range []string{"lisa-on-private", "lisa-with-her-own"} {
		eventually(t, name+" finds no node", func(ctx context.Context) (bool, string) {
			pod := &corev1.Pod{}
			err := w.client.Get(ctx, client.ObjectKey{Namespace: poolNamespace, Name: name}, pod)
			return err == nil && unschedulable(pod) != "", fmt.Sprint(pod.Status, err)
		})
		pod := lisa.pod(t, name)
		assert.Equal(t, corev1.PodPending, pod.Status.Phase)
		assert.Empty(t, pod.Spec.NodeName)
		assert.Contains(t, unschedulable(pod), "had untolerated taint")
	}
	lisa.kubectl(t, "delete", "pod", "lisa-on-shared", "lisa-on-private", "lisa-with-her-own", "zangrand-on-private", "--now")
	zangrand.kubectl(t, "delete", "osn", "shared", "private")
	w.assertNothingLeft(t, openstack.QST, nodes, uids)
}

// TestOsnodePlatformPool is a pool of the platform that pods of another project's namespace may use. The machines are in
// the pool's own project.
func TestOsnodePlatformPool(t *testing.T) {
	w := theWorld(t)
	t.Parallel()
	u := w.user(t, openstack.Zangrand, openstack.QST)
	host, err := w.cloud.Project(openstack.CMS)
	require.NoError(t, err)
	owner, err := w.cloud.User(openstack.Zangrand)
	require.NoError(t, err)
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{
		Name: "burst", Labels: map[string]string{"osn.infn.it/platform": "true", osnodev1.LabelProjectID: host.ID},
	}}
	pool := &osnodev1.OpenStackNodePool{
		ObjectMeta: metav1.ObjectMeta{Namespace: "burst", Name: "burst", Labels: map[string]string{
			osnodev1.LabelUserID: owner.ID, osnodev1.LabelUserName: "zangrand-at-infn.it",
			osnodev1.LabelProjectID: host.ID, osnodev1.LabelProjectName: host.Name,
		}},
		Spec: osnodev1.OpenStackNodePoolSpec{
			Flavors:           []string{"cloudveneto.medium"},
			Autoscaling:       &osnodev1.Autoscaling{Enabled: true, Max: 1, IdleTTL: &metav1.Duration{Duration: idleTTL}},
			Template:          osnodev1.NodeTemplate{KeyPair: "my-key", Policy: osnodev1.PolicyShared},
			AllowedNamespaces: &metav1.LabelSelector{MatchLabels: map[string]string{corev1.LabelMetadataName: poolNamespace}},
		},
	}
	w.clean(t, emptyPod(poolNamespace, "guest"), emptyPool("burst", "burst"), namespace.DeepCopy())

	own := pool.DeepCopy()
	own.TypeMeta = metav1.TypeMeta{APIVersion: osnodev1.GroupVersion().String(), Kind: "OpenStackNodePool"}
	own.ObjectMeta = metav1.ObjectMeta{Name: "mine"}
	out, err := u.tries(t, "create", "-f", file(t, own))
	require.Error(t, err)
	assert.Contains(t, out, "only pools in a namespace of the platform, with the label osn.infn.it/platform=true, can have allowedNamespaces")

	require.NoError(t, w.client.Create(t.Context(), namespace))
	require.NoError(t, w.client.Create(t.Context(), pool))
	u.run(t, workload{name: "guest", cpu: "1", pool: "p-" + host.ID})
	w.awaitEvent(t, u.pod(t, "guest"), "TriggeredScaleUp",
		"pod triggered scale-up: pool burst grows from 0 to 1 nodes, with a node of flavor cloudveneto.medium")
	u.kubectl(t, "wait", "--for=condition=Ready", "pod/guest", "--timeout=170s")
	members, err := w.members(t.Context(), "burst", "burst")
	require.NoError(t, err)
	require.Len(t, members, 1)
	osn := members[0]
	assert.Equal(t, osn.Status.NodeID, u.pod(t, "guest").Spec.NodeName)
	assert.Equal(t, host.ID, osn.Labels[osnodev1.LabelProjectID])

	u.kubectl(t, "delete", "pod", "guest", "--now")
	began := time.Now()
	eventually(t, "the pool is empty again", func(ctx context.Context) (bool, string) {
		members, err := w.members(ctx, "burst", "burst")
		return err == nil && len(members) == 0, describe(members, err)
	})
	t.Logf("the node and its machine are gone %s after its last pod", time.Since(began).Round(100*time.Millisecond))
	w.assertNothingLeft(t, openstack.CMS, []string{osn.Status.NodeID}, []string{string(osn.UID)})
}
