// SPDX-License-Identifier: Apache-2.0

package virtualnode

import (
	"encoding/json"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/cloudveneto/caas/internal/interlink"
)

const (
	// annotationLabels remembers which labels came from the far end, as annotationTaints does.
	annotationLabels = "offload.infn.it/far-end-labels"
	// maxLabels bounds how many of the far end's labels are taken.
	maxLabels = 128
)

// labelsOf are the far end's labels, as far as it may choose them; none is not nil.
func labelsOf(reported map[string]string) map[string]string {
	taken := map[string]string{}
	for _, key := range slices.Sorted(maps.Keys(reported)) {
		usable := len(validation.IsQualifiedName(key)) == 0 && len(validation.IsValidLabelValue(reported[key])) == 0
		if usable && !interlink.ReservedLabel(key) && len(taken) < maxLabels {
			taken[key] = reported[key]
		}
	}
	return taken
}

// wantedLabels are the labels to write, nil for those to take away, and what is to be
// remembered. Configured labels go before the far end's, and so do labels that somebody
// else has set.
func (n *Node) wantedLabels(server *corev1.Node) (labels map[string]any, note string) {
	own := n.labels()
	note = server.Annotations[annotationLabels]
	var earlier []string
	_ = json.Unmarshal([]byte(note), &earlier) // nothing is remembered otherwise
	labels, ours := changes(server.Labels, own, n.snapshot().labels, earlier)
	for key, value := range own {
		if before, taken := server.Labels[key]; !taken || before != value {
			labels[key] = value
		} else {
			delete(labels, key)
		}
	}
	if len(ours) == 0 && note == "" {
		return labels, note
	}
	encoded, err := json.Marshal(ours)
	if err != nil {
		return labels, note
	}
	return labels, string(encoded)
}

// changes are those of the far end's labels that are to be written or taken away, and ours are all that it has.
func changes(present, own, told map[string]string, earlier []string) (labels map[string]any, ours []string) {
	labels, ours = map[string]any{}, []string{} // not nil, which would be encoded as null
	for _, key := range slices.Sorted(maps.Keys(told)) {
		value, taken := present[key]
		if _, configured := own[key]; configured || taken && !slices.Contains(earlier, key) {
			continue
		}
		ours = append(ours, key)
		if !taken || value != told[key] {
			labels[key] = told[key]
		}
	}
	for _, key := range earlier {
		if _, taken := present[key]; taken && !slices.Contains(ours, key) {
			labels[key] = nil
		}
	}
	return labels, ours
}
