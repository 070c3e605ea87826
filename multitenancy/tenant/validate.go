// SPDX-License-Identifier: Apache-2.0

package tenant

import (
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
)

func (r Rule) problems(at string, seen map[Object]bool) []error {
	var problems []error
	note := func(format string, args ...any) {
		problems = append(problems, fmt.Errorf("%s: %w", at, fmt.Errorf(format, args...)))
	}
	switch r.Class {
	case Owned, Shareable, System, Denied:
	case Unknown:
		note("class is needed")
	default:
		note("class %q is none of owned, shareable, system, denied", r.Class)
	}
	if r.ReadOnly && (r.Class == System || r.Class == Denied) {
		note("readOnly has no meaning for class %s", r.Class)
	}
	checkNames(r.Group, r.Resources, note)
	if len(r.Resources) > 1 && slices.Contains(r.Resources, Any) {
		note("%q stands alone", Any)
	}
	for _, resource := range r.Resources {
		key := Object{Group: r.Group, Resource: resource}
		if seen[key] {
			note("%s is named twice", qualified(r.Group, resource))
		}
		seen[key] = true
		if why := r.danger(resource); why != "" {
			note("%s cannot be %s: %s", qualified(r.Group, resource), r.Class, why)
		}
	}
	return problems
}

// danger says why a resource must not have the rule's class, whatever a site wants.
func (r Rule) danger(resource string) string {
	writable := !r.ReadOnly && (r.Class == Owned || r.Class == Shareable)
	switch {
	case r.Class == Shareable && mustHide(r.Group, resource):
		return "its objects are credentials or storage, and never shown to others"
	case r.Class == System && mustHide(r.Group, resource):
		return "every member could read all of them"
	case writable && mustNotWrite(r.Group, resource):
		return "who writes it gets rights, or other users' traffic"
	default:
		return ""
	}
}

func mustHide(group, resource string) bool {
	if group != "" {
		return false
	}
	switch resource {
	case "secrets", "serviceaccounts", "persistentvolumeclaims", Any:
		return true
	default:
		return false
	}
}

func mustNotWrite(group, resource string) bool {
	switch group {
	case "rbac.authorization.k8s.io", "admissionregistration.k8s.io", "certificates.k8s.io", "apiregistration.k8s.io",
		"apiextensions.k8s.io", "authorization.k8s.io", "authentication.k8s.io", "discovery.k8s.io":
		return true
	case "":
		return slices.Contains([]string{"endpoints", "bindings", "resourcequotas", "limitranges", "podtemplates", Any}, resource)
	default:
		return false
	}
}

func (r ClusterRule) problems(at string) []error {
	var problems []error
	note := func(format string, args ...any) {
		problems = append(problems, fmt.Errorf("%s: %w", at, fmt.Errorf(format, args...)))
	}
	checkNames(r.Group, r.Resources, note)
	if slices.Contains(r.Resources, Any) {
		note("every resource has to be named")
	}
	if len(r.Verbs) == 0 {
		note("no verbs")
	}
	for _, verb := range r.Verbs {
		switch verb {
		case "get", "list", "watch":
		case "create":
			if r.Group != "authorization.k8s.io" && r.Group != "authentication.k8s.io" {
				note("verb create is only for questions about oneself")
			}
		default:
			note("verb %q is none of get, list, watch, create", verb)
		}
	}
	switch r.Scope {
	case "", AllObjects, OwnNamespace, OwnPool, OwnObjects:
	default:
		note("scope %q is none of all, namespace, pool, owner", r.Scope)
	}
	return problems
}

func checkNames(group string, resources []string, note func(format string, args ...any)) {
	if group != "" && len(validation.IsDNS1123Subdomain(group)) > 0 {
		note("group %q is no group's name", group)
	}
	if len(resources) == 0 {
		note("no resources")
	}
	for _, resource := range resources {
		if resource != Any && len(validation.IsDNS1123Label(resource)) > 0 {
			note("resource %q is no plural name in small letters", resource)
		}
	}
}

func nonEmpty(field string, values []string) []error {
	var problems []error
	for at, value := range values {
		if strings.TrimSpace(value) == "" {
			problems = append(problems, fmt.Errorf("%s[%d] is empty", field, at))
		}
	}
	return problems
}

// adminProblems refuses groups that everybody or every tenant is in.
func (p Policy) adminProblems() []error {
	problems := nonEmpty("adminGroups", p.AdminGroups)
	for at, group := range p.AdminGroups {
		if group == GroupAuthenticated || group == "system:authenticated" || group == groupUnauthenticated {
			problems = append(problems, fmt.Errorf("adminGroups[%d]: everybody is in %s", at, group))
		}
	}
	return problems
}

func qualified(group, resource string) string {
	if group == "" {
		return resource
	}
	return resource + "." + group
}
