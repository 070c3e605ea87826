// SPDX-License-Identifier: Apache-2.0

//go:build integration

package keystone_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"maps"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/cloudveneto/caas/internal/lab/openstack"
	"github.com/cloudveneto/caas/internal/lab/openstack/openstacktest"
	"github.com/cloudveneto/caas/multitenancy/keystone"
	"github.com/cloudveneto/caas/multitenancy/keystone/keystonetest"
	"github.com/cloudveneto/caas/multitenancy/tenant"
)

type object = keystonetest.Object

// startSite runs a real OpenStack, of which only Keystone is used.
func startSite(t *testing.T) *openstack.Site {
	t.Helper()
	openstacktest.Require(t, openstack.Hook)
	return openstacktest.Start(t, openstack.Config{})
}

// running is a Keystone with its administrator.
type running struct {
	*openstack.Site
	t     *testing.T
	admin *openstack.Session
}

func (r *running) verifier(change func(*keystone.Config)) *keystone.Verifier {
	r.t.Helper()
	cfg := keystone.Config{
		AuthURL: r.AuthURL(), InsecureHTTP: true, Transport: r.Transport(),
		// Nothing is remembered, so that each question shows what Keystone says at that moment.
		Limits: keystone.Limits{PositiveTTL: new(time.Duration(0)), NegativeTTL: new(time.Duration(0)), Timeout: 20 * time.Second},
	}
	if change != nil {
		change(&cfg)
	}
	v, err := keystone.New(cfg)
	require.NoError(r.t, err)
	return v
}

// asService has tokens asked about by a user who may.
func (r *running) asService(c *keystone.Config) {
	c.Service = &keystone.Credential{UserName: "admin", Project: "admin", Password: func() (string, error) { return r.Password("admin") }}
}

// authenticate asks for a token in a way of the test's own.
func (r *running) authenticate(auth object) string {
	r.t.Helper()
	return r.post("/auth/tokens", object{"auth": auth}, "")
}

func (r *running) post(path string, body object, token string) string {
	r.t.Helper()
	data, err := json.Marshal(body)
	require.NoError(r.t, err)
	request, err := http.NewRequestWithContext(r.t.Context(), http.MethodPost, r.AuthURL()+path, bytes.NewReader(data))
	require.NoError(r.t, err)
	request.Header.Set("Content-Type", "application/json")
	if token != "" {
		request.Header.Set("X-Auth-Token", token)
	}
	answer, err := (&http.Client{Transport: r.Transport(), Timeout: time.Minute}).Do(request)
	require.NoError(r.t, err)
	defer answer.Body.Close()
	if answer.StatusCode/100 != 2 {
		var said bytes.Buffer
		_, _ = said.ReadFrom(answer.Body)
		r.t.Logf("POST %s: %s: %s", path, answer.Status, said.String())
		return ""
	}
	return answer.Header.Get("X-Subject-Token")
}

func (r *running) do(session *openstack.Session, method, path string, in, out any) {
	r.t.Helper()
	require.NoError(r.t, session.Do(r.t.Context(), method, "identity", path, in, out))
}

func (r *running) login(user, project string) *openstack.Session {
	r.t.Helper()
	session, err := r.Login(r.t.Context(), user, project)
	require.NoError(r.t, err)
	return session
}

func (r *running) password(user string) object {
	r.t.Helper()
	secret, err := r.Password(user)
	require.NoError(r.t, err)
	return object{"methods": []string{"password"}, "password": object{"user": object{
		"name": user, "domain": object{"id": "default"}, "password": secret,
	}}}
}

func (r *running) roleID(name string) string {
	r.t.Helper()
	var answer struct{ Roles []struct{ ID string } }
	r.do(r.admin, http.MethodGet, "/roles?name="+name, nil, &answer)
	require.Len(r.t, answer.Roles, 1)
	return answer.Roles[0].ID
}

// conform is what the stand-in has to do like the real one.
func conform(t *testing.T, v *keystone.Verifier, good string, revoke func()) {
	t.Helper()
	got, err := v.Verify(t.Context(), good)
	require.NoError(t, err)
	assert.Equal(t, "zangrand@infn.it", got.Name)
	assert.Equal(t, "Default", got.Domain)
	assert.Len(t, got.UID, 32)
	assert.Equal(t, got.UID, got.Owner)
	assert.NotEmpty(t, got.TokenID)
	assert.True(t, got.Expires.After(time.Now()))
	require.Len(t, got.Memberships, 1)
	assert.Equal(t, "CMS", got.Memberships[0].Project.Name)
	assert.Equal(t, "Default", got.Memberships[0].Domain)
	assert.Contains(t, got.Memberships[0].Roles, "member")
	user, err := got.User()
	require.NoError(t, err)
	assert.True(t, tenant.IdentityOf(user).MemberOf(got.Memberships[0].Project.ID))

	for name, token := range map[string]string{"made up": keystonetest.Fernet(), "cut": good[:len(good)-4], "empty": "x"} {
		_, err := v.Verify(t.Context(), token)
		assert.Equal(t, keystone.ReasonUnknown, reason(err), "%s: %v", name, err)
	}
	revoke()
	_, err = v.Verify(t.Context(), good)
	assert.Equal(t, keystone.ReasonUnknown, reason(err), "revoked: %v", err)
}

func TestIntegrationStandInConforms(t *testing.T) {
	server := keystonetest.Start(t)
	token := keystonetest.Fernet()
	server.Add(token, keystonetest.Token())
	v := verifier(t, server, func(c *keystone.Config) { c.Limits.PositiveTTL = new(time.Duration(0)) })
	conform(t, v, token, func() { server.Revoke(token) })
}

func TestIntegrationKeystone(t *testing.T) {
	site := startSite(t)
	admin, err := site.Admin(t.Context())
	require.NoError(t, err)
	r := func(t *testing.T) *running { return &running{Site: site, t: t, admin: admin} }

	t.Run("conforms", func(t *testing.T) {
		session := r(t).login(openstack.Zangrand, openstack.CMS)
		conform(t, r(t).verifier(nil), session.Token, func() { revoke(r(t), session.Token) })
	})
	t.Run("conforms with a service user", func(t *testing.T) {
		session := r(t).login(openstack.Zangrand, openstack.CMS)
		conform(t, r(t).verifier(r(t).asService), session.Token, func() { revoke(r(t), session.Token) })
	})
	t.Run("scopes", func(t *testing.T) { testScopes(r(t)) })
	t.Run("trust", func(t *testing.T) { testTrust(r(t)) })
	t.Run("application credentials", func(t *testing.T) { testApplicationCredentials(r(t)) })
	t.Run("membership ends", func(t *testing.T) { testMembershipEnds(r(t)) })
	t.Run("hostile names", func(t *testing.T) { testHostileNames(r(t)) })
	t.Run("second domain", func(t *testing.T) { testSecondDomain(r(t)) })
	t.Run("projects", func(t *testing.T) { testProjects(r(t)) })
	t.Run("parallel", func(t *testing.T) { testParallel(r(t)) })
	t.Run("ec2 credentials", func(t *testing.T) { testEC2(r(t)) })
}

func revoke(r *running, token string) {
	r.t.Helper()
	request, err := http.NewRequestWithContext(r.t.Context(), http.MethodDelete, r.AuthURL()+"/auth/tokens", http.NoBody)
	require.NoError(r.t, err)
	request.Header.Set("X-Auth-Token", r.admin.Token)
	request.Header.Set("X-Subject-Token", token)
	answer, err := (&http.Client{Transport: r.Transport(), Timeout: time.Minute}).Do(request)
	require.NoError(r.t, err)
	require.NoError(r.t, answer.Body.Close())
	require.Equal(r.t, http.StatusNoContent, answer.StatusCode)
}

func testScopes(r *running) {
	v := r.verifier(nil)
	_, err := v.Verify(r.t.Context(), r.login(openstack.Zangrand, "").Token)
	assert.Equal(r.t, keystone.ReasonScope, reason(err), "unscoped: %v", err)

	r.do(r.admin, http.MethodPut, "/domains/default/users/"+r.admin.UserID+"/roles/"+r.roleID("admin"), nil, nil)
	r.do(r.admin, http.MethodPut, "/system/users/"+r.admin.UserID+"/roles/"+r.roleID("admin"), nil, nil)
	for name, scope := range map[string]object{
		"domain": {"domain": object{"id": "default"}}, "system": {"system": object{"all": true}},
	} {
		token := r.authenticate(object{"identity": r.password("admin"), "scope": scope})
		require.NotEmpty(r.t, token, name)
		_, err := v.Verify(r.t.Context(), token)
		assert.Equal(r.t, keystone.ReasonScope, reason(err), "%s: %v", name, err)
	}
	// Its administrator has no role that is asked for.
	_, err = r.verifier(func(c *keystone.Config) { c.Rules.Roles = []string{"caas"} }).Verify(r.t.Context(), r.admin.Token)
	assert.Equal(r.t, keystone.ReasonRole, reason(err), "%v", err)
}

func testTrust(r *running) {
	id, err := r.Trust(r.t.Context(), openstack.Zangrand, openstack.CMS)
	require.NoError(r.t, err)
	session, err := r.LoginTrust(r.t.Context(), id)
	require.NoError(r.t, err)
	// Keystone's own policy does not let such tokens be asked about with themselves.
	_, err = r.verifier(nil).Verify(r.t.Context(), session.Token)
	assert.Equal(r.t, keystone.ReasonForbidden, reason(err), "%v", err)
	_, err = r.verifier(r.asService).Verify(r.t.Context(), session.Token)
	assert.Equal(r.t, keystone.ReasonTrust, reason(err), "%v", err)
	got, err := r.verifier(func(c *keystone.Config) {
		r.asService(c)
		c.Rules.Trusts = true
	}).Verify(r.t.Context(), session.Token)
	require.NoError(r.t, err)
	assert.Equal(r.t, openstack.Zangrand, got.DisplayName)
}

func testApplicationCredentials(r *running) {
	session := r.login(openstack.Zangrand, openstack.CMS)
	token := func(name string, more object) string {
		credential := object{"name": name, "roles": []object{{"name": "member"}}}
		maps.Copy(credential, more)
		var made struct {
			Credential struct{ ID, Secret string } `json:"application_credential"`
		}
		r.do(session, http.MethodPost, "/users/"+session.UserID+"/application_credentials", object{"application_credential": credential}, &made)
		return r.authenticate(object{"identity": object{
			"methods":                []string{"application_credential"},
			"application_credential": object{"id": made.Credential.ID, "secret": made.Credential.Secret},
		}})
	}
	got, err := r.verifier(nil).Verify(r.t.Context(), token("robot", nil))
	require.NoError(r.t, err)
	assert.Equal(r.t, session.UserID, got.UID)
	assert.Equal(r.t, []string{"member"}, got.Memberships[0].Roles)

	// One that may only list servers must not be good for Kubernetes.
	limited := token("limited", object{"access_rules": []object{{"service": "compute", "method": "GET", "path": "/v2.1/servers"}}})
	require.NotEmpty(r.t, limited)
	_, err = r.verifier(nil).Verify(r.t.Context(), limited)
	assert.NotEmpty(r.t, reason(err), "%v", err)
}

// testEC2 makes a token of an EC2 credential, which needs no password.
func testEC2(r *running) {
	session := r.login(openstack.Zangrand, openstack.CMS)
	var made struct {
		Credential struct{ Access, Secret string } `json:"credential"`
	}
	r.do(session, http.MethodPost, "/users/"+session.UserID+"/credentials/OS-EC2", object{"tenant_id": session.ProjectID}, &made)
	stamp := time.Now().UTC().Format("2006-01-02T15:04:05Z")
	query := "AWSAccessKeyId=" + made.Credential.Access + "&SignatureMethod=HmacSHA256&SignatureVersion=2&Timestamp=" + escape(stamp)
	mac := hmac.New(sha256.New, []byte(made.Credential.Secret))
	_, _ = mac.Write([]byte("GET\nec2.example.org\n/\n" + query))
	body := object{"credentials": object{
		"access": made.Credential.Access, "host": "ec2.example.org", "verb": "GET", "path": "/",
		"params": object{
			"AWSAccessKeyId": made.Credential.Access, "SignatureMethod": "HmacSHA256", "SignatureVersion": "2", "Timestamp": stamp,
		},
		"signature": base64.StdEncoding.EncodeToString(mac.Sum(nil)),
	}}
	// With its cache in memory, Keystone forgets what it needs of credentials that it made itself.
	require.NoError(r.t, r.Stop(r.t.Context()))
	restarted, err := openstack.Start(r.t.Context(), r.Config())
	require.NoError(r.t, err)
	r.Site = restarted
	r.admin, err = restarted.Admin(r.t.Context())
	require.NoError(r.t, err)
	// Newer Keystones give such tokens to services only.
	token := r.post("/ec2tokens", body, r.admin.Token)
	require.NotEmpty(r.t, token)
	_, err = r.verifier(nil).Verify(r.t.Context(), token)
	assert.Contains(r.t, []string{keystone.ReasonForbidden, keystone.ReasonMethod}, reason(err), "%v", err)
	_, err = r.verifier(r.asService).Verify(r.t.Context(), token)
	assert.Equal(r.t, keystone.ReasonMethod, reason(err), "%v", err)
}

func escape(text string) string {
	return string(bytes.ReplaceAll([]byte(text), []byte(":"), []byte("%3A")))
}

func testMembershipEnds(r *running) {
	user, err := r.AddUser(r.t.Context(), "leaver@infn.it", openstack.CMS)
	require.NoError(r.t, err)
	project, err := r.Project(openstack.CMS)
	require.NoError(r.t, err)
	v := r.verifier(nil)
	first := r.login(user.Name, openstack.CMS).Token
	_, err = v.Verify(r.t.Context(), first)
	require.NoError(r.t, err)
	r.do(r.admin, http.MethodDelete, "/projects/"+project.ID+"/users/"+user.ID+"/roles/"+r.roleID("member"), nil, nil)
	_, err = v.Verify(r.t.Context(), first)
	assert.NotEmpty(r.t, reason(err), "%v", err)

	other, err := r.AddUser(r.t.Context(), "disabled@infn.it", openstack.CMS)
	require.NoError(r.t, err)
	token := r.login(other.Name, openstack.CMS).Token
	r.do(r.admin, http.MethodPatch, "/users/"+other.ID, object{"user": object{"enabled": false}}, nil)
	_, err = v.Verify(r.t.Context(), token)
	assert.NotEmpty(r.t, reason(err), "%v", err)
}

func testHostileNames(r *running) {
	for _, name := range []string{"system:masters", "system:kube-controller-manager"} {
		_, err := r.AddUser(r.t.Context(), name, openstack.CMS)
		require.NoError(r.t, err)
		got, err := r.verifier(nil).Verify(r.t.Context(), r.login(name, openstack.CMS).Token)
		require.NoError(r.t, err)
		_, err = got.User()
		assert.Equal(r.t, tenant.ReasonName, reason(err), "%v", err)
	}
}

func testSecondDomain(r *running) {
	var domain struct{ Domain struct{ ID string } }
	r.do(r.admin, http.MethodPost, "/domains", object{"domain": object{"name": "second"}}, &domain)
	var user struct{ User struct{ ID string } }
	r.do(r.admin, http.MethodPost, "/users", object{"user": object{"name": openstack.Zangrand, "domain_id": domain.Domain.ID, "password": "opensesame"}}, &user)
	var project struct{ Project struct{ ID string } }
	r.do(r.admin, http.MethodPost, "/projects", object{"project": object{"name": openstack.CMS, "domain_id": domain.Domain.ID}}, &project)
	r.do(r.admin, http.MethodPut, "/projects/"+project.Project.ID+"/users/"+user.User.ID+"/roles/"+r.roleID("member"), nil, nil)
	token := r.authenticate(object{
		"identity": object{"methods": []string{"password"}, "password": object{"user": object{"id": user.User.ID, "password": "opensesame"}}},
		"scope":    object{"project": object{"id": project.Project.ID}},
	})
	got, err := r.verifier(nil).Verify(r.t.Context(), token)
	require.NoError(r.t, err)
	assert.Equal(r.t, openstack.Zangrand+"@second", got.Name)
	assert.Equal(r.t, user.User.ID, got.Owner)
	assert.Equal(r.t, project.Project.ID, got.Memberships[0].Project.ID)
	assert.Equal(r.t, "second", got.Memberships[0].Domain)

	_, err = r.verifier(func(c *keystone.Config) { c.Rules.UserDomains = []string{"default"} }).Verify(r.t.Context(), token)
	assert.Equal(r.t, keystone.ReasonDomain, reason(err), "%v", err)
}

// testParallel measures what a question costs beyond Keystone's own time.
func testParallel(r *running) {
	token := r.login(openstack.Zangrand, openstack.CMS).Token
	v := r.verifier(func(c *keystone.Config) { c.Limits.PositiveTTL = new(time.Minute) })
	began := time.Now()
	_, err := v.Verify(r.t.Context(), token)
	require.NoError(r.t, err)
	miss := time.Since(began)
	began = time.Now()
	for range 1000 {
		_, err := v.Verify(r.t.Context(), token)
		require.NoError(r.t, err)
	}
	r.t.Logf("asked: %s, remembered: %s", miss, time.Since(began)/1000)
}
