// SPDX-License-Identifier: Apache-2.0

package openstacktest

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Site is an OpenStack to hold to the expected behaviour.
type Site struct {
	// AuthURL is Keystone's address, with /v3.
	AuthURL, Region string
	// AdminUser, in the domain Default, is an administrator of AdminProject.
	AdminUser, AdminPassword, AdminProject string
	// Image is the id of an active image that everybody can use.
	Image string
	// HugeVCPUs are more than any host has.
	HugeVCPUs int
	// Subnet is one that the test may make in a network of its own.
	Subnet string
	// Patience is how long a server may take to become ACTIVE, or to go.
	Patience time.Duration
	// Transport makes the requests; default http.DefaultTransport.
	Transport http.RoundTripper
}

// seamMicroversion is the one that the seam speaks.
const seamMicroversion = "2.69"

// Conformance checks that an OpenStack behaves as the seam expects, and as the fake
// does: with projects, users, a network and flavors of its own, which it removes again.
func Conformance(t *testing.T, site Site) {
	t.Helper()
	c := newConformance(t, site)
	for _, one := range []struct {
		name  string
		check func(*testing.T)
	}{
		{"tokens", c.tokens},
		{"roles", c.membership},
		{"trusts", c.delegation},
		{"lost trusts", c.lostTrusts},
		{"application credentials", c.credentials},
		{"flavors", c.flavors},
		{"key pairs", c.keyPairs},
		{"refused requests", c.refused},
		{"life of a server", c.life},
		{"names", c.names},
		{"quota", c.quota},
		{"no valid host", c.noHost},
		{"servers by trust", c.byTrust},
		{"security groups", c.securityGroups},
	} {
		t.Run(one.name, one.check)
	}
}

// tokens: who may validate whose, and what is said of others.
func (c *conformance) tokens(t *testing.T) {
	status, _ := c.login(t, c.owner.withPassword("wrong"), c.scope(c.project))
	assert.Equal(t, http.StatusUnauthorized, status, "wrong password")
	status, _ = c.login(t, c.stranger, c.scope(c.project))
	assert.Equal(t, http.StatusUnauthorized, status, "a project without a role")
	status, _ = c.login(t, c.owner, nil)
	assert.Equal(t, http.StatusCreated, status, "no scope")

	validate := func(by session, subject string) int {
		return c.do(t, by, request{Method: "GET", Path: "auth/tokens", Header: http.Header{"X-Subject-Token": {subject}}}).status
	}
	assert.Equal(t, http.StatusOK, validate(c.ownerIn, c.ownerIn.token), "one's own token")
	assert.Equal(t, http.StatusForbidden, validate(c.strangerIn, c.ownerIn.token), "another's token")
	assert.Equal(t, http.StatusOK, validate(c.admin, c.ownerIn.token), "an administrator")
	assert.Equal(t, http.StatusNotFound, validate(c.admin, "garbage"))
	assert.Equal(t, http.StatusUnauthorized, validate(session{token: "garbage", catalog: c.admin.catalog}, c.ownerIn.token))

	doomed := c.mustLogin(t, c.owner, c.scope(c.project))
	gone := c.do(t, doomed, request{Method: "DELETE", Path: "auth/tokens", Header: http.Header{"X-Subject-Token": {doomed.token}}})
	assert.Equal(t, http.StatusNoContent, gone.status)
	assert.Equal(t, http.StatusNotFound, validate(c.admin, doomed.token), "a revoked token")
	assert.Equal(t, http.StatusUnauthorized, c.do(t, doomed, request{Method: "GET", Service: "compute", Path: "limits"}).status)
}

// membership: a lost role ends the tokens that have it.
func (c *conformance) membership(t *testing.T) {
	visitor := c.newUser(t, "visitor")
	c.grant(t, http.MethodPut, c.project, visitor)
	in := c.mustLogin(t, visitor, c.scope(c.project))
	listed := c.do(t, in, request{Method: "GET", Path: "auth/projects"})
	require.Equal(t, http.StatusOK, listed.status)
	require.Len(t, listed.list("projects"), 1)
	assert.Equal(t, c.project, text(listed.list("projects")[0], "id"))
	c.grant(t, http.MethodDelete, c.project, visitor)
	status, _ := c.login(t, visitor, c.scope(c.project))
	assert.Equal(t, http.StatusUnauthorized, status)
	found := c.do(t, c.admin, request{Method: "GET", Path: "auth/tokens", Header: http.Header{"X-Subject-Token": {in.token}}})
	assert.Equal(t, http.StatusNotFound, found.status)
}

// delegation: who may make, see, use and delete a trust.
func (c *conformance) delegation(t *testing.T) {
	refused := c.do(t, c.strangerIn, request{Method: "POST", Path: "OS-TRUST/trusts", Body: c.trustBody(true)})
	assert.Equal(t, http.StatusForbidden, refused.status, "in another's name")
	made := c.newTrust(t, true)
	service := c.mustLogin(t, c.service, nil)

	listed := c.do(t, service, request{Method: "GET", Path: "OS-TRUST/trusts?trustee_user_id=" + c.service.id})
	require.Equal(t, http.StatusOK, listed.status)
	require.Len(t, listed.list("trusts"), 1)
	one := listed.list("trusts")[0]
	assert.Equal(t, c.owner.id, text(one, "trustor_user_id"))
	assert.Equal(t, c.project, text(one, "project_id"))
	assert.Equal(t, true, one["impersonation"])
	others := c.do(t, service, request{Method: "GET", Path: "OS-TRUST/trusts?trustor_user_id=" + c.owner.id})
	assert.Equal(t, http.StatusForbidden, others.status, "the trustee may not ask by trustor")

	status, in := c.login(t, c.service, byTrust(made))
	require.Equal(t, http.StatusCreated, status)
	assert.Equal(t, c.owner.id, in.user, "the trustor is who services see")
	assert.Equal(t, c.project, in.project)
	status, _ = c.login(t, c.stranger, byTrust(made))
	assert.Equal(t, http.StatusForbidden, status, "not the trustee")
	plain := c.newTrust(t, false)
	status, in = c.login(t, c.service, byTrust(plain))
	require.Equal(t, http.StatusCreated, status)
	assert.Equal(t, c.service.id, in.user, "without impersonation, the trustee is")

	remove := request{Method: "DELETE", Path: "OS-TRUST/trusts/" + made}
	assert.Equal(t, http.StatusForbidden, c.do(t, service, remove).status, "the trustee may not delete")
	assert.Equal(t, http.StatusNoContent, c.do(t, c.ownerIn, remove).status)
	c.do(t, c.ownerIn, request{Method: "DELETE", Path: "OS-TRUST/trusts/" + plain})
}

// lostTrusts: what using a trust says that does not hold any more.
func (c *conformance) lostTrusts(t *testing.T) {
	deleted := c.newTrust(t, true)
	in := c.mustLogin(t, c.service, byTrust(deleted))
	require.Equal(t, http.StatusNoContent, c.do(t, c.ownerIn, request{Method: "DELETE", Path: "OS-TRUST/trusts/" + deleted}).status)
	status, _ := c.login(t, c.service, byTrust(deleted))
	assert.Equal(t, http.StatusUnauthorized, status, "deleted")
	used := c.do(t, in, request{Method: "GET", Service: "compute", Path: "limits"})
	assert.Equal(t, http.StatusUnauthorized, used.status, "its tokens are no more")

	leaver := c.newUser(t, "leaver")
	c.grant(t, http.MethodPut, c.project, leaver)
	leaverIn := c.mustLogin(t, leaver, c.scope(c.project))
	made := c.do(t, leaverIn, request{Method: "POST", Path: "OS-TRUST/trusts", Body: trustBody(leaver.id, c.service.id, c.project, true)})
	require.Equal(t, http.StatusCreated, made.status, made.text)
	c.grant(t, http.MethodDelete, c.project, leaver)
	status, _ = c.login(t, c.service, byTrust(made.id("trust")))
	assert.Equal(t, http.StatusForbidden, status, "the trustor has lost the role")
}

// credentials: an application credential stands for its user, and makes no trusts.
func (c *conformance) credentials(t *testing.T) {
	made := c.do(t, c.ownerIn, request{
		Method: "POST", Path: "users/" + c.owner.id + "/application_credentials",
		Body: object{"application_credential": object{"name": "conformance"}},
	})
	require.Equal(t, http.StatusCreated, made.status, made.text)
	credential := made.object("application_credential")
	identity := object{"methods": []string{"application_credential"}, "application_credential": object{
		"id": text(credential, "id"), "secret": text(credential, "secret"),
	}}
	status, in := c.authenticate(t, object{"identity": identity})
	require.Equal(t, http.StatusCreated, status)
	assert.Equal(t, c.owner.id, in.user)
	assert.Equal(t, c.project, in.project)
	refused := c.do(t, in, request{Method: "POST", Path: "OS-TRUST/trusts", Body: c.trustBody(true)})
	assert.Equal(t, http.StatusForbidden, refused.status)
	gone := c.do(t, c.ownerIn, request{Method: "DELETE", Path: "users/" + c.owner.id + "/application_credentials/" + text(credential, "id")})
	require.Equal(t, http.StatusNoContent, gone.status)
	status, _ = c.authenticate(t, object{"identity": identity})
	assert.GreaterOrEqual(t, status, http.StatusUnauthorized)
	assert.LessOrEqual(t, status, http.StatusNotFound)
}

// flavors: their lists have the extra specs.
func (c *conformance) flavors(t *testing.T) {
	specs := object{"extra_specs": object{"pci_passthrough:alias": "a100:2"}}
	set := c.do(t, c.admin, request{Method: "POST", Service: "compute", Path: "flavors/" + c.huge + "/os-extra_specs", Body: specs})
	require.Equal(t, http.StatusOK, set.status, set.text)
	listed := c.do(t, c.ownerIn, request{Method: "GET", Service: "compute", Path: "flavors/detail"})
	require.Equal(t, http.StatusOK, listed.status)
	for _, one := range listed.list("flavors") {
		if text(one, "id") == c.huge {
			extra, _ := one["extra_specs"].(object)
			assert.Equal(t, "a100:2", text(extra, "pci_passthrough:alias"))
			return
		}
	}
	assert.Fail(t, "the flavor is not in the list")
}

// keyPairs are their users', in all projects.
func (c *conformance) keyPairs(t *testing.T) {
	there := request{Method: "GET", Service: "compute", Path: "os-keypairs/" + c.key}
	assert.Equal(t, http.StatusOK, c.do(t, c.ownerIn, there).status)
	assert.Equal(t, http.StatusNotFound, c.do(t, c.serviceIn, there).status)
	there.Path += "?user_id=" + c.owner.id
	assert.Equal(t, http.StatusForbidden, c.do(t, c.serviceIn, there).status)
	assert.Equal(t, http.StatusOK, c.do(t, c.admin, there).status)
}
