// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"encoding/json"
	"fmt"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	podresource "k8s.io/component-helpers/resource"
	scheduling "k8s.io/component-helpers/scheduling/corev1"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"
)

// Pod is a pod that waits.
type Pod struct {
	UID             types.UID
	Namespace, Name string
	Requests        Resources
	// Alone says that where the pod can run depends on other pods or on volumes, which
	// this package does not see: for such pods one machine is made at a time.
	Alone bool
	// Distrust says that the scheduler has left the pod waiting although the nodes that
	// are ready seem to have room for it: only nodes to come count.
	Distrust bool
	// Held names the node that the pod was promised, and is about to get if it is still free.
	Held string

	constraints Constraints
}

// NewPod reads what matters of a pod.
func NewPod(pod *corev1.Pod) Pod {
	requests := NewResources(podresource.PodRequests(pod, podresource.PodResourcesOptions{}))
	requests.Pods = 1
	return Pod{
		UID: pod.UID, Namespace: pod.Namespace, Name: pod.Name,
		Requests: requests, Alone: dependsOnMore(&pod.Spec), constraints: NewConstraints(&pod.Spec),
	}
}

func dependsOnMore(spec *corev1.PodSpec) bool {
	if a := spec.Affinity; a != nil {
		if a.PodAffinity != nil && len(a.PodAffinity.RequiredDuringSchedulingIgnoredDuringExecution) > 0 {
			return true
		}
		if a.PodAntiAffinity != nil && len(a.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution) > 0 {
			return true
		}
	}
	for i := range spec.TopologySpreadConstraints {
		if spec.TopologySpreadConstraints[i].WhenUnsatisfiable == corev1.DoNotSchedule {
			return true
		}
	}
	for i := range spec.Volumes {
		if spec.Volumes[i].PersistentVolumeClaim != nil || spec.Volumes[i].Ephemeral != nil {
			return true
		}
	}
	return len(spec.ResourceClaims) > 0
}

// Constraints are a pod's demands on a node's labels and taints.
type Constraints struct {
	key         string
	affinity    nodeaffinity.RequiredNodeAffinity
	tolerations []corev1.Toleration
}

// NewConstraints reads them from a pod's spec.
func NewConstraints(spec *corev1.PodSpec) Constraints {
	var required *corev1.NodeSelector
	if spec.Affinity != nil && spec.Affinity.NodeAffinity != nil {
		required = spec.Affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution
	}
	key, err := json.Marshal([]any{spec.NodeSelector, required, spec.Tolerations})
	if err != nil { // not for these types; such a pod then shares its decisions with nobody
		key = fmt.Appendf(nil, "%p", spec)
	}
	return Constraints{
		key:         string(key),
		affinity:    nodeaffinity.NewRequiredNodeAffinity(spec.NodeSelector, spec.Affinity),
		tolerations: spec.Tolerations,
	}
}

// Allow tells whether a node's labels and taints are as they must be.
func (c Constraints) Allow(node *corev1.Node) bool {
	if node.Spec.Unschedulable {
		return false
	}
	if matches, err := c.affinity.Match(node); err != nil || !matches {
		return false
	}
	_, untolerated := scheduling.FindMatchingUntoleratedTaint(logr.Discard(), node.Spec.Taints, c.tolerations, func(taint *corev1.Taint) bool {
		return taint.Effect == corev1.TaintEffectNoSchedule || taint.Effect == corev1.TaintEffectNoExecute
	}, false)
	return !untolerated
}
