// SPDX-License-Identifier: Apache-2.0

package podstate

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cloudveneto/caas/internal/interlink"
	"github.com/cloudveneto/caas/sidecar/plugin/translate"
)

// JobID is the id that an origin gets for a created pod.
func JobID(pod *corev1.Pod) string { return pod.Namespace + "/" + pod.Name }

// True returns a created pod's status as it is.
func True(pod *corev1.Pod) interlink.PodStatus {
	status := &pod.Status
	return interlink.PodStatus{
		Name:           pod.Annotations[translate.AnnotationName],
		UID:            pod.Labels[translate.LabelUID],
		Namespace:      pod.Annotations[translate.AnnotationNamespace],
		JobID:          JobID(pod),
		Containers:     orEmpty(status.ContainerStatuses),
		InitContainers: orEmpty(status.InitContainerStatuses),
		Detail: &interlink.PodDetail{
			Phase: phase(pod), Reason: status.Reason, Message: status.Message, Conditions: status.Conditions,
			HostIP: status.HostIP, HostIPs: status.HostIPs, PodIP: status.PodIP, PodIPs: status.PodIPs,
			StartTime: status.StartTime, QOSClass: status.QOSClass,
			RemoteNamespace: pod.Namespace, RemoteName: pod.Name, RemoteNode: pod.Spec.NodeName,
			EphemeralContainers: status.EphemeralContainerStatuses,
			Deleting:            pod.DeletionTimestamp != nil,
			Incomplete: slices.ContainsFunc(pod.Spec.SchedulingGates, func(gate corev1.PodSchedulingGate) bool {
				return gate.Name == translate.GateObjects
			}),
			OriginCluster: pod.Annotations[interlink.AnnotationOriginCluster],
			OriginNode:    pod.Annotations[interlink.AnnotationOriginNode],
			Revision:      pod.Annotations[interlink.AnnotationRevision],
			RefreshAt:     refreshAt(pod),
		},
	}
}

// refreshAt is nil unless the mark says a time.
func refreshAt(pod *corev1.Pod) *metav1.Time {
	at, err := time.Parse(time.RFC3339, pod.Annotations[interlink.AnnotationRefreshAt])
	if err != nil {
		return nil
	}
	return &metav1.Time{Time: at}
}

func phase(pod *corev1.Pod) corev1.PodPhase {
	if pod.Status.Phase == "" {
		return corev1.PodPending
	}
	return pod.Status.Phase
}

func orEmpty(statuses []corev1.ContainerStatus) []corev1.ContainerStatus {
	if statuses == nil {
		return []corev1.ContainerStatus{}
	}
	return statuses
}
