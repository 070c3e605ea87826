// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"maps"
	"slices"
	"strings"

	"github.com/cloudveneto/caas/internal/interlink"
)

// maxAnnotations is the API's limit of 256 KiB less what the sidecar adds.
const maxAnnotations = 256<<10 - maxReport - 12<<10

// maxMark bounds a mark of the sender; ours are much shorter.
const maxMark = 128

// metadata returns the labels and annotations of the created pod.
func (t *translation) metadata(origin, cluster string) (labels, annotations map[string]string) {
	labels = map[string]string{LabelManagedBy: ManagedBy, LabelUID: string(t.pod.UID), LabelOrigin: origin}
	for _, key := range slices.Sorted(maps.Keys(t.pod.Labels)) {
		remote := remoteLabelKey(key)
		if _, taken := labels[remote]; taken {
			remote = LabelPrefix + "x_" + digest(key)
		}
		labels[remote] = t.pod.Labels[key]
	}
	annotations = map[string]string{
		interlink.AnnotationOriginCluster: cluster,
		interlink.AnnotationOriginNode:    t.originNode(),
		AnnotationNamespace:               t.pod.Namespace,
		AnnotationName:                    t.pod.Name,
	}
	for _, mark := range []string{interlink.AnnotationRevision, interlink.AnnotationRefreshAt} {
		if value := t.pod.Annotations[mark]; value != "" && len(value) <= maxMark {
			annotations[mark] = value
		}
	}
	for _, key := range slices.Sorted(maps.Keys(t.pod.Annotations)) {
		switch {
		case ownAnnotation(key), t.stripped[key]:
		case foreignAnnotation(key):
			t.dropped("metadata.annotations["+key+"]", "has no meaning in the target cluster")
		default:
			annotations[key] = t.pod.Annotations[key]
		}
	}
	maps.Copy(annotations, t.policy.Annotations)
	t.fit(annotations)
	return labels, annotations
}

// fit drops the largest annotations of the user until the rest, with the report,
// is within the API's limit. A pod at that limit at its origin is above it here.
func (t *translation) fit(annotations map[string]string) {
	size := 0
	for key, value := range annotations {
		size += 2*len(key) + len(value) // the key stands in AnnotationApplied, too
	}
	for size > maxAnnotations {
		largest := ""
		for _, key := range slices.Sorted(maps.Keys(annotations)) {
			if !ownAnnotation(key) && len(annotations[key]) > len(annotations[largest]) {
				largest = key
			}
		}
		if largest == "" {
			return
		}
		size -= 2*len(largest) + len(annotations[largest])
		delete(annotations, largest)
		t.dropped("metadata.annotations["+largest+"]", "all annotations together are too large")
	}
}

func (t *translation) originNode() string {
	if node := t.pod.Annotations[interlink.AnnotationOriginNode]; node != "" {
		return node
	}
	return t.pod.Spec.NodeName
}

// ownAnnotation tells annotations of the protocol, which are not the user's.
func ownAnnotation(key string) bool {
	return strings.HasPrefix(key, "offload.infn.it/") || strings.HasPrefix(key, "interlink.eu/") ||
		key == interlink.AnnotationJobID || key == "kubectl.kubernetes.io/last-applied-configuration"
}

// foreignAnnotation tells annotations that the target cluster's own parts write
// or reserve.
func foreignAnnotation(key string) bool {
	if key == AnnotationPolicy {
		return false
	}
	return strings.HasPrefix(key, "osn.infn.it/") || strings.HasPrefix(key, "kubernetes.io/config.") ||
		strings.HasPrefix(key, "scheduler.alpha.kubernetes.io/") || strings.HasPrefix(key, "kubernetes.io/psp")
}

// objectLabels are the labels of the pod's ConfigMaps and Secrets.
func objectLabels(pod map[string]string) map[string]string {
	return map[string]string{LabelManagedBy: ManagedBy, LabelUID: pod[LabelUID], LabelOrigin: pod[LabelOrigin]}
}
