// SPDX-License-Identifier: Apache-2.0

package authz

import (
	"slices"

	utilnet "k8s.io/apimachinery/pkg/util/net"

	"github.com/cloudveneto/caas/multitenancy/tenant"
)

// namespaced decides about what is in a namespace of the caller's project.
func (r *Rules) namespaced(who caller, request Request, facts Facts) Verdict {
	class := r.policy.Class(request.Resource.Group, request.Resource.Resource)
	switch class {
	case tenant.Owned, tenant.Shareable:
	case tenant.System:
		return readOnly(request)
	case tenant.Denied, tenant.Unknown:
		return deny(ReasonResource, "this kind of object is not for tenants")
	default:
		return deny(ReasonResource, "this kind of object is not for tenants")
	}
	if !reads(request) && !r.policy.Writable(request.Resource.Group, request.Resource.Resource) {
		return deny(ReasonResource, "this kind of object is read-only for tenants")
	}
	switch {
	case request.Verb == "list" || request.Verb == "watch":
		return r.list(who, request, class, facts)
	case request.Verb == "deletecollection":
		return deleteCollection(who, request)
	case request.Verb == "create" && request.Subresource == "":
		return pass(ReasonAdmission)
	case !hasSubresource(request):
		return deny(ReasonSubresource, "this subresource is not for tenants")
	default:
		return r.named(who, request, class, facts)
	}
}

// readOnly is for what the system makes for all tenants of a namespace, such as quotas.
func readOnly(request Request) Verdict {
	if request.Subresource == "" && reads(request) {
		return pass(ReasonAllowed)
	}
	return deny(ReasonResource, "this kind of object is read-only for tenants")
}

func reads(request Request) bool {
	return slices.Contains([]string{"get", "list", "watch"}, request.Verb)
}

// list wants a selector for what is the caller's, or shared where the kind can be.
func (r *Rules) list(who caller, request Request, class tenant.Class, facts Facts) Verdict {
	visible := []string{who.id}
	if class == tenant.Shareable {
		visible = append(visible, tenant.VisibleToProject)
	}
	if limits(request.Selector, tenant.LabelUserID, who.id) || limits(request.Selector, tenant.LabelVisibleTo, visible...) {
		return pass(ReasonOwner)
	}
	if !r.sensitive(request.Resource) {
		if r.options.ListMode == ListProject {
			return pass(ReasonShared)
		}
		if r.manages(who, request.Namespace, facts) {
			return pass(ReasonManager)
		}
	}
	return deny(ReasonSelector, "select what is yours: -l "+tenant.LabelUserID+"="+who.id)
}

func deleteCollection(who caller, request Request) Verdict {
	if limits(request.Selector, tenant.LabelUserID, who.id) {
		return pass(ReasonOwner)
	}
	return deny(ReasonSelector, "select what is yours: -l "+tenant.LabelUserID+"="+who.id)
}

// hasSubresource tells which subresources there are for which verbs. Others are refused, whatever they are.
func hasSubresource(request Request) bool {
	pods := request.Resource == core(resourcePods)
	read, create, change, remove := false, false, false, false
	switch request.Subresource {
	case "":
		read, change, remove = true, true, true
	case "status", "scale":
		read, change = true, true
	case "finalizers":
		// Nobody serves it. Whoever makes an object that blocks its owner's deletion is asked whether he may.
		change = true
	case "log":
		read = pods
	case "exec", "attach", "portforward":
		read, create = pods, pods
	case "resize", "ephemeralcontainers":
		read, change = pods, pods
	case "eviction":
		create = pods
	case "proxy":
		ok := pods || request.Resource == core(resourceServices)
		read, create, change, remove = ok, ok, ok, ok
	case "token":
		create = request.Resource == core(resourceServiceAccounts) && request.Name != defaultAccount
	}
	switch request.Verb {
	case "get":
		return read
	case "create":
		return create
	case "update", "patch":
		return change
	case "delete":
		return remove
	default:
		return false
	}
}

// named decides about one object by its owner.
func (r *Rules) named(who caller, request Request, class tenant.Class, facts Facts) Verdict {
	name := request.Name
	if request.Subresource == "proxy" {
		_, object, _, ok := utilnet.SplitSchemeNamePort(name)
		if !ok || !validName(object) {
			return deny(ReasonMalformed, "want [scheme:]name[:port]")
		}
		name = object
	}
	shown := request.Verb == "get" && slices.Contains([]string{"", "status", "scale"}, request.Subresource)
	if shown && r.policy.SystemObject(request.Resource.Group, request.Resource.Resource, name) {
		return pass(ReasonAllowed)
	}
	object, knowledge := facts.Object(Key{request.Resource.canonical(), request.Namespace, name})
	// Server-side apply creates by patching a name that is not there.
	if knowledge == Absent && request.Verb == "patch" && request.Subresource == "" {
		return pass(ReasonAdmission)
	}
	if knowledge != Known {
		_, verdict := known(facts, Key{request.Resource.canonical(), request.Namespace, name}, who.id)
		return *verdict
	}
	switch {
	case object.Owner.Is(who.id):
		return pass(ReasonOwner)
	case shown && object.Owner.ReadableBy(who.id, class):
		return pass(ReasonShared)
	case shown && !object.Owner.System() && !r.sensitive(request.Resource) && r.manages(who, request.Namespace, facts):
		return pass(ReasonManager)
	default:
		return notYours()
	}
}

// manages tells whether the site gives managers rights and the caller is one of them. ServiceAccounts never are.
func (r *Rules) manages(who caller, namespace string, facts Facts) bool {
	if r.options.Managers != ManagersView || who.Kind != tenant.Tenant {
		return false
	}
	object, knowledge := facts.Object(Key{Resource: core(resourceNamespaces), Name: namespace})
	return knowledge == Known && who.Manages(tenant.NamespaceOf(namespace, object.Labels).ProjectID)
}

func (r *Rules) sensitive(resource Resource) bool {
	return slices.Contains(r.options.Sensitive, resource.String())
}
