// SPDX-License-Identifier: Apache-2.0

package identity_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/cloudveneto/caas/multitenancy/login/identity"
)

// world is somebody with an account at a Keystone.
type world struct {
	user     string
	password identity.Secret
	projects []string
	// trustee is another user's id.
	trustee string
}

func (w world) credential() identity.Credential {
	return identity.Credential{UserName: w.user, Password: w.password}
}

// conform is what the stand-in has to do like the real Keystone.
func conform(t *testing.T, client *identity.Client, w world) {
	t.Helper()
	conformLogin(t, client, w)
	conformCredential(t, client, w)
	conformTrust(t, client, w)
}

func conformLogin(t *testing.T, client *identity.Client, w world) {
	t.Helper()
	ctx := t.Context()
	home, err := client.Login(ctx, w.credential(), identity.Scope{})
	require.NoError(t, err)
	assert.Equal(t, w.user, home.User.Name)
	assert.NotEmpty(t, home.User.ID)
	assert.Empty(t, home.Project.ID)
	projects, err := client.Projects(ctx, home.Value)
	require.NoError(t, err)
	var names []string
	for _, one := range projects {
		names = append(names, one.Name)
	}
	assert.ElementsMatch(t, w.projects, names)

	// A token for a project outlives the one that it was made with.
	scoped, err := client.Login(ctx, identity.Credential{Token: home.Value}, identity.Scope{ProjectID: projects[0].ID})
	require.NoError(t, err)
	assert.Equal(t, projects[0].Name, scoped.Project.Name)
	assert.Contains(t, scoped.Roles, "member")
	assert.WithinDuration(t, home.Expires, scoped.Expires, 5*time.Second)
	require.NoError(t, client.Revoke(ctx, home.Value))
	_, err = client.Inspect(ctx, home.Value)
	assert.True(t, identity.Is(err, identity.Unauthorized), "%v", err)
	seen, err := client.Inspect(ctx, scoped.Value)
	require.NoError(t, err)
	assert.Equal(t, scoped.User, seen.User)
	require.NoError(t, client.Revoke(ctx, scoped.Value))
	require.NoError(t, client.Revoke(ctx, scoped.Value), "twice is once")

	byName, err := client.Login(ctx, w.credential(), identity.Scope{ProjectName: w.projects[0], DomainName: "Default"})
	require.NoError(t, err)
	assert.Equal(t, w.projects[0], byName.Project.Name)

	wrong := w.credential()
	wrong.Password = "wrong"
	_, err = client.Login(ctx, wrong, identity.Scope{})
	assert.True(t, identity.Is(err, identity.Unauthorized), "%v", err)
	_, err = client.Login(ctx, w.credential(), identity.Scope{ProjectName: "nowhere"})
	assert.True(t, identity.Is(err, identity.Unauthorized), "%v", err)
}

func conformCredential(t *testing.T, client *identity.Client, w world) {
	t.Helper()
	ctx := t.Context()
	token, err := client.Login(ctx, w.credential(), identity.Scope{ProjectName: w.projects[0]})
	require.NoError(t, err)
	wanted := identity.NewApplicationCredential{Name: "kubectl-test", Roles: []string{"member"}, Expires: time.Now().Add(time.Hour)}
	made, err := client.CreateApplicationCredential(ctx, token, wanted)
	require.NoError(t, err)
	_, err = client.CreateApplicationCredential(ctx, token, wanted)
	assert.True(t, identity.Is(err, identity.Conflict), "%v", err)

	key := identity.Credential{ApplicationCredentialID: made.ID, ApplicationCredentialKey: made.Secret}
	delegated, err := client.Login(ctx, key, identity.Scope{})
	require.NoError(t, err)
	assert.Equal(t, []string{"member"}, delegated.Roles)
	assert.Equal(t, token.Project, delegated.Project)
	assert.Equal(t, made.ID, delegated.ApplicationCredentialID)
	// It can make nothing that outlives it.
	_, err = client.CreateApplicationCredential(ctx, delegated, identity.NewApplicationCredential{Name: "more", Roles: []string{"member"}, Expires: wanted.Expires})
	assert.True(t, identity.Is(err, identity.Forbidden), "%v", err)
	_, err = client.CreateTrust(ctx, delegated, w.trustee, []string{"member"}, wanted.Expires)
	assert.True(t, identity.Is(err, identity.Forbidden), "%v", err)
	assert.True(t, identity.Is(client.DeleteApplicationCredential(ctx, delegated, made.ID), identity.Forbidden))

	require.NoError(t, client.DeleteApplicationCredential(ctx, token, made.ID))
	require.NoError(t, client.DeleteApplicationCredential(ctx, token, made.ID), "twice is once")
	_, err = client.Login(ctx, key, identity.Scope{})
	assert.True(t, identity.Is(err, identity.Unauthorized), "%v", err)
	_, err = client.Inspect(ctx, delegated.Value)
	assert.True(t, identity.Is(err, identity.Unauthorized), "its tokens end with it: %v", err)
}

func conformTrust(t *testing.T, client *identity.Client, w world) {
	t.Helper()
	ctx := t.Context()
	token, err := client.Login(ctx, w.credential(), identity.Scope{ProjectName: w.projects[0]})
	require.NoError(t, err)
	soon, late := time.Now().Add(time.Hour).Truncate(time.Second), time.Now().Add(9*time.Hour).Truncate(time.Second)
	for _, expires := range []time.Time{soon, late} {
		made, err := client.CreateTrust(ctx, token, w.trustee, []string{"member"}, expires)
		require.NoError(t, err)
		assert.True(t, made.Impersonation)
		assert.True(t, expires.Equal(made.Expires), "%s", made.Expires)
	}
	trusts, err := client.Trusts(ctx, token, w.trustee)
	require.NoError(t, err)
	require.Len(t, trusts, 2)
	assert.True(t, late.Equal(trusts[0].Expires), "%s", trusts[0].Expires)
	one, err := client.Trust(ctx, token, trusts[0].ID)
	require.NoError(t, err)
	assert.Equal(t, []string{"member"}, one.Roles)
	assert.Equal(t, w.trustee, one.TrusteeID)
	assert.Equal(t, token.User.ID, one.TrustorID)
	assert.Equal(t, token.Project.ID, one.ProjectID)

	elsewhere, err := client.Login(ctx, w.credential(), identity.Scope{ProjectName: w.projects[1]})
	require.NoError(t, err)
	none, err := client.Trusts(ctx, elsewhere, w.trustee)
	require.NoError(t, err)
	assert.Empty(t, none, "that is another project")
	_, err = client.CreateTrust(ctx, token, w.trustee, []string{"nonesuch"}, late)
	require.Error(t, err)
	for _, trust := range trusts {
		require.NoError(t, client.DeleteTrust(ctx, token, trust.ID))
		require.NoError(t, client.DeleteTrust(ctx, token, trust.ID), "twice is once")
	}
	trusts, err = client.Trusts(ctx, token, w.trustee)
	require.NoError(t, err)
	assert.Empty(t, trusts)
}
