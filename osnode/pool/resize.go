// SPDX-License-Identifier: Apache-2.0

package pool

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cloudveneto/caas/internal/logging"
	osnodev1 "github.com/cloudveneto/caas/osnode/api/v1"
)

// Reasons of Events about pools.
const (
	eventCreated  = "SuccessfulCreate"
	eventDeleted  = "SuccessfulDelete"
	eventReplaced = "Replacing"
	eventBackoff  = "FlavorBackedOff"
)

// fresh asks the API server which OpenStackNodes the pool has that stay, and which names
// are taken in its namespace.
func (p *Pools) fresh(ctx context.Context, pool *osnodev1.OpenStackNodePool) (own []osnodev1.OpenStackNode, taken map[string]bool, err error) {
	var list osnodev1.OpenStackNodeList
	if err := p.Reader.List(ctx, &list, client.InNamespace(pool.Namespace)); err != nil {
		return nil, nil, fmt.Errorf("list the nodes of pool %q: %w", pool.Name, err)
	}
	taken = map[string]bool{}
	for i := range list.Items {
		osn := &list.Items[i]
		taken[osn.Name] = true
		if belongs(osn, pool) && osn.DeletionTimestamp.IsZero() {
			own = append(own, *osn)
		}
	}
	return own, taken, nil
}

// create makes one node for each flavor. The caller MUST hold the pool, and taken be fresh.
// It returns what it has made also when it fails.
func (p *Pools) create(ctx context.Context, pool *osnodev1.OpenStackNodePool, taken map[string]bool, flavors []string) ([]*osnodev1.OpenStackNode, error) {
	var made []*osnodev1.OpenStackNode
	for i, name := range freeNames(pool, taken, len(flavors)) {
		osn, err := newNode(pool, name, flavors[i])
		if err != nil {
			return made, err
		}
		if err := p.Client.Create(ctx, osn); err != nil {
			return made, fmt.Errorf("create node %q of pool %q: %w", name, pool.Name, err)
		}
		made = append(made, osn)
		p.memory.remember(osn, p.Clock())
		logging.From(ctx).InfoContext(ctx, "created node of pool", "pool", keyOf(pool), "node", name, "flavor", flavors[i])
		p.Recorder.Eventf(pool, osn, corev1.EventTypeNormal, eventCreated, "Create", "Created node %s of flavor %s", name, flavors[i])
	}
	return made, nil
}

// remove deletes a node of the pool, if it is still as it was seen.
func (p *Pools) remove(ctx context.Context, pool *osnodev1.OpenStackNodePool, osn *osnodev1.OpenStackNode, why string) error {
	err := p.Client.Delete(ctx, osn, client.Preconditions{UID: &osn.UID})
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("delete node %q of pool %q: %w", osn.Name, pool.Name, err)
	}
	p.memory.forgetNode(osn)
	if err == nil {
		logging.From(ctx).InfoContext(ctx, "deleted node of pool", "pool", keyOf(pool), "node", osn.Name, "reason", why)
		p.Recorder.Eventf(pool, osn, corev1.EventTypeNormal, eventDeleted, "Delete", "Deleted node %s: %s", osn.Name, why)
	}
	return nil
}

// setReplicas writes how many nodes are wanted, if nobody else has changed the pool.
func (p *Pools) setReplicas(ctx context.Context, pool *osnodev1.OpenStackNodePool, count int) error {
	if pool.Spec.Replicas != nil && int(*pool.Spec.Replicas) == count {
		return nil
	}
	before := pool.DeepCopy()
	pool.Spec.Replicas = new(int32(count)) //nolint:gosec // at most maxReplicas
	patch := client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})
	if err := p.Client.Patch(ctx, pool, patch); err != nil {
		return fmt.Errorf("set the size of pool %q: %w", pool.Name, err)
	}
	return nil
}

// scaled is the record of a change of size.
func (p *Pools) scaled(from, to, pods int, why string) *osnodev1.LastScale {
	return &osnodev1.LastScale{
		At: metav1.NewTime(p.Clock()), From: int32(from), To: int32(to), Reason: why, Pods: int32(pods), //nolint:gosec // small numbers
	}
}

// writeStatus writes a pool's status, before being as it was. The counts are always part of
// it: they have to be there, and 0 is no change to a status that was never written.
func (p *Pools) writeStatus(ctx context.Context, pool, before *osnodev1.OpenStackNodePool) error {
	before.Status.Replicas, before.Status.ReadyReplicas = -1, -1
	if err := p.Client.Status().Patch(ctx, pool, client.MergeFrom(before)); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("write the status of pool %q: %w", pool.Name, err)
	}
	return nil
}
