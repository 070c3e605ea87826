// SPDX-License-Identifier: Apache-2.0

package pool

import (
	"context"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	podresource "k8s.io/component-helpers/resource"

	osnodev1 "github.com/cloudveneto/caas/osnode/api/v1"
	"github.com/cloudveneto/caas/osnode/cloud"
	"github.com/cloudveneto/caas/osnode/node"
	"github.com/cloudveneto/caas/osnode/pool/plan"
)

const (
	mebi = int64(1) << 20
	gibi = int64(1) << 30
	// resourceGPU is what NVIDIA's device plugin calls a GPU.
	resourceGPU = corev1.ResourceName("nvidia.com/gpu")
	// placeName stands for a node that does not exist.
	placeName = "planned"
)

// templateNode is what a node of a pool will look like once it takes pods. The OpenStackNode
// MAY be one that does not exist.
func templateNode(osn *osnodev1.OpenStackNode, pool *osnodev1.OpenStackNodePool) *corev1.Node {
	name := osn.Status.NodeID
	if name == "" {
		name = osn.Name
	}
	object := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: node.Labels(osn, pool)}}
	for key, value := range map[string]string{
		corev1.LabelOSStable: "linux", corev1.LabelArchStable: "amd64",
		corev1.LabelHostname: name,
	} {
		if _, ok := object.Labels[key]; !ok {
			object.Labels[key] = value
		}
	}
	object.Spec.Taints = node.Taints(osn, pool)
	return object
}

// plannedNode is an OpenStackNode of the pool that does not exist, complete as its
// controller would complete it.
func (p *Pools) plannedNode(pool *osnodev1.OpenStackNodePool, account cloud.Account, flavor cloud.Flavor) (*osnodev1.OpenStackNode, error) {
	osn, err := newNode(pool, placeName, flavor.Name)
	if err != nil {
		return nil, err
	}
	settings, err := p.Cloud.Settings(account.Provider)
	if err != nil {
		return nil, err
	}
	osn.Spec.Region = account.Region
	if osn.Spec.AvailabilityZone == "" {
		osn.Spec.AvailabilityZone = settings.AvailabilityZone
	}
	osn.Status.Resolved = &osnodev1.Resolved{GPU: flavor.GPU}
	return osn, nil
}

// allocatable is what a machine of the flavor will have for pods.
func (r Reserve) allocatable(flavor cloud.Flavor) plan.Resources {
	memory := int64(flavor.MemoryMiB)
	memory -= memory*r.MemoryPercent/100 + r.MemoryMiB
	disk := int64(flavor.EphemeralGiB)
	if disk == 0 {
		disk = int64(flavor.RootGiB)
	}
	resources := plan.Resources{
		MilliCPU: max(int64(flavor.VCPUs)*1000-r.MilliCPU, 0), Memory: max(memory, 0) * mebi, Pods: r.Pods,
		Other: map[corev1.ResourceName]int64{corev1.ResourceEphemeralStorage: disk * gibi * (100 - r.DiskPercent) / 100},
	}
	if flavor.GPUs > 0 {
		resources.Other[resourceGPU] = int64(flavor.GPUs)
	}
	return resources
}

// daemons are the pods that run on each node that they can.
type daemons []daemon

type daemon struct {
	constraints plan.Constraints
	requests    plan.Resources
}

func (p *Pools) daemons(ctx context.Context) (daemons, error) {
	var sets appsv1.DaemonSetList
	if err := p.Client.List(ctx, &sets); err != nil {
		return nil, err
	}
	var all daemons
	for i := range sets.Items {
		template := &sets.Items[i].Spec.Template
		requests := plan.NewResources(podresource.PodRequests(&corev1.Pod{Spec: template.Spec}, podresource.PodResourcesOptions{}))
		requests.Pods = 1
		all = append(all, daemon{constraints: plan.NewConstraints(&template.Spec), requests: requests})
	}
	return all, nil
}

// on is what they take of a node.
func (d daemons) on(object *corev1.Node) plan.Resources {
	var taken plan.Resources
	for i := range d {
		if d[i].constraints.Allow(object) {
			taken = taken.Add(d[i].requests)
		}
	}
	return taken
}
