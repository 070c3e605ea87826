// SPDX-License-Identifier: Apache-2.0

package pool

import (
	"context"
	"errors"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	osnodev1 "github.com/cloudveneto/caas/osnode/api/v1"
	"github.com/cloudveneto/caas/osnode/pool/plan"
)

// What follows is for an autoscaler outside, which thinks in groups of equal nodes: here
// those of a pool that have the same flavor. Only pools of driver "externalgrpc" have any.

var (
	// ErrNoGroup says that there is no such group, or no such node in it.
	ErrNoGroup = errors.New("no such node group")
	// ErrLimit says that a pool would leave its limits.
	ErrLimit = errors.New("the pool's limits do not allow it")
	// ErrBusy says that the pool is being changed just now.
	ErrBusy = errors.New("the pool is being changed")
)

// GroupID names a group.
type GroupID struct {
	Pool   types.NamespacedName
	Flavor string
}

// Group is how a group is.
type Group struct {
	ID GroupID
	// Min and Max are its limits, as long as the pool's other groups stay as they are.
	Min, Max int
	// Size is how many nodes it has or will have.
	Size int
}

// Instance is a node of a group, or what is to become one.
type Instance struct {
	// ID is the Node's provider id; another name while that is not known.
	ID string
	// Running tells that it is a node.
	Running bool
	// ErrorCode and ErrorMessage are why OpenStack does not give the machine.
	ErrorCode, ErrorMessage string
}

// ExternalGroups are all groups, in a stable order.
func (p *Pools) ExternalGroups(ctx context.Context) ([]Group, error) {
	var pools osnodev1.OpenStackNodePoolList
	if err := p.Client.List(ctx, &pools); err != nil {
		return nil, err
	}
	slices.SortFunc(pools.Items, func(a, b osnodev1.OpenStackNodePool) int {
		return slices.Compare([]string{a.Namespace, a.Name}, []string{b.Namespace, b.Name})
	})
	var groups []Group
	for i := range pools.Items {
		pool := &pools.Items[i]
		if driver(pool) != osnodev1.DriverExternalGRPC || !pool.DeletionTimestamp.IsZero() {
			continue
		}
		own, _, err := p.fresh(ctx, pool)
		if err != nil {
			return nil, err
		}
		for _, flavor := range pool.Spec.Flavors {
			groups = append(groups, group(pool, own, flavor))
		}
	}
	return groups, nil
}

func group(pool *osnodev1.OpenStackNodePool, own []osnodev1.OpenStackNode, flavor string) Group {
	least, most := limits(pool)
	size := len(ofFlavor(own, flavor))
	others := len(own) - size
	return Group{
		ID: GroupID{Pool: keyOf(pool), Flavor: flavor}, Size: size,
		Min: max(least-others, 0), Max: max(most-others, size),
	}
}

func ofFlavor(nodes []osnodev1.OpenStackNode, flavor string) []osnodev1.OpenStackNode {
	return slices.DeleteFunc(slices.Clone(nodes), func(osn osnodev1.OpenStackNode) bool { return osn.Spec.Flavor != flavor })
}

// groupPool is the pool of a group, as the API server has it.
func (p *Pools) groupPool(ctx context.Context, id GroupID) (*osnodev1.OpenStackNodePool, error) {
	pool := &osnodev1.OpenStackNodePool{}
	err := p.Reader.Get(ctx, id.Pool, pool)
	if apierrors.IsNotFound(err) || (err == nil && (driver(pool) != osnodev1.DriverExternalGRPC ||
		!pool.DeletionTimestamp.IsZero() || !slices.Contains(pool.Spec.Flavors, id.Flavor))) {
		return nil, fmt.Errorf("%w: flavor %q of pool %s", ErrNoGroup, id.Flavor, id.Pool)
	}
	return pool, err
}

// GroupOf is the group of a node, by its provider id, or the id that Instances gave it.
func (p *Pools) GroupOf(ctx context.Context, instance string) (Group, error) {
	groups, err := p.ExternalGroups(ctx)
	if err != nil {
		return Group{}, err
	}
	for _, candidate := range groups {
		instances, err := p.Instances(ctx, candidate.ID)
		if err != nil {
			return Group{}, err
		}
		if slices.ContainsFunc(instances, func(i Instance) bool { return i.ID == instance }) {
			return candidate, nil
		}
	}
	return Group{}, fmt.Errorf("%w for node %q", ErrNoGroup, instance)
}

// Instances are a group's nodes.
func (p *Pools) Instances(ctx context.Context, id GroupID) ([]Instance, error) {
	pool, err := p.groupPool(ctx, id)
	if err != nil {
		return nil, err
	}
	own, _, err := p.fresh(ctx, pool)
	if err != nil {
		return nil, err
	}
	var instances []Instance
	for _, osn := range ofFlavor(own, id.Flavor) {
		m := member{osn: &osn}
		if m.node, err = p.nodeOf(ctx, &osn); err != nil {
			return nil, err
		}
		instance := Instance{ID: instanceID(&osn), Running: m.node != nil && osn.Status.ProviderID != ""}
		instance.ErrorCode, instance.ErrorMessage = m.blocked()
		instances = append(instances, instance)
	}
	return instances, nil
}

// instanceID is a node's provider id, once it has one.
func instanceID(osn *osnodev1.OpenStackNode) string {
	if osn.Status.ProviderID != "" {
		return osn.Status.ProviderID
	}
	return "openstacknode://" + osn.Namespace + "/" + osn.Name
}

// change does something to a group while nobody else changes its pool.
func (p *Pools) change(ctx context.Context, id GroupID, do func(pool *osnodev1.OpenStackNodePool, own []osnodev1.OpenStackNode, taken map[string]bool) error) error {
	release, held := p.memory.hold(id.Pool)
	if !held {
		return ErrBusy
	}
	defer release()
	pool, err := p.groupPool(ctx, id)
	if err != nil {
		return err
	}
	own, taken, err := p.fresh(ctx, pool)
	if err != nil {
		return err
	}
	return do(pool, own, taken)
}

// Grow makes a group larger.
func (p *Pools) Grow(ctx context.Context, id GroupID, count int) error {
	return p.change(ctx, id, func(pool *osnodev1.OpenStackNodePool, own []osnodev1.OpenStackNode, taken map[string]bool) error {
		_, most := limits(pool)
		if count < 1 || len(own)+count > most {
			return fmt.Errorf("%w: %d and %d more nodes of at most %d", ErrLimit, len(own), count, most)
		}
		if _, err := p.account(ctx, pool); err != nil {
			return err
		}
		if err := p.resize(ctx, pool, len(own), len(own)+count); err != nil {
			return err
		}
		_, err := p.create(ctx, pool, taken, slices.Repeat([]string{id.Flavor}, count))
		return err
	})
}

// resize writes a pool's size and the record of it.
func (p *Pools) resize(ctx context.Context, pool *osnodev1.OpenStackNodePool, from, to int) error {
	if err := p.setReplicas(ctx, pool, to); err != nil {
		return err
	}
	before := pool.DeepCopy()
	pool.Status.LastScale = p.scaled(from, to, 0, "ClusterAutoscaler")
	return p.writeStatus(ctx, pool, before)
}

// Shrink takes back nodes that were asked for and are not there yet; others it does not touch.
func (p *Pools) Shrink(ctx context.Context, id GroupID, count int) error {
	return p.change(ctx, id, func(pool *osnodev1.OpenStackNodePool, own []osnodev1.OpenStackNode, _ map[string]bool) error {
		var coming []osnodev1.OpenStackNode
		for _, osn := range ofFlavor(own, id.Flavor) {
			if node, err := p.nodeOf(ctx, &osn); err != nil {
				return err
			} else if node == nil {
				coming = append(coming, osn)
			}
		}
		if count < 1 || len(coming) < count {
			return fmt.Errorf("%w: only %d nodes of the group are not there yet", ErrLimit, len(coming))
		}
		slices.SortFunc(coming, func(a, b osnodev1.OpenStackNode) int { return compareAge(&b, &a) })
		return p.removeAll(ctx, pool, own, coming[:count])
	})
}

// Remove removes nodes of a group by their instances' ids: all of them, or none if one is
// not the group's.
func (p *Pools) Remove(ctx context.Context, id GroupID, instances []string) error {
	return p.change(ctx, id, func(pool *osnodev1.OpenStackNodePool, own []osnodev1.OpenStackNode, _ map[string]bool) error {
		var victims []osnodev1.OpenStackNode
		for _, instance := range instances {
			at := slices.IndexFunc(own, func(osn osnodev1.OpenStackNode) bool {
				return osn.Spec.Flavor == id.Flavor && instanceID(&osn) == instance
			})
			if at < 0 {
				return fmt.Errorf("%w: node %q", ErrNoGroup, instance)
			}
			victims = append(victims, own[at])
		}
		return p.removeAll(ctx, pool, own, victims)
	})
}

func (p *Pools) removeAll(ctx context.Context, pool *osnodev1.OpenStackNodePool, own, victims []osnodev1.OpenStackNode) error {
	least, _ := limits(pool)
	if left := len(own) - len(victims); left < least {
		return fmt.Errorf("%w: %d nodes would be left of at least %d", ErrLimit, left, least)
	}
	for i := range victims {
		if victims[i].Annotations[osnodev1.AnnotationDoNotDisrupt] == "true" {
			return fmt.Errorf("%w: node %q must not be disrupted", ErrLimit, victims[i].Name)
		}
	}
	if err := p.resize(ctx, pool, len(own), len(own)-len(victims)); err != nil {
		return err
	}
	for i := range victims {
		if err := p.remove(ctx, pool, &victims[i], "cluster-autoscaler removes it"); err != nil {
			return err
		}
	}
	return nil
}

// TemplateNode is what a new node of a group will look like, with what it will have for pods.
func (p *Pools) TemplateNode(ctx context.Context, id GroupID) (*corev1.Node, error) {
	pool, err := p.groupPool(ctx, id)
	if err != nil {
		return nil, err
	}
	account, err := p.account(ctx, pool)
	if err != nil {
		return nil, err
	}
	flavor, err := p.flavor(ctx, account, id.Flavor)
	if err != nil {
		return nil, err
	}
	object, allocatable, err := p.template(pool, account, flavor, nil)
	if err != nil {
		return nil, err
	}
	object.Status.Allocatable = allocatable.List()
	object.Status.Capacity = object.Status.Allocatable.DeepCopy()
	full := plan.NewResources(object.Status.Capacity)
	full.MilliCPU, full.Memory = int64(flavor.VCPUs)*1000, int64(flavor.MemoryMiB)*mebi
	object.Status.Capacity = full.List()
	object.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(p.Clock())}}
	return object, nil
}

// IdleTTL is how long a group's node may be without use.
func (p *Pools) IdleTTL(ctx context.Context, id GroupID) (*metav1.Duration, error) {
	pool, err := p.groupPool(ctx, id)
	if err != nil {
		return nil, err
	}
	if pool.Spec.Autoscaling.IdleTTL != nil {
		return pool.Spec.Autoscaling.IdleTTL, nil
	}
	return &metav1.Duration{Duration: p.Timers.IdleTTL}, nil
}
