// SPDX-License-Identifier: Apache-2.0

package virtualnode

import (
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/cloudveneto/caas/internal/interlink"
)

// reservedTaint belongs to the configuration; the far end cannot change it.
const reservedTaint = "virtual-node.interlink/no-schedule"

// conditionConnectivity is upstream's own condition.
const conditionConnectivity corev1.NodeConditionType = "InterlinkConnectivity"

// merge overrides configured resources by reported ones. What is no quantity is
// left as it was; zero is applied and drains the node.
func merge(configured corev1.ResourceList, reported *interlink.PingResources) corev1.ResourceList {
	list := maps.Clone(configured)
	if list == nil {
		list = corev1.ResourceList{}
	}
	set := func(name corev1.ResourceName, value string) {
		if value == "" {
			return
		}
		if quantity, err := resource.ParseQuantity(value); err == nil && quantity.Sign() >= 0 {
			list[name] = quantity
		}
	}
	set(corev1.ResourceCPU, reported.CPU)
	set(corev1.ResourceMemory, reported.Memory)
	set(corev1.ResourcePods, reported.Pods)
	for _, accelerator := range reported.Accelerators {
		if len(validation.IsQualifiedName(accelerator.ResourceType)) == 0 {
			set(corev1.ResourceName(accelerator.ResourceType), accelerator.Available)
		}
	}
	return list
}

// taintsOf are the far end's taints; none is not nil.
func taintsOf(reported []interlink.PingTaint) []corev1.Taint {
	list := []corev1.Taint{}
	for _, taint := range reported {
		if taint.Key == reservedTaint || len(validation.IsQualifiedName(taint.Key)) > 0 {
			continue
		}
		effect := corev1.TaintEffectNoSchedule
		if e := corev1.TaintEffect(taint.Effect); e == corev1.TaintEffectNoExecute || e == corev1.TaintEffectPreferNoSchedule {
			effect = e
		}
		list = append(list, corev1.Taint{Key: taint.Key, Value: taint.Value, Effect: effect})
	}
	return list
}

func sameState(a, b state) bool {
	return equality.Semantic.DeepEqual(a.capacity, b.capacity) && slices.Equal(a.taints, b.taints) &&
		(a.taints == nil) == (b.taints == nil) && maps.Equal(a.labels, b.labels)
}

// fresh is the object to create.
func (n *Node) fresh() *corev1.Node {
	node := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: n.cfg.Name, Labels: n.labels()},
		Spec: corev1.NodeSpec{
			ProviderID: "external:///" + n.cfg.Name,
			Taints:     slices.Clone(n.cfg.Taints),
		},
	}
	if n.cfg.PodCIDR != "" {
		node.Spec.PodCIDR, node.Spec.PodCIDRs = n.cfg.PodCIDR, []string{n.cfg.PodCIDR}
	}
	n.fillStatus(&node.Status, n.snapshot(), now())
	return node
}

func (n *Node) snapshot() state {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.state
}

// fillStatus writes what the node should look like into a status; conditions of
// others stay.
func (n *Node) fillStatus(status *corev1.NodeStatus, s state, at metav1.Time) {
	status.Capacity, status.Allocatable = maps.Clone(s.capacity), maps.Clone(s.capacity)
	status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeHostName, Address: n.cfg.Name}}
	if n.cfg.Address != "" {
		status.Addresses = append(status.Addresses, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: n.cfg.Address})
	}
	status.DaemonEndpoints.KubeletEndpoint.Port = n.cfg.Port
	status.NodeInfo.KubeletVersion = n.cfg.Version
	status.NodeInfo.OperatingSystem = "linux"
	status.NodeInfo.Architecture = "virtual-kubelet"
	status.NodeInfo.ContainerRuntimeVersion = "interlink://"
	ready, connected := corev1.ConditionFalse, corev1.ConditionFalse
	if s.ready {
		ready, connected = corev1.ConditionTrue, corev1.ConditionTrue
	}
	setCondition(status, at, corev1.NodeReady, ready, s.reason, s.message)
	setCondition(status, at, conditionConnectivity, connected, s.reason, s.message)
	const none = "a virtual node has none of its own"
	for _, pressure := range []corev1.NodeConditionType{corev1.NodeMemoryPressure, corev1.NodeDiskPressure, corev1.NodePIDPressure} {
		setCondition(status, at, pressure, corev1.ConditionFalse, "VirtualNode", none)
	}
	setCondition(status, at, corev1.NodeNetworkUnavailable, corev1.ConditionFalse, "VirtualNode", none)
}

// setCondition keeps the transition time unless the status changes.
func setCondition(status *corev1.NodeStatus, at metav1.Time, kind corev1.NodeConditionType, value corev1.ConditionStatus, reason, message string) {
	next := corev1.NodeCondition{
		Type: kind, Status: value, Reason: reason, Message: message, LastHeartbeatTime: at, LastTransitionTime: at,
	}
	for i := range status.Conditions {
		known := &status.Conditions[i]
		if known.Type != kind {
			continue
		}
		if known.Status == value && !known.LastTransitionTime.IsZero() {
			next.LastTransitionTime = known.LastTransitionTime
		}
		*known = next
		return
	}
	status.Conditions = append(status.Conditions, next)
}
