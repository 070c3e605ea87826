// SPDX-License-Identifier: Apache-2.0

package openstacktest

import (
	"encoding/base64"
	"maps"
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// uidKey is a key of metadata as the seam uses it.
const uidKey = "osn.infn.it:uid"

// server is the body of a request for a server, with changes.
func (c *conformance) server(name string, changes object) object {
	body := object{
		"name": name, "imageRef": c.Image, "flavorRef": c.tiny, "networks": []object{{"uuid": c.network}},
		"key_name": c.key, "metadata": object{uidKey: name + "-uid"}, "tags": []string{"osn-conformance"},
		"user_data": base64.StdEncoding.EncodeToString([]byte("#cloud-config\n")),
	}
	maps.Copy(body, changes)
	for key, value := range body {
		if value == nil {
			delete(body, key)
		}
	}
	return object{"server": body}
}

func (c *conformance) ask(t *testing.T, by session, body object) answered {
	t.Helper()
	return c.do(t, by, request{Method: http.MethodPost, Service: "compute", Path: "servers", Body: body})
}

// boot makes a server that is removed when the test ends.
func (c *conformance) boot(t *testing.T, by session, body object) string {
	t.Helper()
	answer := c.ask(t, by, body)
	require.Equal(t, http.StatusAccepted, answer.status, answer.text)
	id := answer.id("server")
	t.Cleanup(func() { c.remove(t, id) })
	return id
}

// remove deletes a server with the service's identity, and waits until it is gone.
func (c *conformance) remove(t *testing.T, id string) {
	t.Helper()
	gone := c.do(t, c.serviceIn, request{Method: http.MethodDelete, Service: "compute", Path: "servers/" + id})
	require.Contains(t, []int{http.StatusNoContent, http.StatusNotFound}, gone.status, gone.text)
	require.Eventually(t, func() bool {
		return c.do(t, c.serviceIn, request{Method: http.MethodGet, Service: "compute", Path: "servers/" + id}).status == http.StatusNotFound
	}, c.Patience, 50*time.Millisecond, "the server is still there")
}

// await waits until a server has a status.
func (c *conformance) await(t *testing.T, id, status string) object {
	t.Helper()
	var found object
	require.Eventually(t, func() bool {
		found = c.do(t, c.serviceIn, request{Method: http.MethodGet, Service: "compute", Path: "servers/" + id}).object("server")
		return text(found, "status") == status || text(found, "status") == "ERROR"
	}, c.Patience, 50*time.Millisecond)
	require.Equal(t, status, text(found, "status"), "%v", found["fault"])
	return found
}

// refused: what Nova says to requests that name what does not exist.
func (c *conformance) refused(t *testing.T) {
	const nowhere = "6b2ee6ac-0b4f-4f2c-9d6c-000000000000"
	foreign := c.made(t, c.admin, "keypair", request{Service: "compute", Path: "os-keypairs", Body: object{"keypair": object{
		"name": c.run + "-admin", "public_key": publicKey(t),
	}}})
	for name, changes := range map[string]object{
		"flavor":                 {"flavorRef": nowhere},
		"image":                  {"imageRef": nowhere},
		"network":                {"networks": []object{{"uuid": nowhere}}},
		"key pair":               {"key_name": "no-such-key"},
		"key pair of another":    {"key_name": foreign},
		"availability zone":      {"availability_zone": "no-such-zone"},
		"security group":         {"security_groups": []object{{"name": "no-such-group"}}},
		"networks missing":       {"networks": nil},
		"user data badly padded": {"user_data": "abc"},
		"user data of 64 KiB":    {"user_data": base64.StdEncoding.EncodeToString(make([]byte, 49152))},
		"slash in metadata":      {"metadata": object{"osn.infn.it/uid": "u"}},
		"metadata of 256 octets": {"metadata": object{"key": string(make([]byte, 256))}},
	} {
		answer := c.ask(t, c.ownerIn, c.server("refused", changes))
		assert.Equal(t, http.StatusBadRequest, answer.status, "%s: %s", name, answer.text)
		assert.NotEmpty(t, text(answer.object("badRequest"), "message"), name)
	}
	old := request{
		Method: http.MethodPost, Service: "compute", Path: "servers", Body: c.server("refused", nil),
		Header: http.Header{"Openstack-Api-Version": {"compute 2.51"}},
	}
	assert.Equal(t, http.StatusBadRequest, c.do(t, c.ownerIn, old).status, "tags before 2.52")
	missing := request{Method: http.MethodGet, Service: "compute", Path: "servers/" + nowhere}
	assert.Equal(t, http.StatusNotFound, c.do(t, c.ownerIn, missing).status)
	missing.Method = http.MethodDelete
	assert.Equal(t, http.StatusNotFound, c.do(t, c.ownerIn, missing).status)
}

// life: what is asked for is kept, others of the project may look and delete, and what
// is gone is not found.
func (c *conformance) life(t *testing.T) {
	id := c.boot(t, c.ownerIn, c.server(c.run, nil))
	found := c.await(t, id, "ACTIVE")
	assert.Equal(t, c.run, text(found, "name"))
	assert.Equal(t, c.owner.id, text(found, "user_id"))
	assert.Equal(t, c.project, text(found, "tenant_id"))
	assert.Equal(t, c.key, text(found, "key_name"))
	assert.Equal(t, object{uidKey: c.run + "-uid"}, found["metadata"])
	assert.Equal(t, []any{"osn-conformance"}, found["tags"])
	kind, _ := found["flavor"].(object)
	assert.Equal(t, c.run+"-tiny", text(kind, "original_name"))
	networks, _ := found["addresses"].(object)
	assert.Len(t, (answered{body: networks}).list(c.run), 1, "an address on its network")
	assert.Nil(t, found["OS-EXT-SRV-ATTR:user_data"], "user data is for administrators")

	ports := request{Method: http.MethodGet, Service: "network", Path: "v2.0/ports?device_id=" + id}
	assert.Len(t, c.do(t, c.serviceIn, ports).list("ports"), 1)
	act := request{Method: http.MethodPost, Service: "compute", Path: "servers/" + id + "/action", Body: object{"os-stop": nil}}
	assert.Equal(t, http.StatusAccepted, c.do(t, c.ownerIn, act).status)
	c.await(t, id, "SHUTOFF")
	act.Body = object{"os-start": nil}
	assert.Equal(t, http.StatusAccepted, c.do(t, c.ownerIn, act).status)
	c.await(t, id, "ACTIVE")

	before := time.Now().Add(-time.Hour).UTC().Format(time.RFC3339)
	c.remove(t, id)
	assert.Empty(t, c.do(t, c.serviceIn, ports).list("ports"), "its port has gone with it")
	again := c.do(t, c.serviceIn, request{Method: http.MethodDelete, Service: "compute", Path: "servers/" + id})
	assert.Equal(t, http.StatusNotFound, again.status)
	changed := c.do(t, c.serviceIn, request{Method: http.MethodGet, Service: "compute", Path: "servers/detail?changes-since=" + url.QueryEscape(before)})
	require.Equal(t, http.StatusOK, changed.status, changed.text)
	for _, one := range changed.list("servers") {
		if text(one, "id") == id {
			assert.Equal(t, "DELETED", text(one, "status"))
			return
		}
	}
	assert.Fail(t, "Nova does not tell of the deleted server")
}

// names: lists are searched by a regular expression, not anchored.
func (c *conformance) names(t *testing.T) {
	for _, name := range []string{"a.b", "axb", "xa.bx"} {
		c.boot(t, c.ownerIn, c.server(name, nil))
	}
	count := func(pattern string) int {
		answer := c.do(t, c.serviceIn, request{
			Method: http.MethodGet, Service: "compute", Path: "servers/detail?name=" + url.QueryEscape(pattern),
		})
		require.Equal(t, http.StatusOK, answer.status, answer.text)
		return len(answer.list("servers"))
	}
	assert.Equal(t, 3, count("a.b"))
	assert.Equal(t, 2, count("^a.b$"))
	assert.Equal(t, 1, count(`^a\.b$`))
	assert.Equal(t, 0, count("^none$"))
}

// quota: a project that is full says so, and has room again after a deletion.
func (c *conformance) quota(t *testing.T) {
	set := func(instances int) {
		t.Helper()
		answer := c.do(t, c.admin, request{
			Method: http.MethodPut, Service: "compute", Path: "os-quota-sets/" + c.project,
			Body: object{"quota_set": object{"instances": instances}},
		})
		require.Equal(t, http.StatusOK, answer.status, answer.text)
	}
	set(1)
	t.Cleanup(func() { set(100) })
	id := c.boot(t, c.ownerIn, c.server("first", nil))
	c.await(t, id, "ACTIVE") // Nova counts a server from when the scheduler has found a place for it
	refused := c.ask(t, c.ownerIn, c.server("second", nil))
	assert.Equal(t, http.StatusForbidden, refused.status)
	assert.Contains(t, text(refused.object("forbidden"), "message"), "Quota exceeded for instances")
	limits := c.do(t, c.serviceIn, request{Method: http.MethodGet, Service: "compute", Path: "limits"})
	absolute, _ := limits.object("limits")["absolute"].(object)
	assert.InDelta(t, 1, absolute["maxTotalInstances"], 0)
	assert.InDelta(t, 1, absolute["totalInstancesUsed"], 0)
	c.remove(t, id)
	c.boot(t, c.ownerIn, c.server("third", nil))
}

// noHost: a server that no host takes is accepted, and ERROR soon after.
func (c *conformance) noHost(t *testing.T) {
	answer := c.do(t, c.admin, request{
		Method: http.MethodPut, Service: "compute", Path: "os-quota-sets/" + c.project,
		Body: object{"quota_set": object{"cores": -1}},
	})
	require.Equal(t, http.StatusOK, answer.status, answer.text)
	id := c.boot(t, c.ownerIn, c.server("huge", object{"flavorRef": c.huge}))
	var found object
	require.Eventually(t, func() bool {
		found = c.do(t, c.serviceIn, request{Method: http.MethodGet, Service: "compute", Path: "servers/" + id}).object("server")
		return text(found, "status") == "ERROR"
	}, c.Patience, 50*time.Millisecond)
	fault, _ := found["fault"].(object)
	assert.InDelta(t, http.StatusInternalServerError, fault["code"], 0)
	assert.Contains(t, text(fault, "message"), "No valid host was found")
}

// byTrust: an impersonating trust boots with the trustor's key pair, as the trustor.
func (c *conformance) byTrust(t *testing.T) {
	trust := c.newTrust(t, true)
	in := c.mustLogin(t, c.service, byTrust(trust))
	refused := c.ask(t, c.serviceIn, c.server("by-service", nil))
	assert.Equal(t, http.StatusBadRequest, refused.status, "the service user has not the owner's key pair")
	id := c.boot(t, in, c.server("by-trust", nil))
	found := c.await(t, id, "ACTIVE")
	assert.Equal(t, c.owner.id, text(found, "user_id"))
	assert.Equal(t, c.key, text(found, "key_name"))
	require.Equal(t, http.StatusNoContent, c.do(t, c.ownerIn, request{Method: http.MethodDelete, Path: "OS-TRUST/trusts/" + trust}).status)
	c.remove(t, id) // the service's own identity can, without the trust
}

// securityGroups: names are not unique, and equal rules are.
func (c *conformance) securityGroups(t *testing.T) {
	make1 := request{Service: "network", Path: "v2.0/security-groups", Body: object{"security_group": object{"name": c.run, "description": "one"}}}
	first := c.made(t, c.serviceIn, "security_group", make1)
	rule := request{Method: http.MethodPost, Service: "network", Path: "v2.0/security-group-rules", Body: object{"security_group_rule": object{
		"security_group_id": first, "direction": "ingress", "ethertype": "IPv4", "protocol": "tcp",
		"port_range_min": 10250, "port_range_max": 10250, "remote_ip_prefix": "10.88.0.0/24",
	}}}
	assert.Equal(t, http.StatusCreated, c.do(t, c.serviceIn, rule).status)
	assert.Equal(t, http.StatusConflict, c.do(t, c.serviceIn, rule).status)
	c.made(t, c.serviceIn, "security_group", make1)
	listed := c.do(t, c.ownerIn, request{Method: http.MethodGet, Service: "network", Path: "v2.0/security-groups?name=" + c.run})
	assert.Len(t, listed.list("security_groups"), 2)
	ambiguous := c.ask(t, c.ownerIn, c.server("ambiguous", object{"security_groups": []object{{"name": c.run}}}))
	assert.Equal(t, http.StatusConflict, ambiguous.status, ambiguous.text)
	c.boot(t, c.ownerIn, c.server("by-id", object{"security_groups": []object{{"name": first}}}))
}
