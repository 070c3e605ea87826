// SPDX-License-Identifier: Apache-2.0

package podstatus

import (
	corev1 "k8s.io/api/core/v1"
)

// reasonEvicted is what a kubelet calls a pod that it evicted itself.
const reasonEvicted = "Evicted"

// Disruption says why a pod was disrupted, in the words of a pod's reason and
// message; ok is false for a pod that was not.
func Disruption(conditions []corev1.PodCondition) (reason, message string, ok bool) {
	for i := range conditions {
		if conditions[i].Type != corev1.DisruptionTarget || conditions[i].Status != corev1.ConditionTrue {
			continue
		}
		reason = conditions[i].Reason
		if reason == "EvictionByEvictionAPI" || reason == "" {
			reason = reasonEvicted
		}
		return reason, conditions[i].Message, true
	}
	return "", "", false
}

// explainDisruption gives a pod that failed because it was evicted, preempted or lost
// with its node a reason. Where it ran its object is about to go, so nobody there
// writes one; the origin's stays.
func explainDisruption(status *corev1.PodStatus) {
	if status.Phase != corev1.PodFailed || status.Reason != "" {
		return
	}
	if reason, message, disrupted := Disruption(status.Conditions); disrupted {
		status.Reason = reason
		if status.Message == "" {
			status.Message = message
		}
	}
}
