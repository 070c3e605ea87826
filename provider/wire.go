// SPDX-License-Identifier: Apache-2.0

package provider

import (
	corev1 "k8s.io/api/core/v1"

	"github.com/cloudveneto/caas/internal/interlink"
)

// wirePod is the copy of a pod that is sent to the far end.
func (p *Provider) wirePod(pod *corev1.Pod, jobID string) *corev1.Pod {
	wired := pod.DeepCopy()
	p.dress(wired, jobID)
	return wired
}

// dress adds what the far end has to know to a copy of a pod.
func (p *Provider) dress(pod *corev1.Pod, jobID string) {
	pod.ManagedFields = nil
	if pod.Annotations == nil {
		pod.Annotations = map[string]string{}
	}
	pod.Annotations[interlink.AnnotationOriginCluster] = p.cfg.ClusterID
	pod.Annotations[interlink.AnnotationOriginNode] = p.cfg.NodeName
	if jobID != "" {
		pod.Annotations[interlink.AnnotationJobID] = jobID
	}
}
