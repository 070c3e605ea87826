// SPDX-License-Identifier: Apache-2.0

package virtualnode

import (
	"context"
	"fmt"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cloudveneto/caas/internal/logging"
)

const (
	leaseSeconds = 40
	leaseRenewal = 10 * time.Second
	leaseRetry   = 2 * time.Second
)

// leaseLoop renews the node's lease, as a kubelet does.
func (n *Node) leaseLoop(ctx context.Context) {
	var lease *coordinationv1.Lease
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		next, err := n.renew(ctx, lease)
		if err != nil && ctx.Err() == nil {
			logging.From(ctx).Warn("node lease is not renewed", "error", err)
		}
		if lease = next; lease == nil {
			timer.Reset(leaseRetry)
		} else {
			n.check(ctx)
			timer.Reset(leaseRenewal)
		}
	}
}

// renew writes the lease and returns it, or nil to start over.
func (n *Node) renew(ctx context.Context, lease *coordinationv1.Lease) (*coordinationv1.Lease, error) {
	n.mu.Lock()
	owner := n.server
	n.mu.Unlock()
	if owner == nil {
		return nil, nil // no node, no lease; the node is registered elsewhere
	}
	ctx, cancel := context.WithTimeout(ctx, apiTimeout/2)
	defer cancel()
	leases := n.cfg.Client.CoordinationV1().Leases(corev1.NamespaceNodeLease)
	if lease == nil {
		found, err := leases.Get(ctx, n.cfg.Name, metav1.GetOptions{})
		switch {
		case apierrors.IsNotFound(err):
			lease = &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: n.cfg.Name, Namespace: corev1.NamespaceNodeLease}}
		case err != nil:
			return nil, fmt.Errorf("read lease: %w", err)
		default:
			lease = found
		}
	}
	lease = lease.DeepCopy()
	lease.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: owner.Name, UID: owner.UID}}
	lease.Spec.HolderIdentity = new(n.cfg.Name)
	lease.Spec.LeaseDurationSeconds = new(int32(leaseSeconds))
	lease.Spec.RenewTime = new(metav1.NowMicro())
	var err error
	if lease.ResourceVersion == "" {
		lease, err = leases.Create(ctx, lease, metav1.CreateOptions{})
	} else {
		lease, err = leases.Update(ctx, lease, metav1.UpdateOptions{})
	}
	if err != nil {
		return nil, fmt.Errorf("renew lease: %w", err)
	}
	return lease, nil
}
