// SPDX-License-Identifier: Apache-2.0

package tenant

// Prefix begins every key that belongs to the platform: users cannot set them, but for
// AnnotationPolicy.
const Prefix = "osn.infn.it/"

// Labels of every object of a tenant. The ids are label-ready: see EncodeID.
const (
	LabelUserID      = "osn.infn.it/userid"
	LabelUserName    = "osn.infn.it/username"
	LabelProjectID   = "osn.infn.it/projectid"
	LabelProjectName = "osn.infn.it/projectname"
	// LabelVisibleTo says who may read the object: its owner's id, or VisibleToProject.
	LabelVisibleTo = "osn.infn.it/visible-to"
)

// VisibleToProject is the value of LabelVisibleTo of what all members of a project may
// read. It is no possible id: EncodeID never returns it.
const VisibleToProject = "project"

// AnnotationPolicy says on which nodes pods may run: PolicyPrivate or PolicyShared.
const AnnotationPolicy = "osn.infn.it/policy"

// Values of AnnotationPolicy.
const (
	PolicyPrivate = "private"
	PolicyShared  = "shared"
)

const (
	// NodePoolLabel says whose pods may run on a node: PrivatePool of its owner or
	// SharedPool of a project. A kubelet cannot change it.
	NodePoolLabel = "osn.infn.it.node-restriction.kubernetes.io/pool"
	// PoolTaint has the value of NodePoolLabel, and keeps all other pods away.
	PoolTaint = "osn.infn.it/pool"
)

// Keys of the extra values of a user. Ids are label-ready, names are as the identity
// provider has them.
const (
	ExtraUserID        = "osn.infn.it/userid"
	ExtraUserName      = "osn.infn.it/username"
	ExtraUserDomain    = "osn.infn.it/userdomain"
	ExtraProjectID     = "osn.infn.it/projectid"
	ExtraProjectName   = "osn.infn.it/projectname"
	ExtraProjectDomain = "osn.infn.it/projectdomain"
	ExtraRoles         = "osn.infn.it/roles"
	// ExtraAuth says how the user was authenticated: AuthKeystone or AuthOIDC.
	ExtraAuth = "osn.infn.it/auth"
	// ExtraTokenID names the token in logs without being usable as one.
	ExtraTokenID      = "osn.infn.it/token-id"      //nolint:gosec // a key's name, no credential
	ExtraTokenExpires = "osn.infn.it/token-expires" //nolint:gosec // a key's name, no credential
)

// Values of ExtraAuth.
const (
	AuthKeystone = "keystone"
	AuthOIDC     = "oidc"
)

const (
	// GroupAuthenticated is the group of all tenants.
	GroupAuthenticated = "osn:authenticated"
	// GroupProjectPrefix and a project's id make the group of the project's members.
	GroupProjectPrefix = "osn:project:"
	// groupRole is between the project's id and a role, in the group of the members
	// who have that role. Ids have no colon.
	groupRole = ":role:"
)

// ProjectGroup is the group of the members of a project.
func ProjectGroup(projectID string) string { return GroupProjectPrefix + projectID }

// RoleGroup is the group of those who have a role in a project.
func RoleGroup(projectID, role string) string { return ProjectGroup(projectID) + groupRole + role }
