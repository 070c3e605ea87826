// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cloudveneto/caas/sidecar/plugin/translate"
)

// Origins are clients, by their translate.OriginLabel. The zero value is all of them.
type Origins struct {
	// Only is one client.
	Only string
	// Except is all clients but these; it does not count with Only.
	Except []string
}

// Ours is the end of a label selector for created pods of these clients.
func (o Origins) Ours() string {
	switch {
	case o.Only != "":
		return "," + translate.LabelOrigin + "=" + o.Only
	case len(o.Except) > 0:
		return "," + translate.LabelOrigin + " notin (" + strings.Join(o.Except, ",") + ")"
	default:
		return ""
	}
}

// theirs is that for created pods of all other clients; empty when there are none.
func (o Origins) theirs() string {
	switch {
	case o.Only != "":
		return "," + translate.LabelOrigin + "!=" + o.Only
	case len(o.Except) > 0:
		return "," + translate.LabelOrigin + " in (" + strings.Join(o.Except, ",") + ")"
	default:
		return ""
	}
}

// selection is what one list of pods selects.
type selection struct{ labels, fields string }

// foreign selects the pods in a namespace that hold a node's resources and are not in
// the table: everybody's own, other clients', and those that another sidecar created in a
// namespace that this one does not use.
func (w *Watcher) foreign(namespace string) []selection {
	lists := []selection{{translate.LabelManagedBy + "!=" + translate.ManagedBy, living}}
	if theirs := w.config.Origins.theirs(); theirs != "" {
		lists = append(lists, selection{managed + theirs, living})
	}
	if namespace != metav1.NamespaceAll || slices.Contains(w.config.Namespaces, metav1.NamespaceAll) {
		return lists
	}
	elsewhere := []string{living}
	for _, own := range w.config.Namespaces {
		elsewhere = append(elsewhere, "metadata.namespace!="+own)
	}
	return append(lists, selection{managed + w.config.Origins.Ours(), strings.Join(elsewhere, ",")})
}
