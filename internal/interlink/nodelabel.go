// SPDX-License-Identifier: Apache-2.0

package interlink

import "strings"

// ReservedLabel reports whether a label says what kind of node the virtual one is, which
// is not for far ends to say: those of Kubernetes' own domains and of upstream's.
func ReservedLabel(key string) bool {
	domain, _, qualified := strings.Cut(key, "/")
	if !qualified {
		return false
	}
	for _, reserved := range []string{"kubernetes.io", "k8s.io", "virtual-node.interlink"} {
		if domain == reserved || strings.HasSuffix(domain, "."+reserved) {
			return true
		}
	}
	return false
}
