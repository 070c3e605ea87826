// SPDX-License-Identifier: Apache-2.0

package authz

import (
	"slices"

	"github.com/cloudveneto/caas/multitenancy/tenant"
)

// Resources of the core group that have rules of their own.
const (
	resourcePods            = "pods"
	resourceServices        = "services"
	resourceNamespaces      = "namespaces"
	resourceNodes           = "nodes"
	resourceServiceAccounts = "serviceaccounts"
	resourceEvents          = "events"
)

// core is a resource of the core group.
func core(resource string) Resource { return Resource{Resource: resource} }

// cluster decides about what is in no namespace, by the policy's allow-list. Namespaced resources in all namespaces at once
// are not on it.
func (r *Rules) cluster(who caller, request Request, facts Facts) Verdict {
	refused := deny(ReasonCluster, "only what is in your namespace is for you; say which: -n NAMESPACE")
	scope, listed := r.policy.ClusterScope(request.Resource.Group, request.Resource.Resource, request.Verb)
	if !listed || request.Subresource != "" {
		return refused
	}
	switch scope {
	case tenant.AllObjects:
		if request.Namespace == "" {
			return pass(ReasonAllowed)
		}
	case tenant.OwnNamespace:
		// kubectl looks its namespace up after a 404. Only Namespaces can be one's own in this way.
		if request.Resource == core(resourceNamespaces) && request.Verb == "get" && slices.Contains([]string{"", request.Name}, request.Namespace) {
			if verdict := r.inProject(who, request.Name, facts); verdict != nil {
				return *verdict
			}
			return pass(ReasonAllowed)
		}
	case tenant.OwnPool:
		return r.nodes(who, request, facts)
	case tenant.OwnObjects:
		return r.ownObjects(who, request, facts)
	}
	return refused
}

// nodes shows the caller's own and those that his projects share.
func (r *Rules) nodes(who caller, request Request, facts Facts) Verdict {
	pools := []string{tenant.PrivatePool(who.id)}
	for _, project := range who.Projects {
		pools = append(pools, tenant.SharedPool(project.ID))
	}
	if collection(request.Verb) {
		if limits(request.Selector, tenant.NodePoolLabel, pools...) {
			return pass(ReasonOwner)
		}
		return deny(ReasonSelector, "select nodes of yours: -l "+tenant.NodePoolLabel+"="+pools[0])
	}
	node, verdict := known(facts, Key{Resource: request.Resource, Name: request.Name}, who.id)
	if verdict != nil {
		return *verdict
	}
	if slices.Contains(pools, node.Labels[tenant.NodePoolLabel]) {
		return pass(ReasonOwner)
	}
	return notYours()
}

// ownObjects shows those with the caller's label.
func (r *Rules) ownObjects(who caller, request Request, facts Facts) Verdict {
	if collection(request.Verb) {
		if limits(request.Selector, tenant.LabelUserID, who.id) || limits(request.Selector, tenant.LabelVisibleTo, who.id) {
			return pass(ReasonOwner)
		}
		return deny(ReasonSelector, "select what is yours: -l "+tenant.LabelUserID+"="+who.id)
	}
	object, verdict := known(facts, Key{Resource: request.Resource, Name: request.Name}, who.id)
	if verdict != nil {
		return *verdict
	}
	if object.Owner.Is(who.id) {
		return pass(ReasonOwner)
	}
	return notYours()
}

// lists tells whether the policy has a rule for a resource by its name, and not only for all of its group.
func (r *Rules) lists(resource Resource) bool {
	named := func(group string, resources []string) bool {
		return group == resource.Group && slices.Contains(resources, resource.Resource)
	}
	return slices.ContainsFunc(r.policy.Resources, func(rule tenant.Rule) bool { return named(rule.Group, rule.Resources) }) ||
		slices.ContainsFunc(r.policy.ClusterScoped, func(rule tenant.ClusterRule) bool { return named(rule.Group, rule.Resources) })
}

// Wants tells whether decisions about a kind of object depend on single objects.
func (r *Rules) Wants(resource Resource) bool {
	switch r.policy.Class(resource.Group, resource.Resource) {
	case tenant.Owned, tenant.Shareable:
		return true
	case tenant.System, tenant.Denied, tenant.Unknown:
	}
	scope, listed := r.policy.ClusterScope(resource.Group, resource.Resource, "get")
	return listed && scope != tenant.AllObjects || resource == core(resourceNamespaces)
}
