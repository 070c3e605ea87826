// SPDX-License-Identifier: Apache-2.0

package login_test

import (
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/cloudveneto/caas/multitenancy/login"
	"github.com/cloudveneto/caas/multitenancy/login/clouds"
	"github.com/cloudveneto/caas/multitenancy/login/identity"
	"github.com/cloudveneto/caas/multitenancy/login/identitytest"
)

const secret = "correct-horse-battery"

// people have a Keystone, which the second result makes refuse to list trusts.
func people(t *testing.T) (server *identitytest.Server, address string, broken *atomic.Bool) {
	t.Helper()
	server, broken = identitytest.Start(t), &atomic.Bool{}
	server.AddProject(identitytest.Project{ID: "1111", Name: "CMS", Namespace: "cms"})
	for _, name := range []string{"ann", "bob"} {
		server.AddUser(identitytest.User{ID: name + "-id", Name: name, Password: secret, Roles: map[string][]string{"CMS": {"member"}}})
	}
	target, err := url.Parse(server.URL)
	require.NoError(t, err)
	forward := httputil.NewSingleHostReverseProxy(target)
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if broken.Load() && strings.HasPrefix(r.URL.Path, "/v3/OS-TRUST/") {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		forward.ServeHTTP(w, r)
	}))
	t.Cleanup(front.Close)
	return server, front.URL, broken
}

// run is one run of the program in a home.
func run(t *testing.T, home, address string, variables map[string]string, args ...string) (string, error) {
	t.Helper()
	var out, notes strings.Builder
	app := login.App{
		Out: &out, Err: &notes, Terminal: nobody{}, Executable: "kubectl-openstack", Host: "host", Now: time.Now,
		Environment: clouds.Environment{Home: home, WorkDir: home, Lookup: func(name string) (string, bool) {
			value, known := variables[name]
			return value, known
		}},
		Defaults: login.Site{Server: address, AuthURL: address, Secrets: "file", Trustee: login.Trustee{ID: "trustee"}},
	}
	err := app.Run(t.Context(), args)
	return out.String(), err
}

func TestLogoutThatFailsLeavesNoToken(t *testing.T) {
	t.Parallel()
	server, address, broken := people(t)
	home, ann := t.TempDir(), map[string]string{"OS_USERNAME": "ann", "OS_PASSWORD": secret}
	_, err := run(t, home, address, ann, "-exec", "-yes")
	require.NoError(t, err)
	require.Len(t, server.Trusts(), 1)
	before := len(server.Valid())
	broken.Store(true)
	_, err = run(t, home, address, ann, "logout")
	require.ErrorContains(t, err, "has trouble")
	assert.Len(t, server.Valid(), before, "the tokens that it got for itself are revoked")
	broken.Store(false)
	out, err := run(t, home, address, ann, "logout")
	require.NoError(t, err)
	assert.Equal(t, "logged out of CMS\n", out)
	assert.Empty(t, server.Trusts())
	assert.Empty(t, server.Valid())
}

func TestTokensOfSeveralUsersAreNotConfused(t *testing.T) {
	t.Parallel()
	_, address, _ := people(t)
	client, err := identity.New(identity.Config{AuthURL: address})
	require.NoError(t, err)
	home := t.TempDir()
	for _, name := range []string{"ann", "bob"} {
		own, err := client.Login(t.Context(), identity.Credential{UserName: name, Password: secret}, identity.Scope{})
		require.NoError(t, err)
		out, err := run(t, home, address, map[string]string{
			"OS_AUTH_TYPE": "v3token", "OS_TOKEN": string(own.Value), "OS_PROJECT_NAME": "CMS",
		}, "get-token")
		require.NoError(t, err)
		got, err := client.Inspect(t.Context(), identity.Secret(token(t, out)))
		require.NoError(t, err)
		assert.Equal(t, name, got.User.Name)
	}
}
