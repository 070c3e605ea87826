// SPDX-License-Identifier: Apache-2.0

package podstatus

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
)

// Rebase returns a status that was made for an older state of the origin's object, for
// the state that it has now: what a kubelet writes is taken from told, all else, such as
// readiness gates and the statuses of resource claims, from now.
func Rebase(told, now *corev1.PodStatus) corev1.PodStatus {
	status := *now.DeepCopy()
	own := told.DeepCopy()
	status.Phase, status.Reason, status.Message = own.Phase, own.Reason, own.Message
	status.HostIP, status.HostIPs, status.PodIP, status.PodIPs = own.HostIP, own.HostIPs, own.PodIP, own.PodIPs
	status.StartTime, status.QOSClass = own.StartTime, own.QOSClass
	status.InitContainerStatuses = own.InitContainerStatuses
	status.ContainerStatuses = own.ContainerStatuses
	status.EphemeralContainerStatuses = own.EphemeralContainerStatuses
	for _, made := range own.Conditions {
		known := condition(&status, made.Type)
		switch {
		case known == nil && (ownedByKubelet(made.Type) || made.Type == corev1.PodScheduled):
			status.Conditions = append(status.Conditions, made)
		case known != nil && ownedByKubelet(made.Type) && made.Type != corev1.DisruptionTarget:
			*known = made
		}
	}
	return status
}

// Equal reports whether two statuses say the same. The order of conditions says nothing.
func Equal(a, b *corev1.PodStatus) bool {
	left, right := *a, *b
	left.Conditions, right.Conditions = sorted(a.Conditions), sorted(b.Conditions)
	return equality.Semantic.DeepEqual(left, right)
}

func sorted(conditions []corev1.PodCondition) []corev1.PodCondition {
	return slices.SortedFunc(slices.Values(conditions), func(a, b corev1.PodCondition) int {
		return strings.Compare(string(a.Type), string(b.Type))
	})
}
