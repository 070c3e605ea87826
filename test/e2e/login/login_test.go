// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package login_test

import (
	"encoding/json"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/cloudveneto/caas/internal/lab/openstack"
	"github.com/cloudveneto/caas/multitenancy/login/identity"
)

func TestLogin(t *testing.T) {
	w := theWorld(t)
	t.Run("guide", w.testGuide)
	t.Run("mistakes", w.testMistakes)
	t.Run("renewal", w.testRenewal)
}

const noPods = "No resources found in cms namespace.\n"

// testGuide does what the user guide says, word for word.
func (w *world) testGuide(t *testing.T) {
	u := w.user(t, openstack.Zangrand)
	got := u.run(t, "", u.program, "-user="+u.name, "-password="+u.password, "-project=CMS")
	require.Zero(t, got.code, got.err)
	assert.Equal(t, "kubectl configured correctly\n", got.out)
	assert.Contains(t, got.err, "OSNodes cannot be created yet")
	u.withoutPassword(t)
	pods := u.kubectl(t, "get", "pods")
	assert.Equal(t, noPods, pods.err)
	assert.Empty(t, pods.out)

	// The second project, by kubectl itself, with the right to make machines.
	got = u.run(t, u.password, u.lab.Kubectl(), "openstack", "-user="+u.name, "-password-stdin", "-project=QST", "-yes")
	require.Zero(t, got.code, got.err)
	assert.Equal(t, "kubectl configured correctly\n", got.out)
	assert.Equal(t, "No resources found in qst namespace.\n", u.kubectl(t, "get", "pods").err)
	assert.Equal(t, noPods, u.kubectl(t, "--context=cloudveneto-cms", "get", "pods").err)
	require.Len(t, u.trusts(t), 1)
	u.works(t, u.trusts(t)[0].ID)
	require.Zero(t, u.login(t, "-project=QST", "-yes").code)
	assert.Len(t, u.trusts(t), 1, "no second one")

	// What is one's own can be made and seen; whose it is, the platform says.
	u.kubectl(t, "create", "configmap", "mine")
	assert.Contains(t, u.kubectl(t, "get", "configmaps").out, "mine")
	assert.Regexp(t, `(?m)^Namespace: +qst$`, u.run(t, "", u.program, "whoami").out)
	assert.Regexp(t, `(?m)^\*cloudveneto-qst +QST +`+u.name+` +token +valid +\S+ \S+ +20\S+$`, u.run(t, "", u.program, "status").out)
	u.kubectl(t, "delete", "configmap", "mine")

	tokens := u.tokens(t)
	require.Len(t, tokens, 2)
	out := u.run(t, "", u.program, "logout")
	require.Zero(t, out.code, out.err)
	assert.Empty(t, u.trusts(t))
	for _, token := range tokens {
		u.invalid(t, token)
	}
	assert.NotZero(t, u.run(t, "", u.lab.Kubectl(), "get", "pods").code)
}

func (w *world) testMistakes(t *testing.T) {
	u := w.user(t, openstack.Lisa)
	got := u.run(t, "wrong", u.program, "-user="+u.name, "-password-stdin", "-project=QST")
	assert.Equal(t, 3, got.code, got.err)
	assert.Contains(t, got.err, "does not accept the user name and password")
	got = u.login(t, "-project=CMS")
	assert.Equal(t, 4, got.code, got.err)
	assert.Contains(t, got.err, `you are in no project "CMS"; your projects are QST`)
	got = u.login(t, "-project=QST", "-auth-ca="+filepath.Join(u.home, ".config", "kubectl-openstack", "config.yaml"))
	assert.Equal(t, 6, got.code, got.err)
	assert.NoFileExists(t, filepath.Join(u.home, ".kube", "config"))
	for _, text := range []string{got.out, got.err} {
		assert.NotContains(t, text, u.password)
	}
}

// testRenewal is for people who do not want to log in each hour.
func (w *world) testRenewal(t *testing.T) {
	u := w.user(t, openstack.Zangrand)
	got := u.login(t, "-project=CMS", "-exec", "-yes")
	require.Zero(t, got.code, got.err)
	assert.Equal(t, noPods, u.kubectl(t, "get", "pods").err)
	u.withoutPassword(t)
	require.Len(t, u.credentials(t), 1)
	first := u.cached(t)
	assert.Equal(t, noPods, u.kubectl(t, "get", "pods").err)
	assert.Equal(t, first, u.cached(t), "the token is good for more than one command")

	// The token ends, and kubectl goes on without anybody being asked: the one after the refusal at the latest.
	require.NoError(t, w.keystone.Revoke(t.Context(), first))
	u.age(t)
	assert.Equal(t, noPods, u.kubectl(t, "get", "pods").err)
	second := u.cached(t)
	assert.NotEqual(t, first, second)

	// Without the password a logout says what it cannot take back; with it, nothing is left.
	got = u.run(t, u.password, u.program, "logout", "-password-stdin", "-purge")
	require.Zero(t, got.code, got.err)
	assert.Empty(t, u.credentials(t))
	assert.Empty(t, u.trusts(t))
	u.invalid(t, second)
	text, err := os.ReadFile(filepath.Join(u.home, ".kube", "config"))
	require.NoError(t, err)
	assert.NotContains(t, string(text), "cloudveneto")
}

// cached is the token that the program has kept.
func (u *user) cached(t *testing.T) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(u.home, ".kube", "cache", "openstack", "*.json"))
	require.NoError(t, err)
	require.Len(t, files, 1)
	text, err := os.ReadFile(files[0])
	require.NoError(t, err)
	var kept struct{ Token string }
	require.NoError(t, json.Unmarshal(text, &kept))
	require.NotEmpty(t, kept.Token)
	return kept.Token
}

// age makes the kept token one that has expired.
func (u *user) age(t *testing.T) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(u.home, ".kube", "cache", "openstack", "*.json"))
	require.NoError(t, err)
	require.Len(t, files, 1)
	text, err := os.ReadFile(files[0])
	require.NoError(t, err)
	var kept map[string]any
	require.NoError(t, json.Unmarshal(text, &kept))
	kept["issued"], kept["expires"] = "2026-01-01T00:00:00Z", "2026-01-01T01:00:00Z"
	text, err = json.Marshal(kept)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(files[0], text, 0o600))
}

// tokens are those in the kubeconfig.
func (u *user) tokens(t *testing.T) []string {
	t.Helper()
	text := u.kubectl(t, "config", "view", "--raw", "-o", "jsonpath={.users[*].user.token}").out
	return strings.Fields(text)
}

// invalid makes sure that Keystone does not know a token any more.
func (u *user) invalid(t *testing.T, token string) {
	t.Helper()
	ca, err := os.ReadFile(u.lab.KeystoneCA())
	require.NoError(t, err)
	client, err := identity.New(identity.Config{AuthURL: u.lab.KeystoneURL(), CA: ca})
	require.NoError(t, err)
	_, err = client.Inspect(t.Context(), identity.Secret(token))
	assert.True(t, identity.Is(err, identity.Unauthorized), "%v", err)
}

type trust struct {
	ID            string
	Trustor       string `json:"trustor_user_id"`
	Trustee       string `json:"trustee_user_id"`
	Impersonation bool
}

// trusts are the user's.
func (u *user) trusts(t *testing.T) []trust {
	t.Helper()
	me, err := u.keystone.User(u.name)
	require.NoError(t, err)
	var answer struct{ Trusts []trust }
	require.NoError(t, u.admin.Do(t.Context(), http.MethodGet, "identity", "/OS-TRUST/trusts", nil, &answer))
	var found []trust
	for _, one := range answer.Trusts {
		if one.Trustor == me.ID && one.Trustee == u.trustee.ID {
			found = append(found, one)
		}
	}
	return found
}

// works makes sure that the platform can use a trust as the user.
func (u *user) works(t *testing.T, id string) {
	t.Helper()
	me, err := u.keystone.User(u.name)
	require.NoError(t, err)
	session, err := u.keystone.LoginTrust(t.Context(), id)
	require.NoError(t, err)
	assert.Equal(t, me.ID, session.UserID)
}

// credentials are the user's application credentials.
func (u *user) credentials(t *testing.T) []string {
	t.Helper()
	me, err := u.keystone.User(u.name)
	require.NoError(t, err)
	var answer struct {
		All []struct{ Name string } `json:"application_credentials"`
	}
	require.NoError(t, u.admin.Do(t.Context(), http.MethodGet, "identity", "/users/"+me.ID+"/application_credentials", nil, &answer))
	var names []string
	for _, one := range answer.All {
		names = append(names, one.Name)
	}
	return names
}

// withoutPassword makes sure that no file of the user's home has the password.
func (u *user) withoutPassword(t *testing.T) {
	t.Helper()
	require.NoError(t, filepath.WalkDir(u.home, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		assert.NotContains(t, string(text), u.password, path)
		return err
	}))
}
