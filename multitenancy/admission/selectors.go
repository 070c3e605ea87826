// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/cloudveneto/caas/multitenancy/tenant"
)

// selector is a place where an object selects others by labels.
type selector struct {
	// labels is the map that gets the owner's label.
	labels func() fields
	path   string
}

func plainSelector(object fields, path ...string) []selector {
	if found := child(object, path...); len(found) > 0 {
		return []selector{{labels: func() fields { return found }, path: strings.Join(path, ".")}}
	}
	return nil
}

// labelSelector is one with matchLabels. An empty one selects everything and is
// restricted; an absent one selects nothing.
func labelSelector(object fields, path ...string) []selector {
	if found := child(object, path...); found != nil {
		return []selector{{labels: func() fields { return ensure(found, "matchLabels") }, path: strings.Join(path, ".") + ".matchLabels"}}
	}
	return nil
}

// selectors are those by which the object acts upon others: it is to act upon its owner's
// objects only.
func selectors(resource schema.GroupResource, object fields) []selector {
	switch resource.Group + "/" + resource.Resource {
	case "/services", "/replicationcontrollers":
		return plainSelector(object, "spec", "selector")
	case "apps/deployments", "apps/replicasets", "apps/statefulsets", "apps/daemonsets", "policy/poddisruptionbudgets":
		return labelSelector(object, "spec", "selector")
	case "networking.k8s.io/networkpolicies":
		return networkPolicy(object)
	default:
		return nil
	}
}

// networkPolicy selects the pods that it protects, and peers among those of the
// namespace; a peer with a namespaceSelector is meant to be others.
func networkPolicy(object fields) []selector {
	spec := child(object, "spec")
	if spec == nil {
		return nil
	}
	ensure(spec, "podSelector")
	found := labelSelector(object, "spec", "podSelector")
	for direction, peers := range map[string]string{"ingress": "from", "egress": "to"} {
		for i, rule := range list(spec, direction) {
			for j, peer := range list(rule, peers) {
				if child(peer, "namespaceSelector") != nil {
					continue
				}
				for _, one := range labelSelector(peer, "podSelector") {
					one.path = fmt.Sprintf("spec.%s[%d].%s[%d].%s", direction, i, peers, j, one.path)
					found = append(found, one)
				}
			}
		}
	}
	return found
}

// restrict adds the owner to all selectors.
func restrict(resource schema.GroupResource, object fields, owner string) {
	for _, one := range selectors(resource, object) {
		one.labels()[tenant.LabelUserID] = owner
	}
}

// unrestricted names the selectors that would reach other users' objects.
func unrestricted(resource schema.GroupResource, object fields, owner string) []string {
	var problems []string
	for _, one := range selectors(resource, object) {
		if value, _ := one.labels()[tenant.LabelUserID].(string); value != owner {
			problems = append(problems, fmt.Sprintf("%s: must have %s=%s", one.path, tenant.LabelUserID, owner))
		}
	}
	return problems
}
