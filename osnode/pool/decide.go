// SPDX-License-Identifier: Apache-2.0

package pool

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	osnodev1 "github.com/cloudveneto/caas/osnode/api/v1"
	"github.com/cloudveneto/caas/osnode/cloud"
	"github.com/cloudveneto/caas/osnode/pool/plan"
)

// decision is a plan, with what it was made from.
type decision struct {
	plan.Result
	// poolOf has the pool of each node that has one.
	poolOf map[string]types.NamespacedName
	// distrusting are the pods that a node was made for in vain, heldBack those of them for
	// which none is made now.
	distrusting, heldBack map[types.UID]bool
	// alone are the pods of which it is not known where they can run.
	alone map[types.UID]bool
}

// plan decides by what was seen. OpenStack is asked about quotas only when something would
// be made.
func (p *Pools) plan(ctx context.Context, v *view) (*decision, error) {
	nodes, seen, err := p.planNodes(ctx, v)
	if err != nil {
		return nil, err
	}
	d := &decision{poolOf: map[string]types.NamespacedName{}, distrusting: map[types.UID]bool{}, heldBack: map[types.UID]bool{}, alone: map[types.UID]bool{}}
	for _, osn := range v.nodes {
		if pool := p.poolOf(v, osn); pool != nil {
			d.poolOf[nodeKey(osn)] = keyOf(pool)
		}
	}
	in := plan.Input{Nodes: nodes, Pods: p.planPods(v, nodes, d), Pools: p.planPools(v)}
	in.Groups = p.groups(ctx, v, seen)
	if d.Result = plan.Decide(in); len(d.Launches) == 0 {
		return d, nil
	}
	in.Quotas = p.quotas(ctx, v, in.Groups)
	d.Result = plan.Decide(in)
	return d, nil
}

func (p *Pools) planPods(v *view, nodes []plan.Node, d *decision) []plan.Pod {
	ready := map[string]bool{}
	for i := range nodes {
		ready[nodes[i].Name] = nodes[i].Ready
	}
	var pods []plan.Pod
	for uid, pod := range v.pods {
		standing := p.memory.standing(uid, ready, p.Timers.Settle, v.now)
		if standing.heldBack {
			d.heldBack[uid] = true
			continue
		}
		entry := plan.NewPod(pod)
		entry.Held, entry.Distrust = standing.held, standing.distrust
		d.distrusting[uid], d.alone[uid] = standing.distrust, entry.Alone
		pods = append(pods, entry)
	}
	return pods
}

func (p *Pools) planPools(v *view) map[types.NamespacedName]plan.Pool {
	count := map[types.NamespacedName]int{}
	for _, osn := range v.nodes {
		if pool := p.poolOf(v, osn); pool != nil {
			count[keyOf(pool)]++
		}
	}
	pools := map[types.NamespacedName]plan.Pool{}
	for key, pool := range v.pools {
		_, most := limits(pool)
		pools[key] = plan.Pool{Room: max(most-max(count[key], desired(pool)), 0), Max: most, Serves: v.serves[key]}
	}
	return pools
}

// groups are what pools that serve the waiting pods could have more of.
func (p *Pools) groups(ctx context.Context, v *view, seen map[string]plan.Resources) []plan.Group {
	namespaces := map[string]bool{}
	for _, pod := range v.pods {
		namespaces[pod.Namespace] = true
	}
	keys := slices.SortedFunc(maps.Keys(v.pools), func(a, b types.NamespacedName) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	var groups []plan.Group
	for _, key := range keys {
		serves := v.serves[key]
		if !slices.ContainsFunc(slices.Collect(maps.Keys(namespaces)), func(name string) bool { return serves[name] }) {
			continue
		}
		for _, name := range v.pools[key].Spec.Flavors {
			groups = append(groups, p.group(ctx, v, v.pools[key], name, seen))
		}
	}
	return groups
}

func (p *Pools) group(ctx context.Context, v *view, pool *osnodev1.OpenStackNodePool, name string, seen map[string]plan.Resources) plan.Group {
	account := v.accounts[keyOf(pool)]
	group := plan.Group{Pool: keyOf(pool), Flavor: name, Account: accountKey(account)}
	flavor, err := p.flavor(ctx, account, name)
	if err != nil {
		flavor.Name = name // what its nodes' labels and taints are can be told all the same
	}
	object, allocatable, templateErr := p.template(pool, account, flavor, v.daemons)
	group.Template, group.Allocatable = object, allocatable
	if err := errors.Join(err, templateErr); err != nil {
		group.Blocked = plan.Refusal{Reason: plan.Unavailable, Message: fmt.Sprintf("flavor %q of pool %q: %v", name, pool.Name, err)}
		return group
	}
	group.VCPUs, group.MemoryMiB, group.GPUs = flavor.VCPUs, flavor.MemoryMiB, flavor.GPUs
	if actual, ok := seen[pool.Namespace+"/"+pool.Name+"/"+name]; ok {
		group.Allocatable = actual
	}
	if held, ok := v.backoff[backoffKey(account, pool, name)]; ok {
		group.Blocked = plan.Refusal{
			Reason:  plan.BackedOff,
			Message: fmt.Sprintf("flavor %q is not tried before %s: %s", name, held.Until.UTC().Format("15:04:05 MST"), held.Message),
		}
	}
	return group
}

// template is what a node of a pool and flavor will look like, and have for pods.
func (p *Pools) template(pool *osnodev1.OpenStackNodePool, account cloud.Account, flavor cloud.Flavor, on daemons) (*corev1.Node, plan.Resources, error) {
	osn, err := p.plannedNode(pool, account, flavor)
	if err != nil {
		return &corev1.Node{}, plan.Resources{}, err
	}
	object := templateNode(osn, pool)
	return object, p.Reserve.allocatable(withRootDisk(flavor, pool.Spec.Template.RootDisk)).Sub(on.on(object)), nil
}

// quotas are what the projects' quotas leave once the machines are made that were decided
// on before. A project whose quota cannot be told gets nothing.
func (p *Pools) quotas(ctx context.Context, v *view, groups []plan.Group) map[string]plan.Quota {
	quotas := map[string]plan.Quota{}
	for i := range groups {
		group := &groups[i]
		account := v.accounts[group.Pool]
		if _, known := quotas[group.Account]; known || group.Blocked.Reason != 0 {
			continue
		}
		quota, err := p.Cloud.Quota(ctx, account)
		if err != nil {
			for j := range groups {
				if groups[j].Account == group.Account && groups[j].Blocked.Reason == 0 {
					groups[j].Blocked = plan.Refusal{Reason: plan.Unavailable, Message: fmt.Sprintf("the project's quota cannot be told: %v", err)}
				}
			}
			continue
		}
		quotas[group.Account] = p.lessComing(ctx, v, group.Account, quota)
	}
	return quotas
}

// lessComing takes the machines from a quota that OpenStack does not count yet.
func (p *Pools) lessComing(ctx context.Context, v *view, account string, quota cloud.Quota) plan.Quota {
	var coming cloud.Flavor
	instances := 0
	for _, osn := range v.nodes {
		m := member{osn: osn}
		if m.hasServer() || !comes(osn, p.Timers.Join, v.now) || accountKey(p.nodeAccount(osn)) != account {
			continue
		}
		instances++
		if flavor, ok := p.flavorOf(ctx, v, osn, p.poolOf(v, osn)); ok {
			coming.VCPUs += flavor.VCPUs
			coming.MemoryMiB += flavor.MemoryMiB
		}
	}
	return plan.Quota{
		Cores: less(quota.Cores, coming.VCPUs), Instances: less(quota.Instances, instances), MemoryMiB: less(quota.MemoryMiB, coming.MemoryMiB),
	}
}

func less(amount cloud.Amount, coming int) int {
	left, limited := amount.Free()
	if !limited {
		return -1
	}
	return max(left-coming, 0)
}
