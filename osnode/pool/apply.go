// SPDX-License-Identifier: Apache-2.0

package pool

import (
	"context"
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"

	"github.com/cloudveneto/caas/internal/logging"
	osnodev1 "github.com/cloudveneto/caas/osnode/api/v1"
	"github.com/cloudveneto/caas/osnode/pool/plan"
)

// Reasons of Events about pods. They are those of cluster-autoscaler, which people know.
const (
	eventTriggered    = "TriggeredScaleUp"
	eventNotTriggered = "NotTriggerScaleUp"
)

// apply does what was decided, and tells the pods. A pool that has changed meanwhile is
// left for the next decision.
func (p *Pools) apply(ctx context.Context, v *view, d *decision) {
	wanted := map[types.NamespacedName]bool{}
	for pod, node := range d.Placed {
		p.memory.promise(pod, node, d.alone[pod])
		if pool, ok := d.poolOf[node]; ok {
			wanted[pool] = true
		}
	}
	launches := map[types.NamespacedName][]plan.Launch{}
	for _, launch := range d.Launches {
		launches[launch.Pool] = append(launches[launch.Pool], launch)
		wanted[launch.Pool] = true
	}
	p.tellPools(p.memory.decided(wanted, d.Limited))
	p.memory.keep(v.pods)
	for key, of := range launches {
		err := p.launch(ctx, v, d, key, of)
		if client.IgnoreNotFound(err) != nil && !apierrors.IsConflict(err) {
			logging.From(ctx).ErrorContext(ctx, "could not enlarge pool", "pool", key, "error", err)
		}
	}
	for uid, refusal := range d.Refused {
		p.refuse(v, uid, refusal.Topic(), refusal.Message)
	}
	for uid := range d.heldBack {
		const why = "nodes were made for this pod before, and the scheduler did not put it there; its own events say why"
		p.refuse(v, uid, why, why)
	}
}

// tellPools has pools looked at.
func (p *Pools) tellPools(pools []types.NamespacedName) {
	for _, key := range pools {
		object := &osnodev1.OpenStackNodePool{}
		object.Namespace, object.Name = key.Namespace, key.Name
		select {
		case p.news <- event.GenericEvent{Object: object}:
		default:
		}
	}
}

func (p *Pools) refuse(v *view, uid types.UID, topic, why string) {
	if p.memory.tell(uid, topic, p.Timers.Repeat, v.now) {
		p.Recorder.Eventf(v.pods[uid], nil, corev1.EventTypeNormal, eventNotTriggered, "ScaleUp", "pod didn't trigger scale-up: %s", why)
	}
}

// launch makes a pool larger. The size is written first: should this process end between,
// the pool gets as many nodes as it should, if not all of the best flavors.
func (p *Pools) launch(ctx context.Context, v *view, d *decision, key types.NamespacedName, launches []plan.Launch) error {
	release, held := p.memory.hold(key)
	if !held {
		p.poke()
		return nil
	}
	defer release()
	pool := &osnodev1.OpenStackNodePool{}
	if err := p.Reader.Get(ctx, key, pool); err != nil {
		return err
	}
	own, taken, err := p.fresh(ctx, pool)
	if err != nil {
		return err
	}
	_, most := limits(pool)
	from := desired(pool)
	room := min(most-from, most-len(own))
	seen := slices.DeleteFunc(slices.Collect(maps.Values(d.poolOf)), func(k types.NamespacedName) bool { return k != key })
	if !pool.DeletionTimestamp.IsZero() || pool.Generation != v.pools[key].Generation || len(own) < from || len(own) != len(seen) || room < 1 {
		p.poke() // the view was old
		return nil
	}
	launches = launches[:min(room, len(launches))]
	if err := p.setReplicas(ctx, pool, from+len(launches)); err != nil {
		return err
	}
	var flavors []string
	pods := 0
	for _, launch := range launches {
		flavors = append(flavors, launch.Flavor)
		pods += len(launch.Pods)
	}
	made, err := p.create(ctx, pool, taken, flavors)
	for i, osn := range made {
		p.promiseAll(v, d, launches[i].Pods, osn, fmt.Sprintf("pool %s grows from %d to %d nodes, with a node of flavor %s",
			pool.Name, from, from+len(launches), flavors[i]))
	}
	before := pool.DeepCopy()
	pool.Status.LastScale = p.scaled(from, from+len(launches), pods, "PodsUnschedulable")
	if patchErr := p.writeStatus(ctx, pool, before); err == nil {
		err = patchErr
	}
	return err
}

func (p *Pools) promiseAll(v *view, d *decision, pods []types.UID, osn *osnodev1.OpenStackNode, note string) {
	for i, uid := range pods {
		waits := d.alone[uid] && i > 0 // the first is the one that it was made for
		p.memory.promise(uid, nodeKey(osn), waits)
		if d.distrusting[uid] && !waits {
			p.memory.strike(uid, p.Timers.BackoffFirst, p.Timers.BackoffMost, v.now)
		}
		if p.memory.tell(uid, nodeKey(osn), p.Timers.Repeat, v.now) {
			p.Recorder.Eventf(v.pods[uid], osn, corev1.EventTypeNormal, eventTriggered, "ScaleUp", "pod triggered scale-up: %s", note)
		}
	}
}
