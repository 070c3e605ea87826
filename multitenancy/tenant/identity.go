// SPDX-License-Identifier: Apache-2.0

package tenant

import (
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
)

// Kind says what an identity is in the platform's terms.
type Kind string

// Kinds of identities.
const (
	// Tenant is a person or a robot that an identity provider knows.
	Tenant Kind = "Tenant"
	// ServiceAccount is one of a namespace other than kube-system. Whose it is stands on the object.
	ServiceAccount Kind = "ServiceAccount"
	// Node is a kubelet, or a machine that has a bootstrap token to become one. Its owner has root there.
	Node Kind = "Node"
	// ControlPlane is a part of Kubernetes itself.
	ControlPlane Kind = "ControlPlane"
	// Admin may do everything.
	Admin Kind = "Admin"
	// Stranger is everybody else, and nobody.
	Stranger Kind = "Stranger"
)

const (
	systemPrefix         = "system:"
	serviceAccountPrefix = "system:serviceaccount:"
	nodePrefix           = "system:node:"
	bootstrapPrefix      = "system:bootstrap:"

	groupMasters         = "system:masters"
	groupClusterAdmins   = "kubeadm:cluster-admins"
	groupNodes           = "system:nodes"
	groupBootstrappers   = "system:bootstrappers"
	groupUnauthenticated = "system:unauthenticated"

	namespaceKubeSystem = "kube-system"
)

// Roles that manage a project.
const (
	RoleAdmin   = "admin"
	RoleManager = "manager"
)

// User is what the API server knows of a caller, whatever kind of review it comes in.
type User struct {
	Name, UID string
	Groups    []string
	Extra     map[string][]string
}

// LoggedIn tells that kube-mt-authn has vouched for the user, or the API server by the mapping that it prints. Such users are
// called as their providers say, and nothing about them may be concluded from a name.
func (u User) LoggedIn() bool { return slices.Contains(u.Groups, GroupAuthenticated) }

// Among tells that the user is one of those whom a site names, and has not only logged in under that name.
func (u User) Among(names []string) bool { return !u.LoggedIn() && slices.Contains(names, u.Name) }

// Project is an OpenStack project. The ID is label-ready, the name as OpenStack has it.
type Project struct{ ID, Name string }

// Identity is who a caller is.
type Identity struct {
	Kind Kind
	// Owner is the label-ready id that a Tenant's objects carry. It is empty for all other
	// kinds: the owner of a ServiceAccount is on its object.
	Owner string
	// OwnerName is the tenant's name for people.
	OwnerName string
	// Projects are those that a Tenant is a member of. The name is known only of the
	// project that the login was for.
	Projects []Project
	// Roles are those of a Tenant, by the project's id.
	Roles map[string][]string
	// Namespace and ServiceAccount are those of a ServiceAccount.
	Namespace, ServiceAccount string
}

// IdentityOf says who a user is. A tenant is known by extra values and groups, which only
// authentication sets, and never by name. Whatever is contradictory is a Stranger.
func IdentityOf(user User) Identity {
	switch {
	case slices.Contains(user.Groups, groupUnauthenticated):
		return Identity{Kind: Stranger}
	case slices.Contains(user.Groups, groupMasters), slices.Contains(user.Groups, groupClusterAdmins):
		return Identity{Kind: Admin}
	case isNode(user):
		return Identity{Kind: Node}
	case strings.HasPrefix(user.Name, serviceAccountPrefix):
		return serviceAccount(user)
	case strings.HasPrefix(user.Name, systemPrefix):
		return Identity{Kind: ControlPlane}
	default:
		return tenantOf(user)
	}
}

func isNode(user User) bool {
	return strings.HasPrefix(user.Name, nodePrefix) || strings.HasPrefix(user.Name, bootstrapPrefix) ||
		slices.Contains(user.Groups, groupNodes) || slices.Contains(user.Groups, groupBootstrappers)
}

func serviceAccount(user User) Identity {
	namespace, name, ok := strings.Cut(strings.TrimPrefix(user.Name, serviceAccountPrefix), ":")
	switch {
	case !ok || len(validation.IsDNS1123Label(namespace)) > 0 || len(validation.IsDNS1123Subdomain(name)) > 0:
		return Identity{Kind: Stranger}
	case namespace == namespaceKubeSystem:
		return Identity{Kind: ControlPlane, Namespace: namespace, ServiceAccount: name}
	default:
		return Identity{Kind: ServiceAccount, Namespace: namespace, ServiceAccount: name}
	}
}

func tenantOf(user User) Identity {
	owner := ownerID(single(user.Extra[ExtraUserID]))
	if owner == "" || !user.LoggedIn() {
		return Identity{Kind: Stranger}
	}
	identity := Identity{Kind: Tenant, Owner: owner, OwnerName: single(user.Extra[ExtraUserName])}
	if identity.OwnerName == "" {
		identity.OwnerName = user.Name
	}
	identity.Projects, identity.Roles = memberships(user)
	return identity
}

// ownerID accepts ids that are label-ready, and those that only have to be made so: a
// mapping in the API server's own configuration cannot do that. An issuer has no fragment,
// so that what is before the first # is all of it.
func ownerID(id string) string {
	issuer, subject, isSubject := strings.Cut(id, "#")
	switch {
	case id == VisibleToProject:
		return ""
	case isLabelValue(id):
		return id
	case isSubject && strings.HasPrefix(issuer, "https://"):
		return EncodeSubject(issuer, subject)
	default:
		return EncodeID(id)
	}
}

func memberships(user User) ([]Project, map[string][]string) {
	current := Project{ID: ownerID(single(user.Extra[ExtraProjectID])), Name: single(user.Extra[ExtraProjectName])}
	var projects []Project
	roles := map[string][]string{}
	for _, group := range user.Groups {
		rest, isProject := strings.CutPrefix(group, GroupProjectPrefix)
		if !isProject {
			continue
		}
		id, role, hasRole := strings.Cut(rest, groupRole)
		id = ownerID(id)
		switch {
		case id == "" || hasRole && role == "":
		case hasRole:
			roles[id] = append(roles[id], role)
		case id == current.ID:
			projects = append(projects, current)
		default:
			projects = append(projects, Project{ID: id})
		}
	}
	return projects, roles
}

// single is the one value, and nothing if there is none or a choice.
func single(values []string) string {
	if len(values) != 1 {
		return ""
	}
	return values[0]
}

// MemberOf tells that a tenant's login is good for a project. It is false for no project.
func (i Identity) MemberOf(projectID string) bool {
	return i.Kind == Tenant && projectID != "" &&
		slices.ContainsFunc(i.Projects, func(project Project) bool { return project.ID == projectID })
}

// Manages tells that a tenant is a member of a project and has a role that manages it.
func (i Identity) Manages(projectID string) bool {
	return i.MemberOf(projectID) &&
		(slices.Contains(i.Roles[projectID], RoleManager) || slices.Contains(i.Roles[projectID], RoleAdmin))
}

// Project is the one of a tenant's projects that has the id.
func (i Identity) Project(projectID string) (Project, bool) {
	if !i.MemberOf(projectID) {
		return Project{}, false
	}
	at := slices.IndexFunc(i.Projects, func(project Project) bool { return project.ID == projectID })
	return i.Projects[at], true
}
