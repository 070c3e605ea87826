// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"maps"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// Resources are amounts that a pod asks for or a node has: thousandths of CPUs, bytes,
// a number of pods, and whatever else has a name.
type Resources struct {
	MilliCPU, Memory, Pods int64
	Other                  map[corev1.ResourceName]int64
}

// NewResources converts Kubernetes' form.
func NewResources(list corev1.ResourceList) Resources {
	r := Resources{MilliCPU: list.Cpu().MilliValue(), Memory: list.Memory().Value(), Pods: list.Pods().Value()}
	for name, quantity := range list {
		if value := quantity.Value(); value != 0 && !hasField(name) {
			r.set(name, value)
		}
	}
	return r
}

// hasField tells that a resource is not one of Resources.Other.
func hasField(name corev1.ResourceName) bool {
	return name == corev1.ResourceCPU || name == corev1.ResourceMemory || name == corev1.ResourcePods
}

func (r *Resources) set(name corev1.ResourceName, value int64) {
	if r.Other == nil {
		r.Other = map[corev1.ResourceName]int64{}
	}
	r.Other[name] = value
}

// Fits tells whether nothing of r is more than other has.
func (r Resources) Fits(other Resources) bool {
	if r.MilliCPU > other.MilliCPU || r.Memory > other.Memory || r.Pods > other.Pods {
		return false
	}
	for name, value := range r.Other {
		if value > other.Other[name] {
			return false
		}
	}
	return true
}

// Sub is r without other. It may be negative.
func (r Resources) Sub(other Resources) Resources { return r.combine(other, -1) }

// Add is r and other together.
func (r Resources) Add(other Resources) Resources { return r.combine(other, 1) }

func (r Resources) combine(other Resources, sign int64) Resources {
	sum := Resources{
		MilliCPU: r.MilliCPU + sign*other.MilliCPU,
		Memory:   r.Memory + sign*other.Memory,
		Pods:     r.Pods + sign*other.Pods,
		Other:    r.Other,
	}
	if len(other.Other) == 0 {
		return sum
	}
	sum.Other = maps.Clone(r.Other)
	for name, value := range other.Other {
		sum.set(name, sum.Other[name]+sign*value)
	}
	return sum
}

// List converts to Kubernetes' form.
func (r Resources) List() corev1.ResourceList {
	list := corev1.ResourceList{
		corev1.ResourceCPU:    *resource.NewMilliQuantity(r.MilliCPU, resource.DecimalSI),
		corev1.ResourceMemory: *resource.NewQuantity(r.Memory, resource.BinarySI),
		corev1.ResourcePods:   *resource.NewQuantity(r.Pods, resource.DecimalSI),
	}
	for name, value := range r.Other {
		list[name] = *resource.NewQuantity(value, resource.DecimalSI)
	}
	return list
}
