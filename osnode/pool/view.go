// SPDX-License-Identifier: Apache-2.0

package pool

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	podresource "k8s.io/component-helpers/resource"
	"sigs.k8s.io/controller-runtime/pkg/client"

	osnodev1 "github.com/cloudveneto/caas/osnode/api/v1"
	"github.com/cloudveneto/caas/osnode/cloud"
	"github.com/cloudveneto/caas/osnode/pool/plan"
)

// view is all that a decision starts from, as the cache has it.
type view struct {
	now time.Time
	// pods wait, and may use one of the pools.
	pods map[types.UID]*corev1.Pod
	// pools of the built-in autoscaler, with their owners' accounts.
	pools    map[types.NamespacedName]*osnodev1.OpenStackNodePool
	accounts map[types.NamespacedName]cloud.Account
	// serves has the namespaces of each pool.
	serves map[types.NamespacedName]map[string]bool
	// nodes are all OpenStackNodes that matter to the pods or the quotas.
	nodes   []*osnodev1.OpenStackNode
	daemons daemons
	// backoff are the flavors that are not tried now: by account, zone and name.
	backoff map[string]osnodev1.FlavorBackoff
}

// look reads the cache. A pool whose owner is not known is left out.
func (p *Pools) look(ctx context.Context) (*view, error) {
	v := &view{
		now: p.Clock(), pods: map[types.UID]*corev1.Pod{},
		pools: map[types.NamespacedName]*osnodev1.OpenStackNodePool{}, accounts: map[types.NamespacedName]cloud.Account{},
		serves: map[types.NamespacedName]map[string]bool{}, backoff: map[string]osnodev1.FlavorBackoff{},
	}
	var pods corev1.PodList
	err := p.Client.List(ctx, &pods, client.MatchingFields{indexPending: isPending}, client.UnsafeDisableDeepCopy)
	if err != nil || len(pods.Items) == 0 {
		return v, err
	}
	if err := p.lookAtPools(ctx, v); err != nil {
		return nil, err
	}
	v.lookAtPods(pods.Items, p.Timers.PendingAge)
	if len(v.pods) == 0 {
		return v, nil
	}
	if v.daemons, err = p.daemons(ctx); err != nil {
		return nil, err
	}
	if err := p.lookAtNodes(ctx, v); err != nil {
		return nil, err
	}
	return v, nil
}

// lookAtPods takes the pods that have waited for the given time, and may use one of the pools.
func (v *view) lookAtPods(pods []corev1.Pod, pendingAge time.Duration) {
	served := map[string]bool{}
	for _, namespaces := range v.serves {
		maps.Copy(served, namespaces)
	}
	for i := range pods {
		pod := &pods[i]
		since, waits := waitsSince(pod)
		if waits && served[pod.Namespace] && v.now.Sub(since) >= pendingAge {
			v.pods[pod.UID] = pod
		}
	}
}

// lookAtNodes takes the OpenStackNodes that stay, the oldest first.
func (p *Pools) lookAtNodes(ctx context.Context, v *view) error {
	var nodes osnodev1.OpenStackNodeList
	if err := p.Client.List(ctx, &nodes); err != nil {
		return err
	}
	for i := range nodes.Items {
		if nodes.Items[i].DeletionTimestamp.IsZero() {
			v.nodes = append(v.nodes, &nodes.Items[i])
		}
	}
	v.nodes = append(v.nodes, p.memory.notYetCached(v.nodes, v.now)...)
	slices.SortFunc(v.nodes, compareAge)
	return nil
}

func (p *Pools) lookAtPools(ctx context.Context, v *view) error {
	var pools osnodev1.OpenStackNodePoolList
	if err := p.Client.List(ctx, &pools); err != nil {
		return err
	}
	for i := range pools.Items {
		pool := &pools.Items[i]
		if !pool.DeletionTimestamp.IsZero() {
			continue
		}
		account, err := p.account(ctx, pool)
		if err != nil {
			continue // the pool's own status says so
		}
		v.lookAtBackoff(account, pool)
		if driver(pool) != osnodev1.DriverBuiltin {
			continue
		}
		serves, err := p.served(ctx, pool)
		if err != nil {
			return err
		}
		v.pools[keyOf(pool)], v.accounts[keyOf(pool)], v.serves[keyOf(pool)] = pool, account, serves
	}
	return nil
}

// lookAtBackoff takes what a pool does not try now. Of what several pools say of a flavor, that
// holds which ends last.
func (v *view) lookAtBackoff(account cloud.Account, pool *osnodev1.OpenStackNodePool) {
	for _, held := range pool.Status.Backoff {
		key := backoffKey(account, pool, held.Flavor)
		if v.now.Before(held.Until.Time) && held.Until.After(v.backoff[key].Until.Time) {
			v.backoff[key] = held
		}
	}
}

// served are the namespaces whose pods may use a pool: its own, or those that it allows. That
// only administrators' pools may allow any is admission's to see to.
func (p *Pools) served(ctx context.Context, pool *osnodev1.OpenStackNodePool) (map[string]bool, error) {
	if pool.Spec.AllowedNamespaces == nil {
		return map[string]bool{pool.Namespace: true}, nil
	}
	allowed, err := metav1.LabelSelectorAsSelector(pool.Spec.AllowedNamespaces)
	if err != nil {
		allowed = labels.Nothing()
	}
	var namespaces corev1.NamespaceList
	if err := p.Client.List(ctx, &namespaces, client.MatchingLabelsSelector{Selector: allowed}); err != nil {
		return nil, fmt.Errorf("namespaces that pool %q allows: %w", pool.Name, err)
	}
	serves := map[string]bool{}
	for i := range namespaces.Items {
		serves[namespaces.Items[i].Name] = true
	}
	return serves, nil
}

func accountKey(account cloud.Account) string {
	return account.Provider + "/" + account.Region + "/" + account.ProjectID
}

func backoffKey(account cloud.Account, pool *osnodev1.OpenStackNodePool, flavor string) string {
	return accountKey(account) + "/" + pool.Spec.Template.AvailabilityZone + "/" + flavor
}

// planNodes are the nodes that pods could run on, there or on their way: those of the
// OpenStackNodes in the namespaces of pods that wait, and of the pools that serve these.
// Corrected allocatables of pools' flavors come with them.
func (p *Pools) planNodes(ctx context.Context, v *view) ([]plan.Node, map[string]plan.Resources, error) {
	namespaces := v.nodeNamespaces()
	var nodes []plan.Node
	seen := map[string]plan.Resources{}
	for _, osn := range v.nodes {
		if !namespaces[osn.Namespace] {
			continue
		}
		entry, counts, err := p.planNode(ctx, v, osn)
		if err != nil {
			return nil, nil, err
		}
		if !counts {
			continue
		}
		nodes = append(nodes, entry)
		if name := osn.Labels[osnodev1.LabelPool]; entry.Ready && name != "" {
			seen[osn.Namespace+"/"+name+"/"+osn.Spec.Flavor] = entry.Allocatable
		}
	}
	return nodes, seen, nil
}

// planNode is an OpenStackNode's node; counts is false if it takes no pods and is not on its
// way, or nothing is known of it.
func (p *Pools) planNode(ctx context.Context, v *view, osn *osnodev1.OpenStackNode) (entry plan.Node, counts bool, err error) {
	object, err := p.nodeOf(ctx, osn)
	switch {
	case err != nil:
		return plan.Node{}, false, err
	case object != nil && takesPods(object):
		p.smooth(p.poolOf(v, osn), osn, object)
		entry, err = p.readyNode(ctx, osn, object)
		return entry, err == nil, err
	case comes(osn, p.Timers.Join, v.now):
		entry, counts = p.comingNode(ctx, v, osn)
		return entry, counts, nil
	default:
		return plan.Node{}, false, nil
	}
}

// nodeNamespaces are where the nodes are that waiting pods could run on: the pods' own, and
// those of the pools that serve these.
func (v *view) nodeNamespaces() map[string]bool {
	waiting := map[string]bool{}
	for _, pod := range v.pods {
		waiting[pod.Namespace] = true
	}
	namespaces := maps.Clone(waiting)
	for pool, serves := range v.serves {
		for name := range waiting {
			if serves[name] {
				namespaces[pool.Namespace] = true
				break
			}
		}
	}
	return namespaces
}

// smooth makes a ready node look as it soon will: without the taints of the time before,
// and open again if the pool has closed it only because nobody wanted it.
func (p *Pools) smooth(pool *osnodev1.OpenStackNodePool, osn *osnodev1.OpenStackNode, object *corev1.Node) {
	object.Spec.Taints = slices.DeleteFunc(slices.Clone(object.Spec.Taints), func(taint corev1.Taint) bool {
		return taint.Key == corev1.TaintNodeNotReady || taint.Key == corev1.TaintNodeUnreachable || taint.Key == corev1.TaintNodeUnschedulable
	})
	if pool == nil || object.Annotations[annotationRetiring] == "" {
		return
	}
	if made, err := templateDigest(pool); err == nil {
		outdated, _ := p.outdated(pool, osn, made)
		object.Spec.Unschedulable = outdated
	}
}

func (p *Pools) readyNode(ctx context.Context, osn *osnodev1.OpenStackNode, object *corev1.Node) (plan.Node, error) {
	var pods corev1.PodList
	if err := p.Client.List(ctx, &pods, client.MatchingFields{indexNode: object.Name}, client.UnsafeDisableDeepCopy); err != nil {
		return plan.Node{}, err
	}
	allocatable := plan.NewResources(object.Status.Allocatable)
	free := allocatable
	for i := range pods.Items {
		if occupies(&pods.Items[i]) {
			taken := plan.NewResources(podresource.PodRequests(&pods.Items[i], podresource.PodResourcesOptions{}))
			taken.Pods = 1
			free = free.Sub(taken)
			if staysBehind(&pods.Items[i]) {
				allocatable = allocatable.Sub(taken)
			}
		}
	}
	return plan.Node{Name: nodeKey(osn), Object: object, Allocatable: allocatable, Free: free, Ready: true}, nil
}

// comingNode is a node that takes no pods yet. What its flavor has, its controller has
// written down, or the cloud knows.
func (p *Pools) comingNode(ctx context.Context, v *view, osn *osnodev1.OpenStackNode) (plan.Node, bool) {
	pool := p.poolOf(v, osn)
	flavor, ok := p.flavorOf(ctx, v, osn, pool)
	if !ok {
		return plan.Node{}, false
	}
	if pool != nil && pool.Spec.Template.AvailabilityZone == "" && osn.Spec.AvailabilityZone == "" {
		if planned, err := p.plannedNode(pool, v.accounts[keyOf(pool)], flavor); err == nil {
			osn.Spec.AvailabilityZone, osn.Spec.Region = planned.Spec.AvailabilityZone, planned.Spec.Region
		}
	}
	object := templateNode(osn, pool)
	allocatable := p.Reserve.allocatable(flavor).Sub(v.daemons.on(object))
	return plan.Node{Name: nodeKey(osn), Object: object, Allocatable: allocatable, Free: allocatable}, true
}

func (p *Pools) poolOf(v *view, osn *osnodev1.OpenStackNode) *osnodev1.OpenStackNodePool {
	pool := v.pools[types.NamespacedName{Namespace: osn.Namespace, Name: osn.Labels[osnodev1.LabelPool]}]
	if pool == nil || !belongs(osn, pool) {
		return nil
	}
	return pool
}

// flavorOf is what an OpenStackNode's flavor has.
func (p *Pools) flavorOf(ctx context.Context, v *view, osn *osnodev1.OpenStackNode, pool *osnodev1.OpenStackNodePool) (cloud.Flavor, bool) {
	var account cloud.Account
	if pool != nil {
		account = v.accounts[keyOf(pool)]
	} else {
		account = p.nodeAccount(osn)
	}
	flavor, err := p.flavor(ctx, account, osn.Spec.Flavor)
	if err == nil {
		return withRootDisk(flavor, osn.Spec.RootDisk), true
	}
	if r := osn.Status.Resolved; r != nil && r.VCPUs > 0 {
		return cloud.Flavor{Name: osn.Spec.Flavor, VCPUs: int(r.VCPUs), MemoryMiB: int(r.MemoryMiB), GPUs: int(r.GPUs), GPU: r.GPU}, true
	}
	return cloud.Flavor{}, false
}

func withRootDisk(flavor cloud.Flavor, disk *osnodev1.RootDisk) cloud.Flavor {
	if disk != nil {
		flavor.RootGiB = int(disk.SizeGiB)
	}
	return flavor
}

// nodeAccount is whose project an OpenStackNode's machine is in.
func (p *Pools) nodeAccount(osn *osnodev1.OpenStackNode) cloud.Account {
	account := cloud.Account{
		Provider: osn.Spec.Provider, Region: osn.Spec.Region,
		ProjectID: osn.Labels[osnodev1.LabelProjectID], ProjectName: osn.Labels[osnodev1.LabelProjectName], UserID: osn.Labels[osnodev1.LabelUserID],
	}
	if account.Provider == "" {
		account.Provider = p.DefaultProvider
	}
	if settings, err := p.Cloud.Settings(account.Provider); err == nil && account.Region == "" {
		account.Region = settings.Region
	}
	return account
}
