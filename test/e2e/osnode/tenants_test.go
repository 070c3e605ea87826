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

// TestOsnodeShared has two members of a project, of whom one has nodes. The platform's admission writes into their pods
// where they may run.
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

	lisa.run(t, workload{name: "lisa-on-shared", cpu: "100m", pool: shared, shared: true})
	lisa.run(t, workload{name: "lisa-on-private", cpu: "100m", node: nodes[1], shared: true})
	lisa.run(t, workload{name: "lisa-with-her-own", cpu: "100m", pool: w.privatePool(t, openstack.Lisa)})
	zangrand.run(t, workload{name: "zangrand-on-private", cpu: "100m", pool: w.privatePool(t, openstack.Zangrand)})
	lisa.kubectl(t, "wait", "--for=condition=Ready", "pod/lisa-on-shared", "--timeout=170s")
	zangrand.kubectl(t, "wait", "--for=condition=Ready", "pod/zangrand-on-private", "--timeout=170s")
	out, err := lisa.tries(t, "get", "pod", "zangrand-on-private")
	require.Error(t, err)
	assert.Contains(t, out, `pods "zangrand-on-private" not found`, "what is another's is not there")
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
	lisa.kubectl(t, "delete", "pod", "lisa-on-shared", "lisa-on-private", "lisa-with-her-own", "--now")
	zangrand.kubectl(t, "delete", "pod", "zangrand-on-private", "--now")
	zangrand.kubectl(t, "delete", "osn", "shared", "private")
	w.assertNothingLeft(t, openstack.QST, nodes, uids)
}

// TestOsnodePlatformPool is a pool of the platform that pods of another namespace may use. The machines are in the pool's
// own project. The namespace is no project's: the webhooks let tenants' pods on nodes of their own project only.
func TestOsnodePlatformPool(t *testing.T) {
	w := theWorld(t)
	t.Parallel()
	u := w.user(t, openstack.Zangrand, openstack.QST)
	host, err := w.cloud.Project(openstack.CMS)
	require.NoError(t, err)
	owner, err := w.cloud.User(openstack.Zangrand)
	require.NoError(t, err)
	const guests = "guests"
	home := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: guests}}
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{
		Name: "burst", Labels: map[string]string{"osn.infn.it/platform": "true", osnodev1.LabelProjectID: host.ID, osnodev1.LabelProjectName: host.Name},
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
			AllowedNamespaces: &metav1.LabelSelector{MatchLabels: map[string]string{corev1.LabelMetadataName: guests}},
		},
	}
	w.clean(t, emptyPod(guests, "guest"), emptyPool("burst", "burst"), namespace.DeepCopy(), home.DeepCopy())

	own := pool.DeepCopy()
	own.TypeMeta = metav1.TypeMeta{APIVersion: osnodev1.GroupVersion().String(), Kind: "OpenStackNodePool"}
	own.ObjectMeta = metav1.ObjectMeta{Name: "mine"}
	out, err := u.tries(t, "create", "-f", file(t, own))
	require.Error(t, err)
	assert.Contains(t, out, "only pools in a namespace of the platform, with the label osn.infn.it/platform=true, can have allowedNamespaces")

	for _, object := range []client.Object{namespace, home, pool} {
		require.NoError(t, w.client.Create(t.Context(), object))
	}
	guest := workload{name: "guest", cpu: "1", pool: "p-" + host.ID}.pod()
	guest.Namespace = guests
	guest.Spec.NodeSelector[osnodev1.LabelPool] = "burst" // the lab's own nodes are the same project's
	guest.Spec.Tolerations = []corev1.Toleration{{Key: osnodev1.TaintPool, Value: "p-" + host.ID, Effect: corev1.TaintEffectNoSchedule}}
	eventually(t, "the guest can be made: its ServiceAccount is there", func(ctx context.Context) (bool, string) {
		err := w.client.Create(ctx, guest)
		return err == nil, fmt.Sprint(err)
	})
	w.awaitEvent(t, guest, "TriggeredScaleUp",
		"pod triggered scale-up: pool burst grows from 0 to 1 nodes, with a node of flavor cloudveneto.medium")
	eventually(t, "the guest runs", func(ctx context.Context) (bool, string) {
		err := w.client.Get(ctx, client.ObjectKeyFromObject(guest), guest)
		return err == nil && guest.Status.Phase == corev1.PodRunning, fmt.Sprint(guest.Status, err)
	})
	members, err := w.members(t.Context(), "burst", "burst")
	require.NoError(t, err)
	require.Len(t, members, 1)
	osn := members[0]
	assert.Equal(t, osn.Status.NodeID, guest.Spec.NodeName)
	assert.Equal(t, host.ID, osn.Labels[osnodev1.LabelProjectID])

	require.NoError(t, w.client.Delete(t.Context(), guest))
	began := time.Now()
	eventually(t, "the pool is empty again", func(ctx context.Context) (bool, string) {
		members, err := w.members(ctx, "burst", "burst")
		return err == nil && len(members) == 0, describe(members, err)
	})
	t.Logf("the node and its machine are gone %s after its last pod", time.Since(began).Round(100*time.Millisecond))
	w.assertNothingLeft(t, openstack.CMS, []string{osn.Status.NodeID}, []string{string(osn.UID)})
}
