// SPDX-License-Identifier: Apache-2.0

package node

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	osnodev1 "github.com/cloudveneto/caas/osnode/api/v1"
)

const (
	// mostPods and mostStorage are more than any machine has.
	mostPods    = 1000
	mostStorage = int64(1) << 50
)

// ProviderID is a server's name all over Kubernetes, which cannot be changed once a
// Node has it.
func ProviderID(region, serverID string) string {
	return fmt.Sprintf("openstack://%s/%s", region, serverID)
}

// For makes the Node of an OpenStackNode as it is before the machine joins: nothing is
// scheduled to it until Joined. The pool may be nil. The error names all that is missing;
// in particular the machine must be known, or its kubelet could choose the provider id.
func For(osn *osnodev1.OpenStackNode, pool *osnodev1.OpenStackNodePool) (*corev1.Node, error) {
	if err := complete(osn); err != nil {
		return nil, fmt.Errorf("node of OpenStackNode %s/%s: %w", osn.Namespace, osn.Name, err)
	}
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: osn.Status.NodeID, Labels: Labels(osn, pool)},
		Spec: corev1.NodeSpec{
			ProviderID: osn.Status.ProviderID,
			Taints:     append(Taints(osn, pool), notJoined()),
		},
		Status: expected(osn),
	}, nil
}

// expected is what the kubelet will report, as far as that is known, and otherwise more. A
// kubelet judges its first pods by the Node in its own cache, and that can be this one for
// seconds after it has reported: its watch ends when it gets its certificate, and begins
// again after a pause. With nothing here it would fail them for want of room (OutOfpods).
// Nobody else goes by it: no pod is scheduled before the kubelet has reported.
func expected(osn *osnodev1.OpenStackNode) corev1.NodeStatus {
	status := corev1.NodeStatus{Addresses: slices.Clone(osn.Status.Addresses)}
	if r := osn.Status.Resolved; r != nil && r.VCPUs > 0 && r.MemoryMiB > 0 {
		status.Capacity = corev1.ResourceList{
			corev1.ResourceCPU:              *resource.NewQuantity(int64(r.VCPUs), resource.DecimalSI),
			corev1.ResourceMemory:           *resource.NewQuantity(int64(r.MemoryMiB)<<20, resource.BinarySI),
			corev1.ResourcePods:             *resource.NewQuantity(mostPods, resource.DecimalSI),
			corev1.ResourceEphemeralStorage: *resource.NewQuantity(mostStorage, resource.BinarySI),
		}
		status.Allocatable = status.Capacity.DeepCopy()
	}
	return status
}

func complete(osn *osnodev1.OpenStackNode) error {
	var errs []error
	for what, value := range map[string]string{
		"UID":                              string(osn.UID),
		"status.nodeid":                    osn.Status.NodeID,
		"status.providerID":                osn.Status.ProviderID,
		"label " + osnodev1.LabelUserID:    osn.Labels[osnodev1.LabelUserID],
		"label " + osnodev1.LabelProjectID: osn.Labels[osnodev1.LabelProjectID],
		"a valid spec.policy":              PoolValue(osn),
	} {
		if value == "" {
			errs = append(errs, fmt.Errorf("%s is missing", what))
		}
	}
	slices.SortFunc(errs, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return errors.Join(errs...)
}

// Repair puts back what the Node must have and somebody took away or changed, and leaves
// all the rest alone. A Node that was not made by the platform for this OpenStackNode is
// kept from taking pods until Joined, like a new one.
func Repair(current *corev1.Node, osn *osnodev1.OpenStackNode, pool *osnodev1.OpenStackNodePool) (changed bool) {
	if !BelongsTo(current, osn) {
		changed = setTaint(current, notJoined())
	}
	for key, value := range Labels(osn, pool) {
		if current.Labels[key] == value {
			continue
		}
		if current.Labels == nil {
			current.Labels = map[string]string{}
		}
		current.Labels[key] = value
		changed = true
	}
	for _, taint := range Taints(osn, pool) {
		changed = setTaint(current, taint) || changed
	}
	if current.Spec.ProviderID == "" && osn.Status.ProviderID != "" {
		current.Spec.ProviderID = osn.Status.ProviderID
		changed = true
	}
	return changed
}

// BelongsTo tells that the platform made the Node, for this very OpenStackNode. Its
// kubelet cannot pretend that.
func BelongsTo(current *corev1.Node, osn *osnodev1.OpenStackNode) bool {
	return osn.UID != "" && current.Labels[osnodev1.NodeLabelOSNode] == string(osn.UID)
}

// Joined lets pods in: it removes the taint that a Node has from its making.
func Joined(current *corev1.Node) (changed bool) {
	kept := slices.DeleteFunc(slices.Clone(current.Spec.Taints), isNotJoined)
	if len(kept) == len(current.Spec.Taints) {
		return false
	}
	current.Spec.Taints = kept
	return true
}

// Waiting tells that the Node was made for a machine that has not been seen Ready.
func Waiting(current *corev1.Node) bool { return slices.ContainsFunc(current.Spec.Taints, isNotJoined) }

func notJoined() corev1.Taint {
	return corev1.Taint{Key: osnodev1.TaintNotJoined, Effect: corev1.TaintEffectNoSchedule}
}

func isNotJoined(taint corev1.Taint) bool { return taint.Key == osnodev1.TaintNotJoined }

// setTaint makes taint the only one of its key and effect.
func setTaint(current *corev1.Node, taint corev1.Taint) (changed bool) {
	same := func(t corev1.Taint) bool { return t.Key == taint.Key && t.Effect == taint.Effect }
	index := slices.IndexFunc(current.Spec.Taints, same)
	switch {
	case index < 0:
		current.Spec.Taints = append(current.Spec.Taints, taint)
	case current.Spec.Taints[index].Value != taint.Value:
		current.Spec.Taints[index] = taint
	default:
		return false
	}
	return true
}
