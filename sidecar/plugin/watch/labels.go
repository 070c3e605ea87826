// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"maps"
	"slices"

	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/cloudveneto/caas/sidecar/plugin/translate"
)

// maxValues bounds the different values of one label that are told.
const maxValues = 32

// Labels are those that the virtual node has because nodes that count have them. A label
// holds one value, so it is told with its own name if all nodes that have it agree, and
// each value in any case by a label of the value's own.
func (w *Watcher) Labels() map[string]string {
	if w.config.Capacity.Disabled {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	told := map[string]string{}
	for _, key := range w.config.Capacity.Labels {
		values := w.valuesOf(key)
		if len(values) == 1 {
			told[key] = values[0]
		}
		for _, value := range values[:min(len(values), maxValues)] {
			if label := translate.ValueLabel(key, value); label != "" {
				told[label] = "true"
			}
		}
	}
	return told
}

// valuesOf are the values of a label of the nodes that count, in order; the caller holds the lock.
func (w *Watcher) valuesOf(key string) []string {
	values := map[string]struct{}{}
	for _, node := range w.nodes {
		value, labelled := node.Labels[key]
		if labelled && len(validation.IsValidLabelValue(value)) == 0 && w.counts(node) {
			values[value] = struct{}{}
		}
	}
	return slices.Sorted(maps.Keys(values))
}
