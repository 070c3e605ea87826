// SPDX-License-Identifier: Apache-2.0

package openstack_test

import (
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cloudveneto/caas/osnode/cloud"
	"github.com/cloudveneto/caas/osnode/openstack"
	"github.com/cloudveneto/caas/osnode/openstack/openstacktest"
)

func modes(modes ...string) setup {
	return setup{provider: func(r rig, p *openstack.Provider) {
		p.Owner.Modes = modes
		p.Owner.ApplicationCredentials = filepath.Join(filepath.Dir(r.password), "credentials")
	}}
}

func (r rig) writeCredential(t *testing.T, user, id, secret string) {
	t.Helper()
	directory := filepath.Join(filepath.Dir(r.password), "credentials", user)
	require.NoError(t, os.MkdirAll(directory, 0o700))
	text := "id: " + id + "\nsecret: " + secret + "\n"
	require.NoError(t, os.WriteFile(filepath.Join(directory, r.lab.QST+".yaml"), []byte(text), 0o600))
}

func TestAuthorize(t *testing.T) {
	t.Parallel()
	all := []string{openstack.ModeTrust, openstack.ModeApplicationCredential, openstack.ModeService}
	for name, test := range map[string]struct {
		modes   []string
		prepare func(t *testing.T, r rig)
		mode    string
		class   cloud.Class
	}{
		"trust":    {modes: all, mode: openstack.ModeTrust},
		"no trust": {modes: all[:1], prepare: func(_ *testing.T, r rig) { r.fake.DropTrusts(r.lab.Lisa) }, class: cloud.NoTrust},
		"expired trust": {modes: all[:1], prepare: func(_ *testing.T, r rig) {
			r.fake.DropTrusts(r.lab.Lisa)
			r.fake.AddTrust(r.lab.Lisa, r.lab.ServiceID, r.lab.QST, time.Now().Add(-time.Minute))
		}, class: cloud.NoTrust},
		"trust for another project": {modes: all[:1], prepare: func(_ *testing.T, r rig) {
			r.fake.DropTrusts(r.lab.Lisa)
			r.fake.AddTrust(r.lab.Lisa, r.lab.ServiceID, r.lab.CMS, time.Time{})
		}, class: cloud.NoTrust},
		"owner left the project": {modes: all[:1], prepare: func(_ *testing.T, r rig) {
			r.fake.Expel(r.lab.Lisa, r.lab.QST)
		}, class: cloud.OwnerAuthorizationLost},
		"wrong password": {modes: all[:1], prepare: func(t *testing.T, r rig) {
			require.NoError(t, os.WriteFile(r.password, []byte("wrong"), 0o600))
		}, class: cloud.CredentialsInvalid},
		"no password": {modes: all[:1], prepare: func(t *testing.T, r rig) {
			require.NoError(t, os.Remove(r.password))
		}, class: cloud.CredentialsInvalid},
		"application credential": {modes: all, prepare: func(t *testing.T, r rig) {
			r.fake.DropTrusts(r.lab.Lisa)
			id, secret := r.fake.AddSecret(r.lab.Lisa, r.lab.QST)
			r.writeCredential(t, r.lab.Lisa, id, secret)
		}, mode: openstack.ModeApplicationCredential},
		"another user's application credential": {modes: all[1:2], prepare: func(t *testing.T, r rig) {
			id, secret := r.fake.AddSecret(r.lab.Mallory, r.lab.QST)
			r.writeCredential(t, r.lab.Lisa, id, secret)
		}, class: cloud.OwnerAuthorizationLost},
		"refused application credential": {modes: all[1:2], prepare: func(t *testing.T, r rig) {
			r.writeCredential(t, r.lab.Lisa, "id", "secret")
		}, class: cloud.OwnerAuthorizationLost},
		"no application credential": {modes: all[1:2], class: cloud.NoTrust},
		"service as the last resort": {modes: all, prepare: func(_ *testing.T, r rig) {
			r.fake.DropTrusts(r.lab.Lisa)
		}, mode: openstack.ModeService},
		"service without a role": {modes: all[2:], prepare: func(_ *testing.T, r rig) {
			r.fake.Expel(r.lab.ServiceID, r.lab.QST)
		}, class: cloud.OwnerAuthorizationLost},
		"Keystone down": {modes: all, prepare: func(_ *testing.T, r rig) {
			r.faults.Add(openstacktest.Rule{
				Match: openstacktest.Match{Path: "/identity/"}, Answer: &openstacktest.Answer{Status: 503},
			})
		}, class: cloud.Unavailable},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, modes(test.modes...))
			if test.prepare != nil {
				test.prepare(t, r)
			}
			mode, err := r.Authorize(t.Context(), r.owner)
			assert.Equal(t, test.class, cloud.ClassOf(err), "%v", err)
			assert.Equal(t, test.mode, mode)
			if err != nil {
				assert.NotContains(t, err.Error(), "secret")
			}
		})
	}
}

func TestTrustWithoutTheNeededRole(t *testing.T) {
	t.Parallel()
	r := newRig(t, setup{provider: func(_ rig, p *openstack.Provider) { p.Owner.Roles = []string{"manager"} }})
	_, err := r.Authorize(t.Context(), r.owner)
	assert.True(t, cloud.Is(err, cloud.NoTrust), "%v", err)
	assert.ErrorContains(t, err, `"manager"`)
}

func TestTrustIsTakenBackAndGivenAgain(t *testing.T) {
	t.Parallel()
	r := newRig(t, setup{})
	request := r.request(t, "osn-01", "uid-1")
	_, err := r.Create(t.Context(), r.owner, request)
	require.NoError(t, err)

	r.fake.DropTrusts(r.lab.Lisa)
	_, err = r.Create(t.Context(), r.owner, r2(request, "osn-02", "uid-2"))
	assert.True(t, cloud.Is(err, cloud.NoTrust), "%v", err)
	servers := r.fake.Servers(r.lab.QST)
	require.Len(t, servers, 1)
	require.NoError(t, r.Delete(t.Context(), r.owner, servers[0].ID), "deleting needs no trust")

	r.fake.AddTrust(r.lab.Lisa, r.lab.ServiceID, r.lab.QST, time.Time{})
	_, err = r.Create(t.Context(), r.owner, r2(request, "osn-02", "uid-2"))
	require.NoError(t, err)
}

// TestServiceModeWhenAuthorizationIsLost: the next mode does what it is for in the same pass.
func TestServiceModeWhenAuthorizationIsLost(t *testing.T) {
	t.Parallel()
	for name, lose := range map[string]func(r rig){
		"left the project":    func(r rig) { r.fake.Expel(r.lab.Lisa, r.lab.QST) },
		"took the trust back": func(r rig) { r.fake.DropTrusts(r.lab.Lisa) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, modes(openstack.ModeTrust, openstack.ModeService))
			mode, err := r.Authorize(t.Context(), r.owner)
			require.NoError(t, err)
			require.Equal(t, openstack.ModeTrust, mode)
			lose(r)
			mode, err = r.Authorize(t.Context(), r.owner)
			require.NoError(t, err)
			assert.Equal(t, openstack.ModeService, mode)
		})
	}
}

// TestLoginSurvivesAnOutage: that Keystone has not confirmed an authorisation says nothing about it.
func TestLoginSurvivesAnOutage(t *testing.T) {
	t.Parallel()
	for status, class := range map[int]cloud.Class{429: cloud.Throttled, 503: cloud.Unavailable} {
		t.Run(strconv.Itoa(status), func(t *testing.T) {
			t.Parallel()
			r := newRig(t, setup{})
			request := r.request(t, "osn-01", "uid-1")
			_, err := r.Authorize(t.Context(), r.owner)
			require.NoError(t, err)
			logins := openstacktest.Match{Method: http.MethodPost, Path: "/auth/tokens"}
			remove := r.faults.Add(openstacktest.Rule{Match: logins, Answer: &openstacktest.Answer{Status: status}})
			_, err = r.Authorize(t.Context(), r.owner)
			require.Equal(t, class, cloud.ClassOf(err), "%v", err)
			remove()
			before := r.faults.Count(logins)
			_, err = r.Create(t.Context(), r.owner, request)
			require.NoError(t, err)
			assert.Equal(t, before, r.faults.Count(logins), "the token is still known")
		})
	}
}

// TestLongestRequest is that of the provider that may take longest.
func TestLongestRequest(t *testing.T) {
	t.Parallel()
	provider := func(id string, timeout time.Duration) openstack.Provider {
		return openstack.Provider{
			ID: id, AuthURL: "https://keystone.example.org:5000/v3", Regions: []string{"one"},
			Identity: openstack.Identity{UserName: "osnode", PasswordFile: "/dev/null"}, Timeout: metav1.Duration{Duration: timeout},
		}
	}
	for want, providers := range map[time.Duration][]openstack.Provider{
		2 * time.Minute: {provider("a", 0)},
		5 * time.Minute: {provider("a", 150*time.Second), provider("b", 0), provider("c", time.Second)},
	} {
		made, err := openstack.New(openstack.Config{Cluster: "test", Providers: providers})
		require.NoError(t, err)
		assert.Equal(t, want, made.LongestRequest())
		made.Close()
	}
}

// r2 is a request for another node.
func r2(request cloud.Request, name, uid string) cloud.Request {
	metadata := maps.Clone(request.Metadata)
	metadata["osn.infn.it:uid"] = uid
	request.Name, request.Metadata = name, metadata
	return request
}

func TestExpiredTokens(t *testing.T) {
	t.Parallel()
	r := newRig(t, setup{})
	_, err := r.Create(t.Context(), r.owner, r.request(t, "osn-01", "uid-1"))
	require.NoError(t, err)
	r.fake.RevokeTokens()
	found, err := r.Find(t.Context(), r.owner, "osn-01", "uid-1")
	require.NoError(t, err, "a new login is made")
	assert.Len(t, found, 1)
	_, err = r.Create(t.Context(), r.owner, r.request(t, "osn-02", "uid-2"))
	require.NoError(t, err)
	assert.Len(t, r.fake.Servers(r.lab.QST), 2)
}

func TestPasswordChanges(t *testing.T) {
	t.Parallel()
	r := newRig(t, setup{})
	_, err := r.Quota(t.Context(), r.owner)
	require.NoError(t, err)
	r.fake.SetPassword(r.lab.ServiceID, "new")
	r.fake.RevokeTokens()
	_, err = r.Quota(t.Context(), r.owner)
	assert.True(t, cloud.Is(err, cloud.CredentialsInvalid), "%v", err)
	require.NoError(t, os.WriteFile(r.password, []byte("new\n"), 0o600))
	_, err = r.Quota(t.Context(), r.owner)
	assert.NoError(t, err, "the file is read at each login")
}

func TestServiceRefusedEvenAfterANewLogin(t *testing.T) {
	t.Parallel()
	r := newRig(t, setup{})
	r.faults.Add(openstacktest.Rule{
		Match: openstacktest.Match{Path: "/compute/"}, Answer: &openstacktest.Answer{Status: 401},
	})
	_, err := r.Quota(t.Context(), r.owner)
	assert.True(t, cloud.Is(err, cloud.CredentialsInvalid), "%v", err)
	assert.Equal(t, 2, r.faults.Count(openstacktest.Match{Path: "/limits"}), "one new login, one more try")
}

func TestServiceModeCopiesKeyPairs(t *testing.T) {
	t.Parallel()
	r := newRig(t, modes(openstack.ModeService))
	wanted := cloud.Wanted{Flavor: r.lab.Medium, ImageName: r.lab.Image, KeyPair: "Lisa"}
	_, err := r.Resolve(t.Context(), r.owner, wanted)
	assert.True(t, cloud.Is(err, cloud.InvalidSpec), "another's key pair takes an administrator: %v", err)

	r.fake.Grant(r.lab.ServiceID, r.lab.QST, "admin")
	r.fake.RevokeTokens()
	made, err := r.Create(t.Context(), r.owner, r.request(t, "osn-01", "uid-1"))
	require.NoError(t, err)
	assert.Equal(t, r.lab.ServiceID, made.UserID)
	assert.Contains(t, r.fake.Servers(r.lab.QST)[0].Key, "osn-")
}

// TestOwnerWhoLeavesAfterLogin is noticed before the next machine is made, although
// services remember his token for minutes.
func TestOwnerWhoLeavesAfterLogin(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{openstack.ModeTrust, openstack.ModeApplicationCredential} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, modes(mode))
			id, secret := r.fake.AddSecret(r.lab.Lisa, r.lab.QST)
			r.writeCredential(t, r.lab.Lisa, id, secret)
			_, err := r.Authorize(t.Context(), r.owner)
			require.NoError(t, err)
			r.fake.Expel(r.lab.Lisa, r.lab.QST)
			_, err = r.Authorize(t.Context(), r.owner)
			assert.Equal(t, cloud.OwnerAuthorizationLost, cloud.ClassOf(err), "%v", err)
		})
	}
}
