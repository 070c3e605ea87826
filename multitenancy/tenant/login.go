// SPDX-License-Identifier: Apache-2.0

package tenant

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
)

// RefusalError is the answer no: whoever gives it could tell, unlike with any other error. Its
// reason is for operators, and has nothing of a token in it.
type RefusalError struct {
	// Reason is a word for metrics.
	Reason string
	// Detail is a sentence.
	Detail string
}

// Error is the reason with the detail.
func (r *RefusalError) Error() string { return r.Reason + ": " + r.Detail }

// Refuse makes a RefusalError.
func Refuse(reason, format string, args ...any) error {
	return &RefusalError{Reason: reason, Detail: fmt.Sprintf(format, args...)}
}

// Refused finds the RefusalError in an error, if it is one.
func Refused(err error) (*RefusalError, bool) { return errors.AsType[*RefusalError](err) }

// ReasonName is that of logins whose names are not safe to pass on.
const ReasonName = "name"

// Membership is a project that a login is good for.
type Membership struct {
	Project Project
	// Domain is the name of the project's domain.
	Domain string
	Roles  []string
}

// Login is what an identity provider vouches for.
type Login struct {
	// Auth says which kind of provider: AuthKeystone or AuthOIDC.
	Auth string
	// Name is the user's in Kubernetes.
	Name string
	// UID is the user's own id at the provider, whole, and Owner the label-ready form of it.
	UID, Owner string
	// DisplayName is what people call the user, Domain where that name is from.
	DisplayName, Domain string
	Memberships         []Membership
	// Groups are those that the provider has beyond memberships. They MUST have a prefix of the site's.
	Groups []string
	// TokenID names the token in logs and is no secret.
	TokenID string
	Expires time.Time
}

// User is the login as the API server is told it. A login that has a name which could be
// taken for one of Kubernetes' own, or that could deceive a reader, is refused.
func (l Login) User() (User, error) {
	user := User{Name: l.Name, UID: l.UID, Groups: l.groups(), Extra: l.extra()}
	if l.Owner == "" || l.Owner == VisibleToProject || !isLabelValue(l.Owner) {
		return User{}, Refuse(ReasonName, "the user's id is not usable")
	}
	for what, values := range map[string][]string{"name": {user.Name}, "id": {user.UID}, "group": user.Groups} {
		if at := slices.IndexFunc(values, unsafeName); at >= 0 {
			return User{}, Refuse(ReasonName, "the user's %s %q is reserved, empty or unprintable", what, values[at])
		}
	}
	for key, values := range user.Extra {
		if at := slices.IndexFunc(values, unsafeName); at >= 0 {
			return User{}, Refuse(ReasonName, "the user's %s %q is reserved, empty or unprintable", strings.TrimPrefix(key, Prefix), values[at])
		}
	}
	return user, nil
}

const longestName = 512

// unsafeName tells that a text must not become part of an identity. Space around it, and
// characters that are not seen, would make two names look the same.
func unsafeName(name string) bool {
	lower := strings.ToLower(name)
	return name == "" || len(name) > longestName || strings.TrimSpace(name) != name ||
		strings.HasPrefix(lower, systemPrefix) || strings.HasPrefix(lower, "kubeadm:") ||
		strings.ContainsFunc(name, func(r rune) bool { return r == unicode.ReplacementChar || !unicode.IsPrint(r) })
}

func (l Login) groups() []string {
	groups := []string{GroupAuthenticated}
	for _, member := range l.Memberships {
		groups = append(groups, ProjectGroup(member.Project.ID))
		for _, role := range member.Roles {
			groups = append(groups, RoleGroup(member.Project.ID, role))
		}
	}
	for _, group := range l.Groups {
		if !slices.Contains(groups, group) {
			groups = append(groups, group)
		}
	}
	return groups
}

// extra names a project only where the login is for exactly one.
func (l Login) extra() map[string][]string {
	extra := map[string][]string{ExtraUserID: {l.Owner}, ExtraAuth: {l.Auth}}
	add := func(key string, values ...string) {
		if values = slices.DeleteFunc(values, func(value string) bool { return value == "" }); len(values) > 0 {
			extra[key] = values
		}
	}
	add(ExtraUserName, l.DisplayName)
	add(ExtraUserDomain, l.Domain)
	add(ExtraTokenID, l.TokenID)
	if len(l.Memberships) == 1 {
		only := l.Memberships[0]
		add(ExtraProjectID, only.Project.ID)
		add(ExtraProjectName, only.Project.Name)
		add(ExtraProjectDomain, only.Domain)
		add(ExtraRoles, slices.Clone(only.Roles)...)
	}
	if !l.Expires.IsZero() {
		add(ExtraTokenExpires, l.Expires.UTC().Format(time.RFC3339))
	}
	return extra
}
