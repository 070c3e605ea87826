// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cloudveneto/caas/internal/interlink"
)

// dropMetadata records what of a pod's metadata has a meaning in the origin cluster
// only. What an API server writes by itself (versions, times, field managers) is not
// asked for by anybody and not recorded.
func (t *translation) dropMetadata() {
	from := &t.pod.ObjectMeta
	t.dropIf(len(from.OwnerReferences) > 0, "metadata.ownerReferences", owners(from.OwnerReferences))
	t.dropIf(len(from.Finalizers) > 0, "metadata.finalizers", strings.Join(from.Finalizers, ", "))
	for key, value := range sorted(from.Annotations) {
		field := "metadata.annotations[" + key + "]"
		if replacement, replaced := t.policy.Annotations[key]; replaced && replacement != value && !ownAnnotation(key) && !foreignAnnotation(key) {
			t.mapped(field, "policy.annotations: "+replacement)
		}
		t.dropIf(ownAnnotation(key) && !written(key), field, "is the origin's own")
	}
	for key := range sorted(from.Labels) {
		if remote := remoteLabelKey(key); !strings.HasSuffix(remote, strings.ReplaceAll(key, "/", "_")) {
			t.mapped("metadata.labels["+key+"]", remote)
		}
	}
}

// written tells annotations that the virtual kubelet adds to the wire copy of a pod:
// nobody asked for them.
func written(key string) bool {
	return key == interlink.AnnotationOriginCluster || key == interlink.AnnotationOriginNode || key == interlink.AnnotationJobID
}

func owners(references []metav1.OwnerReference) string {
	var list []string
	for _, owner := range references {
		list = append(list, owner.Kind+" "+owner.Name)
	}
	return strings.Join(list, ", ")
}

// accounts records what becomes of the origin's service account. Its token, if the pod
// has one, comes as a file of a projected volume.
func (t *translation) accounts(from *corev1.PodSpec) {
	t.dropIf(from.ServiceAccountName != "" && from.ServiceAccountName != "default", "spec.serviceAccountName", from.ServiceAccountName)
	// An API server writes the same name into both.
	t.dropIf(from.DeprecatedServiceAccount != from.ServiceAccountName && from.DeprecatedServiceAccount != "",
		"spec.serviceAccount", from.DeprecatedServiceAccount)
	if is(from.AutomountServiceAccountToken) {
		t.mapped("spec.automountServiceAccountToken", "false: the origin's token comes as a file")
	}
	if is(from.EnableServiceLinks) {
		t.mapped("spec.enableServiceLinks", "false: the Services would be those of the target cluster")
	}
}

// placed records the pod's demands on nodes that the policy replaces.
func (t *translation) placed(own map[string]string) {
	for key, value := range sorted(own) {
		if ours, replaced := t.policy.NodeSelector[key]; replaced && ours != value {
			t.mapped("spec.nodeSelector["+key+"]", value+" to "+ours+" by policy.nodeSelector")
		}
	}
}

// beyond are the entries of a list that have no place in what was kept of it.
func beyond(all, kept []string) []string {
	return slices.DeleteFunc(slices.Clone(all), func(entry string) bool { return slices.Contains(kept, entry) })
}
