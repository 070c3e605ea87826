// SPDX-License-Identifier: Apache-2.0

package tenant_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/cloudveneto/caas/multitenancy/tenant"
)

const projectID = "55158de200964f7c8aa5ca486e6cb7ea"

func member() tenant.User {
	return tenant.User{
		Name: "alice@example.org", UID: userID,
		Groups: []string{
			tenant.GroupAuthenticated, tenant.ProjectGroup(projectID), tenant.RoleGroup(projectID, "member"), "system:authenticated",
		},
		Extra: map[string][]string{
			tenant.ExtraUserID: {userID}, tenant.ExtraUserName: {"alice"}, tenant.ExtraProjectID: {projectID}, tenant.ExtraProjectName: {"CMS"},
		},
	}
}

func TestIdentityOf(t *testing.T) {
	t.Parallel()
	with := func(change func(*tenant.User)) tenant.User {
		user := member()
		change(&user)
		return user
	}
	named := func(name string, groups ...string) tenant.User { return tenant.User{Name: name, Groups: groups} }
	for name, test := range map[string]struct {
		user tenant.User
		want tenant.Kind
	}{
		"tenant":                    {member(), tenant.Tenant},
		"no id":                     {with(func(u *tenant.User) { delete(u.Extra, tenant.ExtraUserID) }), tenant.Stranger},
		"two ids":                   {with(func(u *tenant.User) { u.Extra[tenant.ExtraUserID] = []string{userID, "x"} }), tenant.Stranger},
		"empty id":                  {with(func(u *tenant.User) { u.Extra[tenant.ExtraUserID] = []string{""} }), tenant.Stranger},
		"reserved id":               {with(func(u *tenant.User) { u.Extra[tenant.ExtraUserID] = []string{"project"} }), tenant.Stranger},
		"not by our authentication": {with(func(u *tenant.User) { u.Groups = u.Groups[1:] }), tenant.Stranger},
		"anonymous":                 {named("system:anonymous", "system:unauthenticated"), tenant.Stranger},
		"nobody":                    {tenant.User{}, tenant.Stranger},
		"unknown name":              {named("bob"), tenant.Stranger},
		"admin":                     {named("kubernetes-admin", "kubeadm:cluster-admins"), tenant.Admin},
		"master":                    {named("x", "system:masters"), tenant.Admin},
		"node":                      {named("system:node:a", "system:nodes"), tenant.Node},
		"bootstrapping machine":     {named("system:bootstrap:abcdef", "system:bootstrappers"), tenant.Node},
		"scheduler":                 {named("system:kube-scheduler"), tenant.ControlPlane},
		"kube-system account":       {named("system:serviceaccount:kube-system:job-controller"), tenant.ControlPlane},
		"account":                   {named("system:serviceaccount:cms:robot"), tenant.ServiceAccount},
		"account without a name":    {named("system:serviceaccount:cms:"), tenant.Stranger},
		"account of three parts":    {named("system:serviceaccount:kube-system:a:b"), tenant.Stranger},
		"account without namespace": {named("system:serviceaccount::x"), tenant.Stranger},
		"tenant with a node's name": {with(func(u *tenant.User) { u.Name = "system:node:a" }), tenant.Node},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := tenant.IdentityOf(test.user)
			assert.Equal(t, test.want, got.Kind)
			assert.Equal(t, test.want == tenant.Tenant, got.Owner != "")
			assert.Equal(t, test.want == tenant.Tenant, got.MemberOf(projectID))
		})
	}
}

func TestIdentityOfTenant(t *testing.T) {
	t.Parallel()
	user := member()
	user.Groups = append(user.Groups, "osn:project:other", "osn:project:other:role:manager", "osn:project::role:member", "osn:project:", "osn:project:third:role:")
	got := tenant.IdentityOf(user)
	assert.Equal(t, userID, got.Owner)
	assert.Equal(t, "alice", got.OwnerName)
	assert.Equal(t, []tenant.Project{{ID: projectID, Name: "CMS"}, {ID: "other"}}, got.Projects)
	assert.True(t, got.MemberOf("other"))
	assert.False(t, got.MemberOf("third"))
	assert.False(t, got.MemberOf(""))
	assert.True(t, got.Manages("other"))
	assert.False(t, got.Manages(projectID))
	project, found := got.Project(projectID)
	assert.True(t, found)
	assert.Equal(t, "CMS", project.Name)
	_, found = got.Project("third")
	assert.False(t, found)

	account := tenant.IdentityOf(tenant.User{Name: "system:serviceaccount:cms:robot", Extra: user.Extra, Groups: user.Groups})
	assert.Equal(t, tenant.Identity{Kind: tenant.ServiceAccount, Namespace: "cms", ServiceAccount: "robot"}, account)
	assert.False(t, account.MemberOf(projectID))
}

func TestIdentityOfRawID(t *testing.T) {
	t.Parallel()
	user := member()
	long := strings.Repeat("a", 64)
	user.Extra[tenant.ExtraUserID] = []string{long}
	assert.Equal(t, tenant.EncodeID(long), tenant.IdentityOf(user).Owner)
	// The API server's own configuration can only join issuer and subject.
	user.Extra[tenant.ExtraUserID] = []string{"https://iam.example.org/#ali#ce"}
	assert.Equal(t, tenant.EncodeSubject("https://iam.example.org/", "ali#ce"), tenant.IdentityOf(user).Owner)
	user.Extra[tenant.ExtraUserID] = []string{tenant.EncodeID(long)}
	assert.Equal(t, tenant.EncodeID(long), tenant.IdentityOf(user).Owner)
}

func login() tenant.Login {
	return tenant.Login{
		Auth: tenant.AuthKeystone, Name: "alice@example.org", UID: userID, Owner: userID, DisplayName: "alice", Domain: "Default",
		Memberships: []tenant.Membership{{Project: tenant.Project{ID: projectID, Name: "CMS"}, Domain: "Default", Roles: []string{"member", "reader"}}},
		TokenID:     "audit", Expires: time.Date(2026, 11, 21, 5, 0, 0, 0, time.UTC),
	}
}

func TestLoginUser(t *testing.T) {
	t.Parallel()
	user, err := login().User()
	require.NoError(t, err)
	assert.Equal(t, tenant.User{
		Name: "alice@example.org", UID: userID,
		Groups: []string{
			"osn:authenticated", "osn:project:" + projectID, "osn:project:" + projectID + ":role:member", "osn:project:" + projectID + ":role:reader",
		},
		Extra: map[string][]string{
			"osn.infn.it/userid": {userID}, "osn.infn.it/username": {"alice"}, "osn.infn.it/userdomain": {"Default"},
			"osn.infn.it/projectid": {projectID}, "osn.infn.it/projectname": {"CMS"}, "osn.infn.it/projectdomain": {"Default"},
			"osn.infn.it/roles": {"member", "reader"}, "osn.infn.it/auth": {"keystone"}, "osn.infn.it/token-id": {"audit"},
			"osn.infn.it/token-expires": {"2026-11-21T05:00:00Z"},
		},
	}, user)
	assert.Equal(t, tenant.Tenant, tenant.IdentityOf(user).Kind)
}

func TestLoginUserOfSeveralProjects(t *testing.T) {
	t.Parallel()
	several := login()
	several.Memberships = append(several.Memberships, tenant.Membership{Project: tenant.Project{ID: "other"}})
	several.Groups = []string{"iam:x", "iam:x", tenant.GroupAuthenticated}
	user, err := several.User()
	require.NoError(t, err)
	assert.NotContains(t, user.Extra, tenant.ExtraProjectID)
	assert.Contains(t, user.Groups, "osn:project:other")
	assert.Len(t, user.Groups, 6)
}

func TestLoginUserRefuses(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*tenant.Login){
		"control plane's name": func(l *tenant.Login) { l.Name = "system:kube-controller-manager" },
		"in capitals":          func(l *tenant.Login) { l.Name = "SYSTEM:masters" },
		"kubeadm's group":      func(l *tenant.Login) { l.Groups = []string{"kubeadm:cluster-admins"} },
		"masters":              func(l *tenant.Login) { l.Groups = []string{"system:masters"} },
		"no name":              func(l *tenant.Login) { l.Name = "" },
		"no id":                func(l *tenant.Login) { l.UID = "" },
		"no owner":             func(l *tenant.Login) { l.Owner = "" },
		"everybody as owner":   func(l *tenant.Login) { l.Owner = tenant.VisibleToProject },
		"illegal owner":        func(l *tenant.Login) { l.Owner = "a b" },
		"line end":             func(l *tenant.Login) { l.Name = "alice\nbob" },
		"zero width":           func(l *tenant.Login) { l.Name = "alice\u200b" },
		"right to left":        func(l *tenant.Login) { l.DisplayName = "\u202eecila" },
		"space around":         func(l *tenant.Login) { l.Name = " alice" },
		"not UTF-8":            func(l *tenant.Login) { l.Name = "alice\xff" },
		"very long":            func(l *tenant.Login) { l.Name = strings.Repeat("a", 1000) },
		"system project":       func(l *tenant.Login) { l.Memberships[0].Project.Name = "system:masters" },
		"role with line end":   func(l *tenant.Login) { l.Memberships[0].Roles = []string{"a\nb"} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bad := login()
			change(&bad)
			_, err := bad.User()
			refusal, refused := tenant.Refused(err)
			require.True(t, refused, "%v", err)
			assert.Equal(t, tenant.ReasonName, refusal.Reason)
		})
	}
}
