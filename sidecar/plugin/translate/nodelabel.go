// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
)

// valueLabels is the end of the names under which the virtual node tells values of labels.
const valueLabels = ".offload.infn.it"

// ValueLabel is the label by which the virtual node says that one of the nodes behind it
// has the label key with this value: accelerator.offload.infn.it/a100 for accelerator=a100.
// It is empty for what has no such form.
func ValueLabel(key, value string) string {
	label := valuePrefix(key) + value
	if value == "" || len(validation.IsQualifiedName(label)) > 0 {
		return ""
	}
	return label
}

// valuePrefix is what such labels of a key begin with.
func valuePrefix(key string) string {
	if domain, name, qualified := strings.Cut(key, "/"); qualified {
		key = name + "." + domain
	}
	return strings.ToLower(strings.ReplaceAll(key, "_", "-")) + valueLabels + "/"
}

// labelOfValue finds the label of nodes that a pod has chosen by ValueLabel, for the keys that are kept.
func labelOfValue(keep []string, key, value string) (theirs, wanted string, ok bool) {
	at := slices.IndexFunc(keep, func(kept string) bool { return strings.HasPrefix(key, valuePrefix(kept)) })
	if at < 0 || value != "true" {
		return "", "", false
	}
	return keep[at], strings.TrimPrefix(key, valuePrefix(keep[at])), true
}
