// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/retry"

	"github.com/cloudveneto/caas/internal/lab"
	"github.com/cloudveneto/caas/internal/lab/offload"
)

const (
	gpu         = "nvidia.com/gpu"
	machineName = "caas-large"
	machineCPUs = 64
)

// capacityTest has a machine with two GPUs come, change and go behind the virtual node. No kubelet runs on it: what a node
// is, only its object says.
type capacityTest struct {
	*world
	t      *testing.T
	before corev1.ResourceList
}

// TestOffloadCapacity: what the virtual node has follows the tenant's nodes and quota.
func TestOffloadCapacity(t *testing.T) {
	w := theWorld(t)
	c := &capacityTest{world: w, t: t, before: w.allocatable(t)}
	require.NotContains(t, c.before, corev1.ResourceName(gpu))
	pool, err := w.lab.SharedPool(offload.Project)
	require.NoError(t, err)
	machine := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: machineName, Labels: map[string]string{lab.NodePoolLabel: pool}}}
	_, err = w.caas.CoreV1().Nodes().Create(t.Context(), machine, metav1.CreateOptions{})
	require.NoError(t, err)
	t.Cleanup(func() { c.remove() })

	c.report(corev1.ConditionTrue, 2)
	c.awaitTaintsGone()
	c.expect("a machine is there", 2, true)
	c.cordon(true)
	c.expect("it is cordoned", 0, false)
	c.cordon(false)
	c.expect("it is uncordoned", 2, true)
	c.report(corev1.ConditionTrue, 1)
	c.expect("a GPU is broken", 1, true)
	c.report(corev1.ConditionFalse, 1)
	c.expect("it is not ready", 0, false)
	c.report(corev1.ConditionTrue, 2)
	c.awaitTaintsGone()
	c.expect("it is ready again", 2, true)

	quota := &corev1.ResourceQuota{ObjectMeta: metav1.ObjectMeta{Name: "share"}, Spec: corev1.ResourceQuotaSpec{Hard: corev1.ResourceList{
		"requests." + gpu: resource.MustParse("1"), corev1.ResourcePods: resource.MustParse("7"),
	}}}
	quotas := w.caas.CoreV1().ResourceQuotas(w.remoteNamespace)
	_, err = quotas.Create(t.Context(), quota, metav1.CreateOptions{})
	require.NoError(t, err)
	t.Cleanup(func() { _ = quotas.Delete(w.cleanup, quota.Name, metav1.DeleteOptions{}) })
	c.expect("there is a quota", 1, true)
	now := w.allocatable(t)
	assert.LessOrEqual(t, now.Pods().Value(), int64(7))
	require.NoError(t, quotas.Delete(t.Context(), quota.Name, metav1.DeleteOptions{}))
	c.expect("there is none any more", 2, true)

	c.remove()
	c.expect("it has gone", 0, false)
}

func (w *world) allocatable(t *testing.T) corev1.ResourceList {
	t.Helper()
	node, err := w.af.CoreV1().Nodes().Get(t.Context(), w.node, metav1.GetOptions{})
	require.NoError(t, err)
	return node.Status.Allocatable
}

// expect waits until the virtual node has so many GPUs, and the machine's processors or not. How long it takes is shown:
// it is to be less than 5 s, of which a machine that has other things to do knows nothing.
func (c *capacityTest) expect(what string, gpus int64, counts bool) {
	c.t.Helper()
	began := time.Now()
	eventually(c.t.Context(), c.t, what, func() (bool, string) {
		now := c.allocatable(c.t)
		has := now[gpu]
		more := now.Cpu().Value() - c.before.Cpu().Value()
		return has.Value() == gpus && (more > machineCPUs/2) == counts, fmt.Sprint(now)
	})
	c.t.Logf("%s: seen at the virtual node after %s", what, time.Since(began).Round(time.Millisecond))
}

// report plays the machine's kubelet.
func (c *capacityTest) report(ready corev1.ConditionStatus, gpus int64) {
	c.t.Helper()
	nodes := c.caas.CoreV1().Nodes()
	require.NoError(c.t, retry.RetryOnConflict(retry.DefaultBackoff, func() error {
		node, err := nodes.Get(c.t.Context(), machineName, metav1.GetOptions{})
		if err != nil {
			return err
		}
		node.Status.Conditions = []corev1.NodeCondition{{
			Type: corev1.NodeReady, Status: ready, Reason: "Test", LastHeartbeatTime: metav1.Now(), LastTransitionTime: metav1.Now(),
		}}
		node.Status.Capacity = corev1.ResourceList{
			corev1.ResourceCPU: *resource.NewQuantity(machineCPUs, resource.DecimalSI), corev1.ResourceMemory: resource.MustParse("256Gi"),
			corev1.ResourcePods: resource.MustParse("110"), gpu: *resource.NewQuantity(gpus, resource.DecimalSI),
		}
		node.Status.Allocatable = node.Status.Capacity
		_, err = nodes.UpdateStatus(c.t.Context(), node, metav1.UpdateOptions{})
		return err
	}))
}

// awaitTaintsGone waits for Kubernetes to believe that the machine is ready.
func (c *capacityTest) awaitTaintsGone() {
	c.t.Helper()
	eventually(c.t.Context(), c.t, "the machine has no taints", func() (bool, string) {
		node, err := c.caas.CoreV1().Nodes().Get(c.t.Context(), machineName, metav1.GetOptions{})
		if err != nil {
			return false, err.Error()
		}
		return len(node.Spec.Taints) == 0, fmt.Sprint(node.Spec.Taints)
	})
}

func (c *capacityTest) cordon(yes bool) {
	c.t.Helper()
	nodes := c.caas.CoreV1().Nodes()
	require.NoError(c.t, retry.RetryOnConflict(retry.DefaultBackoff, func() error {
		node, err := nodes.Get(c.t.Context(), machineName, metav1.GetOptions{})
		if err != nil {
			return err
		}
		node.Spec.Unschedulable = yes
		_, err = nodes.Update(c.t.Context(), node, metav1.UpdateOptions{})
		return err
	}))
}

func (c *capacityTest) remove() {
	c.t.Helper()
	err := c.caas.CoreV1().Nodes().Delete(c.cleanup, machineName, metav1.DeleteOptions{})
	if !apierrors.IsNotFound(err) {
		assert.NoError(c.t, err)
	}
}
