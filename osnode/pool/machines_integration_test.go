// SPDX-License-Identifier: Apache-2.0

//go:build integration

package pool_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	osnodev1 "github.com/cloudveneto/caas/osnode/api/v1"
	"github.com/cloudveneto/caas/osnode/node"
	"github.com/cloudveneto/caas/osnode/pool/pooltest"
)

// machines do what the controller of OpenStackNodes, OpenStack and kubelets do: an
// OpenStackNode becomes a Node that is ready, unless the cloud refuses the machine.
type machines struct {
	w *world
	// boot is how long a machine takes.
	mu     sync.Mutex
	boot   time.Duration
	most   int
	served map[types.UID]string
}

func startMachines(t *testing.T, w *world) *machines {
	t.Helper()
	m := &machines{w: w, boot: 300 * time.Millisecond, served: map[types.UID]string{}}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			m.round(ctx)
			time.Sleep(step)
		}
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	return m
}

func (m *machines) setBoot(d time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.boot = d
}

// greatest is the greatest number of OpenStackNodes that were there at a time.
func (m *machines) greatest() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.most
}

func (m *machines) round(ctx context.Context) {
	var list osnodev1.OpenStackNodeList
	if err := m.w.client.List(ctx, &list, client.InNamespace(m.w.namespace)); err != nil {
		return
	}
	alive := 0
	for i := range list.Items {
		osn := &list.Items[i]
		if osn.DeletionTimestamp.IsZero() {
			alive++
			m.serve(ctx, osn)
			continue
		}
		m.end(ctx, osn)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.most = max(m.most, alive)
}

// serve takes an OpenStackNode one step on; what fails is tried again in the next round.
func (m *machines) serve(ctx context.Context, osn *osnodev1.OpenStackNode) {
	before := osn.DeepCopy()
	if !strings.Contains(strings.Join(osn.Finalizers, ","), osnodev1.Finalizer) {
		osn.Finalizers = append(osn.Finalizers, osnodev1.Finalizer)
		osn.Spec.Region, osn.Spec.AvailabilityZone, osn.Spec.Provider = pooltest.Region, "nova", pooltest.Provider
		_ = m.w.client.Patch(ctx, osn, client.MergeFrom(before))
		return
	}
	m.mu.Lock()
	boot := m.boot
	m.mu.Unlock()
	switch {
	case osn.Status.Server == nil && m.refusal(ctx, osn) != "":
		reason := m.refusal(ctx, osn)
		osn.Status.Phase = osnodev1.PhasePending
		osn.Status.Conditions = []metav1.Condition{{
			Type: osnodev1.ConditionQuotaAvailable, Status: metav1.ConditionFalse, Reason: reason,
			Message: "the cloud says no", LastTransitionTime: osn.CreationTimestamp,
		}}
	case osn.Status.Server == nil:
		osn.Status.NodeID = osn.Name + "-1696949601872"
		osn.Status.Server = &osnodev1.ServerStatus{ID: string(osn.UID), Status: "ACTIVE", Created: new(metav1.Now())}
		osn.Status.ProviderID = node.ProviderID(pooltest.Region, string(osn.UID))
		osn.Status.Phase, osn.Status.Conditions = osnodev1.PhaseJoining, nil
		m.w.cloud.Use(osn.Labels[osnodev1.LabelProjectID], osn.Spec.Flavor, 1)
	case osn.Status.Phase == osnodev1.PhaseJoining && time.Since(osn.Status.Server.Created.Time) >= boot:
		if m.join(ctx, osn) != nil {
			return
		}
		osn.Status.Phase = osnodev1.PhaseRunning
	default:
		return
	}
	_ = m.w.client.Status().Patch(ctx, osn, client.MergeFrom(before))
}

func (m *machines) refusal(ctx context.Context, osn *osnodev1.OpenStackNode) string {
	if reason := m.w.cloud.Refusal(osn.Spec.Flavor); reason != "" {
		return reason
	}
	account := accountOf(osn)
	quota, err := m.w.cloud.Quota(ctx, account)
	if err != nil {
		return ""
	}
	flavor, err := m.w.cloud.Flavor(ctx, account, osn.Spec.Flavor)
	if left, limited := quota.Cores.Free(); err == nil && limited && left < flavor.VCPUs {
		return osnodev1.ReasonQuotaExceeded
	}
	return ""
}

func (m *machines) join(ctx context.Context, osn *osnodev1.OpenStackNode) error {
	var owner osnodev1.OpenStackNodePool
	if err := m.w.client.Get(ctx, types.NamespacedName{Namespace: osn.Namespace, Name: osn.Labels[osnodev1.LabelPool]}, &owner); err != nil {
		return err
	}
	object, err := node.For(osn, &owner)
	if err != nil {
		return err
	}
	node.Joined(object)
	if err := m.w.client.Create(ctx, object); err != nil && !apierrors.IsAlreadyExists(err) {
		return err
	}
	flavor, err := m.w.cloud.Flavor(ctx, accountOf(osn), osn.Spec.Flavor)
	if err != nil {
		return err
	}
	var current corev1.Node
	if err := m.w.client.Get(ctx, types.NamespacedName{Name: object.Name}, &current); err != nil {
		return err
	}
	before := current.DeepCopy()
	current.Status.Capacity = corev1.ResourceList{
		corev1.ResourceCPU:    *resource.NewQuantity(int64(flavor.VCPUs), resource.DecimalSI),
		corev1.ResourceMemory: *resource.NewQuantity(int64(flavor.MemoryMiB)<<20, resource.BinarySI), corev1.ResourcePods: resource.MustParse("110"),
	}
	current.Status.Allocatable = current.Status.Capacity.DeepCopy()
	current.Status.Allocatable[corev1.ResourceCPU] = *resource.NewMilliQuantity(int64(flavor.VCPUs)*1000-200, resource.DecimalSI)
	current.Status.Conditions = []corev1.NodeCondition{{
		Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "KubeletReady",
		LastHeartbeatTime: metav1.NewTime(time.Now().Add(time.Hour)), LastTransitionTime: metav1.Now(),
	}}
	return m.w.client.Status().Patch(ctx, &current, client.MergeFrom(before))
}

func (m *machines) end(ctx context.Context, osn *osnodev1.OpenStackNode) {
	if osn.Status.NodeID != "" {
		_ = m.w.client.Delete(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: osn.Status.NodeID}})
	}
	if osn.Status.Server != nil {
		m.w.cloud.Use(osn.Labels[osnodev1.LabelProjectID], osn.Spec.Flavor, -1)
	}
	before := osn.DeepCopy()
	osn.Finalizers = nil
	_ = m.w.client.Patch(ctx, osn, client.MergeFrom(before))
}
