// SPDX-License-Identifier: Apache-2.0

package tenant

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"
)

// Class says what a kind of object is in terms of ownership.
type Class string

// Classes of resources.
const (
	// Owned objects are read and written by their owner only.
	Owned Class = "owned"
	// Shareable objects are Owned, and read by the project if their owner says so.
	Shareable Class = "shareable"
	// System objects have no owner: members may read all of them, and write none.
	System Class = "system"
	// Denied objects are not for tenants at all.
	Denied Class = "denied"
	// Unknown is the class of what the policy does not name. It is as good as Denied.
	Unknown Class = ""
)

// Any stands for all resources of a group.
const Any = "*"

// Rule gives resources of a group their class.
type Rule struct {
	// Group is empty for Kubernetes' oldest one.
	Group string `json:"group,omitempty"`
	// Resources are plural names without subresource, or Any alone.
	Resources []string `json:"resources"`
	Class     Class    `json:"class"`
	// ReadOnly takes from owners what would write: others make and change such objects for them.
	ReadOnly bool `json:"readOnly,omitempty"`
}

// Scope says for which objects of a cluster-scoped resource a ClusterRule holds.
type Scope string

// Scopes of cluster rules.
const (
	// AllObjects is the scope of resources that have nothing to hide.
	AllObjects Scope = "all"
	// OwnNamespace is the namespace of a project that the user is a member of.
	OwnNamespace Scope = "namespace"
	// OwnPool are objects selected by the user's pools.
	OwnPool Scope = "pool"
	// OwnObjects are objects selected by owner.
	OwnObjects Scope = "owner"
)

// ClusterRule lets tenants ask for cluster-scoped resources, as far as RBAC grants it.
type ClusterRule struct {
	Group     string   `json:"group,omitempty"`
	Resources []string `json:"resources"`
	Verbs     []string `json:"verbs"`
	Scope     Scope    `json:"scope,omitempty"`
}

// Object names an object that every tenant namespace has of the system.
type Object struct {
	Group    string `json:"group,omitempty"`
	Resource string `json:"resource"`
	Name     string `json:"name"`
}

// Policy says what tenants own. It restricts: what it allows, RBAC still has to grant.
type Policy struct {
	// Resources are the namespaced resources. What is not there is denied.
	Resources []Rule `json:"resources,omitempty"`
	// ClusterScoped is the allow-list of all others.
	ClusterScoped []ClusterRule `json:"clusterScoped,omitempty"`
	// SystemObjects are the objects without an owner that members may read.
	SystemObjects []Object `json:"systemObjects,omitempty"`
	// TrustedUsers are operators that write for tenants: user names in full, such as
	// system:serviceaccount:caas-system:osnode-controller.
	TrustedUsers []string `json:"trustedUsers,omitempty"`
	// AdminGroups are groups whose members are no tenants but administrators, unless they have logged in as tenants.
	AdminGroups []string `json:"adminGroups,omitempty"`
}

// ParsePolicy reads a policy in YAML. What it says of a resource replaces what
// DefaultPolicy says, and each of its other lists replaces the default one. Keys that
// there are none of are errors.
func ParsePolicy(data []byte) (Policy, error) {
	var given Policy
	if err := yaml.UnmarshalStrict(data, &given); err != nil {
		return Policy{}, fmt.Errorf("policy: %w", err)
	}
	if err := given.Validate(); err != nil {
		return Policy{}, err
	}
	return DefaultPolicy().with(given), nil
}

func (p Policy) with(given Policy) Policy {
	rules := slices.Clone(given.Resources)
	for _, rule := range p.Resources {
		rule.Resources = slices.DeleteFunc(slices.Clone(rule.Resources), func(resource string) bool {
			return given.names(rule.Group, resource)
		})
		if len(rule.Resources) > 0 {
			rules = append(rules, rule)
		}
	}
	p.Resources = rules
	if given.ClusterScoped != nil {
		p.ClusterScoped = given.ClusterScoped
	}
	if given.SystemObjects != nil {
		p.SystemObjects = given.SystemObjects
	}
	if given.TrustedUsers != nil {
		p.TrustedUsers = given.TrustedUsers
	}
	if given.AdminGroups != nil {
		p.AdminGroups = given.AdminGroups
	}
	return p
}

// names tells that a rule is about a resource, by its name or with its whole group.
func (p Policy) names(group, resource string) bool {
	return slices.ContainsFunc(p.Resources, func(rule Rule) bool {
		return rule.Group == group && (slices.Contains(rule.Resources, resource) || slices.Contains(rule.Resources, Any))
	})
}

// Class is the class of a resource. A subresource has that of its resource.
func (p Policy) Class(group, resource string) Class {
	if rule := p.rule(group, resource); rule != nil {
		return rule.Class
	}
	return Unknown
}

// Writable tells that owners may create, change and delete their objects of a resource.
func (p Policy) Writable(group, resource string) bool {
	rule := p.rule(group, resource)
	return rule != nil && !rule.ReadOnly && (rule.Class == Owned || rule.Class == Shareable)
}

// rule prefers one that names the resource to one for the whole group.
func (p Policy) rule(group, resource string) *Rule {
	resource, _, _ = strings.Cut(resource, "/")
	var whole *Rule
	for at := range p.Resources {
		rule := &p.Resources[at]
		if rule.Group != group {
			continue
		}
		if slices.Contains(rule.Resources, resource) {
			return rule
		}
		if whole == nil && slices.Contains(rule.Resources, Any) {
			whole = rule
		}
	}
	return whole
}

// ClusterScope says for which objects of a cluster-scoped resource tenants may use a
// verb, and false if for none. It does not look into subresources: there are none for tenants.
func (p Policy) ClusterScope(group, resource, verb string) (Scope, bool) {
	for _, rule := range p.ClusterScoped {
		if rule.Group == group && slices.Contains(rule.Resources, resource) && slices.Contains(rule.Verbs, verb) {
			if rule.Scope == "" {
				return AllObjects, true
			}
			return rule.Scope, true
		}
	}
	return "", false
}

// SystemObject tells that members may read an object although nobody owns it.
func (p Policy) SystemObject(group, resource, name string) bool {
	return slices.Contains(p.SystemObjects, Object{Group: group, Resource: resource, Name: name})
}

// Trusted tells that a user writes for tenants. Nobody who has logged in does, whatever he is called.
func (p Policy) Trusted(user User) bool { return user.Among(p.TrustedUsers) }

// Identity is IdentityOf with this site's administrators, of whom nobody has logged in: who manages a provider's groups
// does not make administrators.
func (p Policy) Identity(user User) Identity {
	identity := IdentityOf(user)
	if identity.Kind != Stranger && identity.Kind != Tenant || user.LoggedIn() || slices.Contains(user.Groups, groupUnauthenticated) {
		return identity
	}
	if slices.ContainsFunc(p.AdminGroups, func(group string) bool { return slices.Contains(user.Groups, group) }) {
		return Identity{Kind: Admin}
	}
	return identity
}

// Validate names everything that is wrong with a policy.
func (p Policy) Validate() error {
	var problems []error
	seen := map[Object]bool{}
	for at, rule := range p.Resources {
		problems = append(problems, rule.problems(fmt.Sprintf("resources[%d]", at), seen)...)
	}
	for at, rule := range p.ClusterScoped {
		problems = append(problems, rule.problems(fmt.Sprintf("clusterScoped[%d]", at))...)
	}
	for at, object := range p.SystemObjects {
		if object.Resource == "" || object.Name == "" {
			problems = append(problems, fmt.Errorf("systemObjects[%d]: resource and name are needed", at))
		}
	}
	problems = append(problems, nonEmpty("trustedUsers", p.TrustedUsers)...)
	problems = append(problems, p.adminProblems()...)
	return errors.Join(problems...)
}
