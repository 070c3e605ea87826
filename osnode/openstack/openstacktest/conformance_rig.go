// SPDX-License-Identifier: Apache-2.0

package openstacktest

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// conformance is a site with the things that one run has made there.
type conformance struct {
	Site

	run                                   string
	client                                *http.Client
	project, role                         string
	owner, stranger, service              person
	network, key, tiny, huge              string
	admin, ownerIn, strangerIn, serviceIn session
}

// person is a user who can log in.
type person struct{ id, password string }

func (p person) withPassword(password string) person { return person{p.id, password} }

// session is a token, what Keystone says of it, and the addresses of the services.
type session struct {
	token, user, project string
	catalog              map[string]string
}

// request is a request; the service is identity if it is empty.
type request struct {
	Method, Service, Path string
	Header                http.Header
	Body                  any
}

type answered struct {
	status int
	text   string
	body   object
}

func (a answered) object(key string) object {
	found, _ := a.body[key].(object)
	return found
}

func (a answered) id(key string) string { return text(a.object(key), "id") }

func (a answered) list(key string) []object {
	all, _ := a.body[key].([]any)
	found := make([]object, 0, len(all))
	for _, one := range all {
		entry, _ := one.(object)
		found = append(found, entry)
	}
	return found
}

func text(from object, key string) string {
	found, _ := from[key].(string)
	return found
}

func newConformance(t *testing.T, site Site) *conformance {
	t.Helper()
	if site.Transport == nil {
		site.Transport = http.DefaultTransport
	}
	c := &conformance{Site: site, run: "conformance-" + strings.ToLower(rand.Text()[:8])}
	c.client = &http.Client{Transport: site.Transport, Timeout: time.Minute}
	c.admin = c.adminLogin(t)
	c.project = c.made(t, c.admin, "project", request{
		Path: "projects", Body: object{"project": object{"name": c.run, "domain_id": "default"}},
	})
	roles := c.do(t, c.admin, request{Method: "GET", Path: "roles?name=member"}).list("roles")
	require.Len(t, roles, 1)
	c.role = text(roles[0], "id")
	c.owner, c.stranger, c.service = c.newUser(t, "owner"), c.newUser(t, "stranger"), c.newUser(t, "service")
	c.grant(t, http.MethodPut, c.project, c.owner)
	c.grant(t, http.MethodPut, c.project, c.service)
	c.ownerIn = c.mustLogin(t, c.owner, c.scope(c.project))
	c.serviceIn = c.mustLogin(t, c.service, c.scope(c.project))
	c.strangerIn = c.mustLogin(t, c.stranger, nil)
	c.tiny, c.huge = c.newFlavor(t, "tiny", 1), c.newFlavor(t, "huge", site.HugeVCPUs)
	c.network = c.made(t, c.ownerIn, "network", request{Service: "network", Path: "v2.0/networks", Body: object{"network": object{"name": c.run}}})
	c.made(t, c.ownerIn, "subnet", request{Service: "network", Path: "v2.0/subnets", Body: object{"subnet": object{
		"network_id": c.network, "cidr": site.Subnet, "ip_version": 4, "enable_dhcp": false,
	}}})
	c.key = c.run
	c.made(t, c.ownerIn, "keypair", request{Service: "compute", Path: "os-keypairs", Body: object{"keypair": object{
		"name": c.key, "public_key": publicKey(t),
	}}})
	return c
}

// publicKey is a new key in the form of OpenSSH's files.
func publicKey(t *testing.T) string {
	t.Helper()
	public, _, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	var blob []byte
	for _, part := range [][]byte{[]byte("ssh-ed25519"), public} {
		blob = binary.BigEndian.AppendUint32(blob, uint32(len(part))) //nolint:gosec // tens of bytes
		blob = append(blob, part...)
	}
	return "ssh-ed25519 " + base64.StdEncoding.EncodeToString(blob) + " conformance"
}

func (c *conformance) adminLogin(t *testing.T) session {
	t.Helper()
	domain := object{"name": "Default"}
	status, in := c.authenticate(t, object{
		"identity": object{"methods": []string{"password"}, "password": object{"user": object{
			"name": c.AdminUser, "domain": domain, "password": c.AdminPassword,
		}}},
		"scope": object{"project": object{"name": c.AdminProject, "domain": domain}},
	})
	require.Equal(t, http.StatusCreated, status, "the administrator's login")
	return in
}

func (c *conformance) scope(project string) object {
	return object{"project": object{"id": project}}
}

func byTrust(id string) object { return object{"OS-TRUST:trust": object{"id": id}} }

func (c *conformance) login(t *testing.T, who person, scope object) (int, session) {
	t.Helper()
	auth := object{"identity": object{"methods": []string{"password"}, "password": object{
		"user": object{"id": who.id, "password": who.password},
	}}}
	if scope != nil {
		auth["scope"] = scope
	}
	return c.authenticate(t, auth)
}

func (c *conformance) mustLogin(t *testing.T, who person, scope object) session {
	t.Helper()
	status, in := c.login(t, who, scope)
	require.Equal(t, http.StatusCreated, status)
	return in
}

func (c *conformance) authenticate(t *testing.T, auth object) (int, session) {
	t.Helper()
	header, answer := c.send(t, http.MethodPost, c.AuthURL+"/auth/tokens", nil, object{"auth": auth})
	in := session{token: header.Get("X-Subject-Token"), catalog: map[string]string{}}
	token := answer.object("token")
	user, _ := token["user"].(object)
	project, _ := token["project"].(object)
	in.user, in.project = text(user, "id"), text(project, "id")
	for _, entry := range (answered{body: token}).list("catalog") {
		for _, endpoint := range (answered{body: entry}).list("endpoints") {
			if text(endpoint, "interface") == "public" && text(endpoint, "region") == c.Region {
				in.catalog[text(entry, "type")] = strings.TrimSuffix(text(endpoint, "url"), "/")
			}
		}
	}
	return answer.status, in
}

// do makes a request with a session's token.
func (c *conformance) do(t *testing.T, by session, asked request) answered {
	t.Helper()
	base := c.AuthURL
	if asked.Service != "" {
		base = by.catalog[asked.Service]
		require.NotEmpty(t, base, "the catalog has no service %s", asked.Service)
	}
	header := asked.Header.Clone()
	if header == nil {
		header = http.Header{}
	}
	header.Set("X-Auth-Token", by.token)
	if header.Get("OpenStack-API-Version") == "" {
		header.Set("OpenStack-API-Version", "compute "+seamMicroversion)
	}
	_, answer := c.send(t, asked.Method, base+"/"+asked.Path, header, asked.Body)
	return answer
}

func (c *conformance) send(t *testing.T, method, address string, header http.Header, body any) (http.Header, answered) {
	t.Helper()
	var content io.Reader = http.NoBody
	if body != nil {
		encoded, err := json.Marshal(body)
		require.NoError(t, err)
		content = bytes.NewReader(encoded)
	}
	// Things are also removed after the test's own context has ended.
	request, err := http.NewRequestWithContext(context.WithoutCancel(t.Context()), method, address, content)
	require.NoError(t, err)
	if header != nil {
		request.Header = header
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := c.client.Do(request)
	require.NoError(t, err)
	defer func() { _ = response.Body.Close() }() // only read
	raw, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	answer := answered{status: response.StatusCode, text: string(raw), body: object{}}
	_ = json.Unmarshal(raw, &answer.body) // not all answers are JSON
	return response.Header, answer
}

// made makes a thing that is removed when the test ends, and returns its id.
func (c *conformance) made(t *testing.T, by session, key string, asked request) string {
	t.Helper()
	asked.Method = http.MethodPost
	answer := c.do(t, by, asked)
	require.Contains(t, []int{http.StatusOK, http.StatusCreated}, answer.status, answer.text)
	id := answer.id(key)
	if key == "keypair" {
		id = text(answer.object(key), "name")
	}
	require.NotEmpty(t, id, answer.text)
	if key != "subnet" { // it goes with its network
		t.Cleanup(func() {
			gone := c.do(t, by, request{Method: http.MethodDelete, Service: asked.Service, Path: asked.Path + "/" + id})
			require.Less(t, gone.status, http.StatusMultipleChoices, gone.text)
		})
	}
	return id
}

func (c *conformance) newUser(t *testing.T, name string) person {
	t.Helper()
	password := rand.Text()
	id := c.made(t, c.admin, "user", request{Path: "users", Body: object{"user": object{
		"name": c.run + "-" + name, "domain_id": "default", "password": password,
	}}})
	return person{id: id, password: password}
}

func (c *conformance) grant(t *testing.T, method, project string, who person) {
	t.Helper()
	answer := c.do(t, c.admin, request{Method: method, Path: "projects/" + project + "/users/" + who.id + "/roles/" + c.role})
	require.Equal(t, http.StatusNoContent, answer.status, answer.text)
}

func (c *conformance) newFlavor(t *testing.T, name string, vcpus int) string {
	t.Helper()
	return c.made(t, c.admin, "flavor", request{Service: "compute", Path: "flavors", Body: object{"flavor": object{
		"name": c.run + "-" + name, "vcpus": vcpus, "ram": 64, "disk": 1,
	}}})
}

func trustBody(trustor, trustee, project string, impersonation bool) object {
	return object{"trust": object{
		"trustor_user_id": trustor, "trustee_user_id": trustee, "project_id": project, "impersonation": impersonation,
		"roles": []object{{"name": "member"}}, "allow_redelegation": false,
		"expires_at": time.Now().Add(time.Hour).UTC().Format("2006-01-02T15:04:05.000000Z"),
	}}
}

func (c *conformance) trustBody(impersonation bool) object {
	return trustBody(c.owner.id, c.service.id, c.project, impersonation)
}

func (c *conformance) newTrust(t *testing.T, impersonation bool) string {
	t.Helper()
	answer := c.do(t, c.ownerIn, request{Method: http.MethodPost, Path: "OS-TRUST/trusts", Body: c.trustBody(impersonation)})
	require.Equal(t, http.StatusCreated, answer.status, answer.text)
	return answer.id("trust")
}
