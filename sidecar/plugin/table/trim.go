// SPDX-License-Identifier: Apache-2.0

package table

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cloudveneto/caas/internal/interlink"
	"github.com/cloudveneto/caas/sidecar/plugin/translate"
)

// Trim returns what the sidecar needs of a created pod: identity, placement,
// requests and status. The rest of a pod is most of its size.
func Trim(pod *corev1.Pod) *corev1.Pod {
	labels := pick(pod.Labels, translate.LabelManagedBy, translate.LabelUID, translate.LabelOrigin)
	for key, value := range pod.Labels {
		if strings.HasPrefix(key, translate.LabelClaimPrefix) {
			labels[key] = value
		}
	}
	trimmed := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name: pod.Name, Namespace: pod.Namespace, UID: pod.UID, ResourceVersion: pod.ResourceVersion,
			CreationTimestamp: pod.CreationTimestamp, DeletionTimestamp: pod.DeletionTimestamp,
			DeletionGracePeriodSeconds: pod.DeletionGracePeriodSeconds,
			Labels:                     labels,
			Annotations: pick(pod.Annotations, interlink.AnnotationOriginCluster, interlink.AnnotationOriginNode,
				translate.AnnotationNamespace, translate.AnnotationName, interlink.AnnotationRevision, interlink.AnnotationRefreshAt),
		},
		Spec: corev1.PodSpec{
			NodeName: pod.Spec.NodeName, RestartPolicy: pod.Spec.RestartPolicy, SchedulingGates: pod.Spec.SchedulingGates,
			Containers: trimContainers(pod.Spec.Containers), InitContainers: trimContainers(pod.Spec.InitContainers),
			Overhead: pod.Spec.Overhead,
		},
		Status: pod.Status,
	}
	if pod.Spec.Resources != nil {
		trimmed.Spec.Resources = &corev1.ResourceRequirements{Requests: pod.Spec.Resources.Requests}
	}
	return trimmed
}

func trimContainers(containers []corev1.Container) []corev1.Container {
	if len(containers) == 0 {
		return nil
	}
	trimmed := make([]corev1.Container, 0, len(containers))
	for i := range containers {
		trimmed = append(trimmed, corev1.Container{
			Name:          containers[i].Name,
			RestartPolicy: containers[i].RestartPolicy,
			Resources:     corev1.ResourceRequirements{Requests: containers[i].Resources.Requests},
		})
	}
	return trimmed
}

func pick(from map[string]string, keys ...string) map[string]string {
	picked := make(map[string]string, len(keys))
	for _, key := range keys {
		if value, found := from[key]; found {
			picked[key] = value
		}
	}
	return picked
}
