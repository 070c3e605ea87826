// SPDX-License-Identifier: Apache-2.0

package tenant

import (
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
)

// Namespace is a namespace in terms of whose it is.
type Namespace struct {
	Name, ProjectID string
	// Tenant tells that it is a project's.
	Tenant bool
}

// NamespaceOf reads whose a namespace is from its labels. Those of the platform are
// nobody's, whatever their labels say.
func NamespaceOf(name string, labels map[string]string) Namespace {
	id := labels[LabelProjectID]
	if id == "" || SystemNamespace(name) {
		return Namespace{Name: name}
	}
	return Namespace{Name: name, ProjectID: id, Tenant: true}
}

// SystemNamespace tells that a namespace belongs to Kubernetes or to the platform.
func SystemNamespace(name string) bool {
	switch name {
	case namespaceKubeSystem, "kube-public", "kube-node-lease", "default", "caas-system":
		return true
	default:
		return false
	}
}

// reservedNamespace tells that a project cannot have a name as it is.
func reservedNamespace(name string) bool {
	return SystemNamespace(name) || strings.HasPrefix(name, "kube-")
}

const fallbackNamespace = "project"

// NamespaceName is the name of a project's namespace: the project's name in small
// letters. If another project or the platform has that namespace, or it is reserved, the
// beginning of the project's id is added, as much as it takes. The function taken says
// whether a namespace exists and which project's it is: none, if it has no project.
// A project that already has one of these names keeps it.
func NamespaceName(project Project, taken func(name string) (projectID string, exists bool)) string {
	free := func(name string) bool {
		projectID, exists := taken(name)
		return !exists || projectID != "" && projectID == project.ID
	}
	candidates := namespaceNames(project)
	// One that is the project's already comes first, whoever else has gone in the meantime.
	for _, name := range candidates {
		if projectID, exists := taken(name); exists && projectID != "" && projectID == project.ID {
			return name
		}
	}
	if at := slices.IndexFunc(candidates, free); at >= 0 {
		return candidates[at]
	}
	return candidates[len(candidates)-1]
}

// namespaceNames are the names that a project's namespace may have, best first. The last
// has a hash of the id, which no other project has.
func namespaceNames(project Project) []string {
	base := dnsLabel(project.Name, validation.DNS1123LabelMaxLength)
	if base == "" {
		base = fallbackNamespace
	}
	var names []string
	if !reservedNamespace(base) && base != fallbackNamespace {
		names = append(names, base)
	}
	id := dnsLabel(project.ID, validation.DNS1123LabelMaxLength)
	for _, length := range []int{8, 16, 32} {
		if len(id) >= length {
			names = append(names, suffixed(base, id[:length]))
		}
	}
	return append(names, suffixed(base, hash(project.ID)[:32]))
}

func suffixed(base, suffix string) string {
	suffix = strings.Trim(suffix, "-")
	return dnsLabel(base, validation.DNS1123LabelMaxLength-len(suffix)-1) + "-" + suffix
}

// dnsLabel is the text as far as a namespace's name can hold it.
func dnsLabel(text string, limit int) string {
	label := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return '-'
	}, strings.ToLower(text))
	if label = strings.Trim(label, "-"); len(label) > limit {
		label = strings.TrimRight(label[:limit], "-")
	}
	return label
}
