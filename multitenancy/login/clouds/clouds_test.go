// SPDX-License-Identifier: Apache-2.0

package clouds_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/cloudveneto/caas/multitenancy/login/clouds"
	"github.com/cloudveneto/caas/multitenancy/login/identity"
)

func environment(t *testing.T, values map[string]string) clouds.Environment {
	t.Helper()
	return clouds.Environment{
		Lookup: func(name string) (string, bool) { value, set := values[name]; return value, set },
		Home:   t.TempDir(), WorkDir: t.TempDir(),
	}
}

const file = `
clouds:
  caas:
    auth:
      auth_url: https://keystone:5000/v3
      application_credential_id: id
    auth_type: v3applicationcredential
    cacert: ca.pem
    region_name: regionOne
    something_else: {a: b}
  person:
    auth: {auth_url: https://keystone:5000, username: zangrand, project_name: CMS, user_domain_name: infn, project_domain_id: p}
  careless:
    verify: false
    auth: {auth_url: https://keystone:5000}
  odd:
    auth_type: v3kerberos
  wrong: [1]
`

func TestVariables(t *testing.T) {
	t.Parallel()
	got, err := clouds.Load(environment(t, map[string]string{
		"OS_AUTH_URL": "https://keystone", "OS_USERNAME": "zangrand", "OS_PASSWORD": "hush", "OS_TENANT_NAME": "CMS",
		"OS_USER_DOMAIN_NAME": "infn", "OS_PROJECT_DOMAIN_ID": "default", "OS_CACERT": "/ca", "OS_TOKEN": "not asked for",
	}), "")
	require.NoError(t, err)
	assert.Equal(t, clouds.Settings{
		AuthURL: "https://keystone", CAFile: "/ca",
		Credential: identity.Credential{UserName: "zangrand", DomainName: "infn", Password: "hush"},
		Scope:      identity.Scope{ProjectName: "CMS", DomainID: "default"},
	}, got)
}

func TestFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "clouds.yaml")
	require.NoError(t, os.WriteFile(path, []byte(file), 0o600))
	secure := filepath.Join(dir, "secure.yaml")
	require.NoError(t, os.WriteFile(secure, []byte("clouds: {caas: {auth: {application_credential_secret: hush}}}"), 0o600))
	values := map[string]string{"OS_CLIENT_CONFIG_FILE": path, "OS_CLIENT_SECURE_FILE": secure, "OS_CLOUD": "caas", "OS_PASSWORD": "typed", "OS_USERNAME": "another"}
	got, err := clouds.Load(environment(t, values), "")
	require.NoError(t, err)
	assert.Equal(t, clouds.Settings{
		AuthURL: "https://keystone:5000/v3", CAFile: filepath.Join(dir, "ca.pem"),
		Credential: identity.Credential{ApplicationCredentialID: "id", ApplicationCredentialKey: "hush"},
	}, got)
	assert.True(t, got.Credential.Complete())

	got, err = clouds.Load(environment(t, values), "person")
	require.NoError(t, err)
	assert.Equal(t, identity.Credential{UserName: "zangrand", DomainName: "infn", Password: "typed"}, got.Credential, "the password may be a variable")
	assert.Equal(t, identity.Scope{ProjectName: "CMS", DomainID: "p"}, got.Scope)

	for cloud, says := range map[string]string{
		"missing":  "has no cloud \"missing\"; it has caas, careless, odd, person, wrong",
		"careless": "verify: false",
		"odd":      "auth_type \"v3kerberos\"",
		"wrong":    "values of the wrong form",
	} {
		_, err := clouds.Load(environment(t, values), cloud)
		require.ErrorContains(t, err, says)
	}
}

func TestPlaces(t *testing.T) {
	t.Parallel()
	here := environment(t, nil)
	_, err := clouds.Load(here, "caas")
	require.ErrorContains(t, err, "there is no clouds.yaml")
	write := func(path, url string) {
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o700))
		require.NoError(t, os.WriteFile(path, []byte("clouds: {caas: {auth: {auth_url: \""+url+"\"}}}"), 0o600))
	}
	write(filepath.Join(here.Home, ".config", "openstack", "clouds.yaml"), "https://home")
	got, err := clouds.Load(here, "caas")
	require.NoError(t, err)
	assert.Equal(t, "https://home", got.AuthURL)
	write(filepath.Join(here.WorkDir, "clouds.yaml"), "https://here")
	got, err = clouds.Load(here, "caas")
	require.NoError(t, err)
	assert.Equal(t, "https://here", got.AuthURL)

	_, err = clouds.Load(environment(t, map[string]string{"OS_CLIENT_CONFIG_FILE": "/nonexistent"}), "caas")
	require.ErrorContains(t, err, "/nonexistent")
	require.NoError(t, os.WriteFile(filepath.Join(here.WorkDir, "clouds.yaml"), []byte("clouds: [hush"), 0o600))
	_, err = clouds.Load(here, "caas")
	require.ErrorContains(t, err, "is not a file of clouds")
	assert.NotContains(t, err.Error(), "hush")
}
