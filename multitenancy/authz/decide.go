// SPDX-License-Identifier: Apache-2.0

package authz

import (
	"slices"
	"strings"

	"github.com/cloudveneto/caas/multitenancy/tenant"
)

const (
	maxName              = 253
	serviceAccountPrefix = "system:serviceaccount:"
	defaultAccount       = "default"
)

// Rules decide. They are immutable.
type Rules struct {
	policy  tenant.Policy
	options Options
}

// NewRules checks the options and fills in their defaults. The policy is one that was checked when it was read.
func NewRules(policy tenant.Policy, options Options) (*Rules, error) {
	options.Complete()
	if err := options.Validate(); err != nil {
		return nil, err
	}
	return &Rules{policy: policy, options: options}, nil
}

// caller is a tenant who wants something.
type caller struct {
	tenant.Identity

	// id is what the caller's objects are labelled with.
	id string
	// namespace is the only one that a ServiceAccount may use; empty for users, who have projects.
	namespace string
}

// Decide says whether RBAC gets to decide a request. It is a pure function: the same request and facts make the same verdict.
func (r *Rules) Decide(request Request, facts Facts) Verdict {
	if request.NonResource {
		return pass(ReasonNonResource)
	}
	identity := r.policy.Identity(request.User)
	if r.outOfScope(request.User, identity) {
		return pass(ReasonSystem)
	}
	if !facts.Ready() {
		return deny(ReasonNotReady, "not ready: the owners of objects are not known yet; try again")
	}
	who, verdict := r.caller(request.User, identity, facts)
	if verdict != nil {
		return *verdict
	}
	if !slices.Contains(verbs(), request.Verb) {
		return deny(ReasonVerb, "this verb is not for tenants")
	}
	if malformed := check(request); malformed != "" {
		return deny(ReasonMalformed, malformed)
	}
	// Requests for a Namespace itself name it as their namespace, too.
	if request.Namespace == "" || request.Resource == core(resourceNamespaces) {
		return r.cluster(who, request, facts)
	}
	if verdict := r.inProject(who, request.Namespace, facts); verdict != nil {
		return *verdict
	}
	return r.namespaced(who, request, facts)
}

// outOfScope tells users who are no tenants and whom RBAC alone restricts: parts of the control plane, nodes, and whom the
// site trusts.
func (r *Rules) outOfScope(user tenant.User, identity tenant.Identity) bool {
	trusted := &r.options.Trusted
	if r.policy.Trusted(user) || user.Among(trusted.Users) {
		return true
	}
	switch identity.Kind {
	case tenant.ControlPlane, tenant.Node, tenant.Admin:
		return true
	case tenant.ServiceAccount:
		return trusted.serviceAccount(identity.Namespace, identity.ServiceAccount)
	case tenant.Tenant, tenant.Stranger:
	}
	return false
}

// caller finds out as whom a tenant acts: a user as himself, a ServiceAccount as the owner of the very object that its
// token is of.
func (r *Rules) caller(user tenant.User, identity tenant.Identity, facts Facts) (caller, *Verdict) {
	switch identity.Kind {
	case tenant.Tenant:
		return caller{Identity: identity, id: identity.Owner}, nil
	case tenant.ServiceAccount:
		return r.serviceAccount(user, identity, facts)
	case tenant.Stranger, tenant.Node, tenant.ControlPlane, tenant.Admin:
	}
	return caller{}, new(deny(ReasonStranger, "neither a tenant nor known to this site; see the list of trusted users"))
}

func (r *Rules) serviceAccount(user tenant.User, identity tenant.Identity, facts Facts) (caller, *Verdict) {
	namespace, verdict := r.tenantNamespace(user.Name, identity.Namespace, facts)
	if verdict != nil {
		return caller{}, verdict
	}
	nobody := deny(ReasonNobody, "this ServiceAccount has no owner; use one of your own, not default")
	if identity.ServiceAccount == defaultAccount {
		return caller{}, &nobody
	}
	account, verdict := known(facts, Key{core(resourceServiceAccounts), identity.Namespace, identity.ServiceAccount}, user.Name)
	if verdict != nil {
		return caller{}, verdict
	}
	// The name may be another one's by now.
	if account.Owner.System() || user.UID == "" || account.UID != user.UID {
		return caller{}, &nobody
	}
	identity.Projects = []tenant.Project{{ID: namespace.ProjectID}} // whose nodes it may see
	return caller{Identity: identity, id: account.Owner.UserID, namespace: identity.Namespace}, nil
}

// inProject demands that a namespace is of a project of the caller.
func (r *Rules) inProject(who caller, name string, facts Facts) *Verdict {
	namespace, verdict := r.tenantNamespace(who.id, name, facts)
	if verdict != nil {
		return verdict
	}
	if who.namespace == name || who.MemberOf(namespace.ProjectID) {
		return nil
	}
	return new(deny(ReasonProject, "not a namespace of your project"))
}

// tenantNamespace looks a namespace up and demands that it is of a project. Names say nothing: its label does.
func (r *Rules) tenantNamespace(user, name string, facts Facts) (tenant.Namespace, *Verdict) {
	object, verdict := known(facts, Key{Resource: core(resourceNamespaces), Name: name}, user)
	if verdict != nil {
		if verdict.Reason == ReasonNotYours {
			verdict = new(deny(ReasonProject, "not a namespace of your project"))
		}
		return tenant.Namespace{}, verdict
	}
	namespace := tenant.NamespaceOf(name, object.Labels)
	if !namespace.Tenant {
		return tenant.Namespace{}, new(deny(ReasonProject, "not a namespace of your project"))
	}
	return namespace, nil
}

// known returns an object that exists, or the verdict when it does not, or cannot be told.
func known(facts Facts, key Key, user string) (Object, *Verdict) {
	object, knowledge := facts.Object(key)
	switch knowledge {
	case Known:
		return object, nil
	case Unknown:
		return Object{}, &Verdict{Outcome: Ask, Reason: ReasonUnavailable, Key: key, User: user}
	case Absent:
		return Object{}, new(notYours())
	case Limited:
		return Object{}, new(deny(ReasonLimited, "too many requests for unknown names; try again in a second"))
	case Unavailable:
	}
	return Object{}, new(deny(ReasonUnavailable, "cannot tell whose this is: the API server does not answer; try again"))
}

// verbs are those of the REST API; each has a rule.
func verbs() []string {
	return []string{"get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"}
}

func collection(verb string) bool {
	return verb == "list" || verb == "watch" || verb == "deletecollection"
}

// check refuses requests that no API request is like. They come from odd URLs: //-paths arrive as lists with a subresource.
func check(request Request) string {
	switch {
	case request.Resource.Resource == "":
		return "no resource"
	case request.Namespace != "" && !validName(request.Namespace):
		return "not the name of a namespace"
	case collection(request.Verb):
		if request.Subresource != "" {
			return "a collection has no subresource"
		}
	case request.Name == "":
		// kubectl auth can-i get pods asks this; no request does.
		if request.Verb != "create" || request.Subresource != "" {
			return "no name; ask about a certain object, such as pods/NAME"
		}
	case !validName(request.Name):
		return "not the name of an object"
	}
	return ""
}

// validName tells names that can be part of a path as they are. Lookups put them into one.
func validName(name string) bool {
	return name != "" && len(name) <= maxName && name != "." && name != ".." &&
		!strings.ContainsFunc(name, func(c rune) bool { return c == '/' || c == '%' || c == '?' || c <= ' ' || c == 0x7f || c == 0xfffd })
}
