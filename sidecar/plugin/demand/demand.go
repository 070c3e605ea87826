// SPDX-License-Identifier: Apache-2.0

// Package demand reckons what pods ask of a cluster, as its scheduler and its quotas
// do. It is pure:
//
//	used := corev1.ResourceList{}
//	demand.Add(used, demand.Of(pod))
package demand

import (
	"maps"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// Of is what a pod takes of its cluster: its requests, and one pod.
func Of(pod *corev1.Pod) corev1.ResourceList { return WithPod(Requests(pod)) }

// WithPod adds the pod itself, which takes one of a node's pods.
func WithPod(list corev1.ResourceList) corev1.ResourceList {
	out := corev1.ResourceList{corev1.ResourcePods: *resource.NewQuantity(1, resource.DecimalSI)}
	maps.Copy(out, list)
	return out
}

// Requests is what a pod takes of its node: containers and sidecars at once, or the
// largest init container with the sidecars before it. Who limits a resource without
// asking for it asks for the limit, as the API server completes it.
func Requests(pod *corev1.Pod) corev1.ResourceList {
	total := corev1.ResourceList{}
	for i := range pod.Spec.Containers {
		Add(total, completed(&pod.Spec.Containers[i].Resources))
	}
	sidecars, peak := corev1.ResourceList{}, corev1.ResourceList{}
	for i := range pod.Spec.InitContainers {
		container := &pod.Spec.InitContainers[i]
		at := corev1.ResourceList{}
		Add(at, sidecars)
		Add(at, completed(&container.Resources))
		if restarts(container) {
			sidecars = at
		}
		raise(peak, at)
	}
	Add(total, sidecars)
	raise(total, peak)
	if together := pod.Spec.Resources; together != nil {
		for name, limit := range together.Limits {
			if _, asked := total[name]; !asked {
				total[name] = limit
			}
		}
		maps.Copy(total, together.Requests)
	}
	Add(total, pod.Spec.Overhead)
	return total
}

func completed(asked *corev1.ResourceRequirements) corev1.ResourceList {
	if len(asked.Limits) == 0 {
		return asked.Requests
	}
	out := maps.Clone(asked.Limits)
	maps.Copy(out, asked.Requests)
	return out
}

// Add adds list to into.
func Add(into, list corev1.ResourceList) {
	for name, quantity := range list {
		sum := into[name].DeepCopy()
		sum.Add(quantity)
		into[name] = sum
	}
}

// Subtract lowers room by list, not below zero. What room does not name stays unnamed.
func Subtract(room, list corev1.ResourceList) {
	for name, quantity := range list {
		left, found := room[name]
		if !found {
			continue
		}
		left = left.DeepCopy()
		left.Sub(quantity)
		if left.Sign() < 0 {
			left = *resource.NewQuantity(0, left.Format)
		}
		room[name] = left
	}
}

func raise(into, list corev1.ResourceList) {
	for name, quantity := range list {
		if current := into[name]; quantity.Cmp(current) > 0 {
			into[name] = quantity
		}
	}
}

// Same tells that two states of a pod take the same; it is much quicker than to reckon
// that twice.
func Same(a, b *corev1.Pod) bool {
	return sameContainers(a.Spec.Containers, b.Spec.Containers) && sameContainers(a.Spec.InitContainers, b.Spec.InitContainers) &&
		sameList(a.Spec.Overhead, b.Spec.Overhead) && sameResources(a.Spec.Resources, b.Spec.Resources)
}

func sameContainers(a, b []corev1.Container) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if restarts(&a[i]) != restarts(&b[i]) || !sameResources(&a[i].Resources, &b[i].Resources) {
			return false
		}
	}
	return true
}

// restarts tells a sidecar, which runs beside what comes after it.
func restarts(container *corev1.Container) bool {
	return container.RestartPolicy != nil && *container.RestartPolicy == corev1.ContainerRestartPolicyAlways
}

func sameResources(a, b *corev1.ResourceRequirements) bool {
	if a == nil || b == nil {
		return a == b
	}
	return sameList(a.Requests, b.Requests) && sameList(a.Limits, b.Limits)
}

func sameList(a, b corev1.ResourceList) bool {
	return maps.EqualFunc(a, b, func(x, y resource.Quantity) bool { return x.Cmp(y) == 0 })
}
