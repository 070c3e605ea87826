// SPDX-License-Identifier: Apache-2.0

package apply

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/types"

	"github.com/cloudveneto/caas/internal/interlink"
	"github.com/cloudveneto/caas/sidecar/plugin/translate"
)

// podPatch is a strategic merge patch of a live pod. A nil value removes its key; the
// UID makes the API server refuse the patch for any other pod.
type podPatch struct {
	Metadata struct {
		UID         types.UID          `json:"uid"`
		Labels      map[string]*string `json:"labels,omitempty"`
		Annotations map[string]*string `json:"annotations,omitempty"`
	} `json:"metadata"`
	Spec struct {
		InitContainers                []imagePatch        `json:"initContainers,omitempty"`
		Containers                    []imagePatch        `json:"containers,omitempty"`
		Tolerations                   []corev1.Toleration `json:"tolerations,omitempty"`
		ActiveDeadlineSeconds         *int64              `json:"activeDeadlineSeconds,omitempty"`
		TerminationGracePeriodSeconds *int64              `json:"terminationGracePeriodSeconds,omitempty"`
	} `json:"spec,omitzero"`
}

type imagePatch struct {
	Name  string `json:"name"`
	Image string `json:"image"`
}

// change is the patch that makes a live pod what it should be, in what Kubernetes
// allows to change; nil when nothing differs. What the target cluster itself has made
// of the pod stays.
func change(live, wanted *corev1.Pod) ([]byte, error) {
	var patch podPatch
	applied, known := translate.AppliedTo(live)
	patch.Metadata.Labels = labelChanges(live.Labels, wanted.Labels)
	patch.Metadata.Annotations = annotationChanges(live.Annotations, wanted.Annotations, applied.Annotations)
	spec := &patch.Spec
	if known {
		asked, _ := translate.AppliedTo(wanted)
		changed := func(name string) bool {
			before, found := applied.Images[name]
			return found && before != asked.Images[name]
		}
		spec.InitContainers = imageChanges(live.Spec.InitContainers, wanted.Spec.InitContainers, changed)
		spec.Containers = imageChanges(live.Spec.Containers, wanted.Spec.Containers, changed)
	}
	spec.Tolerations = moreTolerations(live.Spec.Tolerations, wanted.Spec.Tolerations)
	if deadline := wanted.Spec.ActiveDeadlineSeconds; sooner64(live.Spec.ActiveDeadlineSeconds, deadline) {
		spec.ActiveDeadlineSeconds = deadline
	}
	if grace := live.Spec.TerminationGracePeriodSeconds; grace != nil && *grace < 0 {
		spec.TerminationGracePeriodSeconds = wanted.Spec.TerminationGracePeriodSeconds
	}
	if equality.Semantic.DeepEqual(patch, podPatch{}) {
		return nil, nil
	}
	patch.Metadata.UID = live.UID
	encoded, err := json.Marshal(patch)
	if err != nil {
		return nil, fmt.Errorf("encode patch: %w", err)
	}
	return encoded, nil
}

// labelChanges leaves labels alone that are not of the origin.
func labelChanges(live, wanted map[string]string) map[string]*string {
	changes := map[string]*string{}
	for key, value := range wanted {
		if current, found := live[key]; !found || current != value {
			changes[key] = &value
		}
	}
	for key := range live {
		if _, found := wanted[key]; !found && strings.HasPrefix(key, translate.LabelPrefix) {
			changes[key] = nil
		}
	}
	return orNil(changes)
}

// annotationChanges removes of the annotations that are not wanted those that were
// applied before. The report stays what it was at the create.
func annotationChanges(live, wanted map[string]string, applied []string) map[string]*string {
	changes := map[string]*string{}
	for key, value := range wanted {
		if current, found := live[key]; key != translate.AnnotationReport && (!found || current != value) {
			changes[key] = &value
		}
	}
	gone := append(slices.Clone(applied), interlink.AnnotationRefreshAt)
	for _, key := range gone {
		_, stays := wanted[key]
		if _, found := live[key]; found && !stays {
			changes[key] = nil
		}
	}
	return orNil(changes)
}

func orNil(changes map[string]*string) map[string]*string {
	if len(changes) == 0 {
		return nil
	}
	return changes
}

// imageChanges are those that the origin has made since: the target cluster's
// admission may have put another image in place of the one that was asked for, and a
// site's policy may have become another, which restarts no container.
func imageChanges(live, wanted []corev1.Container, changed func(name string) bool) []imagePatch {
	var changes []imagePatch
	for i := range wanted {
		name, image := wanted[i].Name, wanted[i].Image
		at := slices.IndexFunc(live, func(c corev1.Container) bool { return c.Name == name })
		if at < 0 || !changed(name) || live[at].Image == image {
			continue
		}
		changes = append(changes, imagePatch{Name: name, Image: image})
	}
	return changes
}

// moreTolerations is the whole list with what is missing; nil when nothing is.
// Kubernetes allows none to go.
func moreTolerations(live, wanted []corev1.Toleration) []corev1.Toleration {
	all := slices.Clone(live)
	for i := range wanted {
		if !slices.ContainsFunc(all, func(t corev1.Toleration) bool { return equality.Semantic.DeepEqual(t, wanted[i]) }) {
			all = append(all, wanted[i])
		}
	}
	if len(all) == len(live) {
		return nil
	}
	return all
}

// sooner64 tells whether a deadline can be moved to wanted.
func sooner64(live, wanted *int64) bool {
	return wanted != nil && (live == nil || *wanted < *live)
}
