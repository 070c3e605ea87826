// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package tenancy_test

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/cloudveneto/caas/internal/lab/openstack"
)

func loginAttacks() []attack {
	return []attack{
		{name: "A60 projects with names of others", run: otherProjects},
		{name: "A61 users, groups and roles with names of Kubernetes' own", run: systemNames},
		{name: "A62 a token of one project in another's namespace", run: wrongProject},
		{name: "A63 removed from the project, or token revoked", run: removed},
		{name: "A64 tokens that are not for a project", alone: true, run: otherScopes},
	}
}

// authenticate asks Keystone for a token.
func (w *world) authenticate(ctx context.Context, path string, body object, headers ...string) (string, error) {
	content, err := json.Marshal(body)
	if err != nil {
		return "", err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, w.keystone.AuthURL()+path, strings.NewReader(string(content)))
	if err != nil {
		return "", err
	}
	request.Header.Set("Content-Type", "application/json")
	for at := 0; at+1 < len(headers); at += 2 {
		request.Header.Set(headers[at], headers[at+1])
	}
	transport := w.keystone.Transport()
	defer transport.CloseIdleConnections()
	response, err := (&http.Client{Transport: transport, Timeout: patience}).Do(request)
	if err != nil {
		return "", err
	}
	defer func() { _ = response.Body.Close() }()
	token := response.Header.Get("X-Subject-Token")
	if token == "" {
		return "", errors.New("Keystone: " + response.Status)
	}
	return token, nil
}

func password(user, domain, secret string) object {
	return object{"methods": []string{"password"}, "password": object{"user": object{"name": user, "domain": object{"id": domain}, "password": secret}}}
}

// stranger makes a user and a project in a domain, which may have names that are taken elsewhere, and logs the user in.
func (w *world) stranger(t *testing.T, domain, user, project string, roles ...string) person {
	t.Helper()
	ctx, secret := t.Context(), "secret-of-"+user
	userID, err := w.made(ctx, "user", object{"name": user, "domain_id": domain, "password": secret})
	require.NoError(t, err)
	projectID, err := w.made(ctx, "project", object{"name": project, "domain_id": domain})
	require.NoError(t, err)
	for _, role := range append(roles, "member") {
		id, err := w.made(ctx, "role", object{"name": role})
		require.NoError(t, err)
		require.NoError(t, w.identity(ctx, http.MethodPut, "/projects/"+projectID+"/users/"+userID+"/roles/"+id, nil, nil))
	}
	token, err := w.authenticate(ctx, "/auth/tokens", object{"auth": object{
		"identity": password(user, domain, secret), "scope": object{"project": object{"id": projectID}},
	}})
	require.NoError(t, err)
	p := w.bearer(user+" of "+domain, token)
	p.id, p.project = userID, projectID
	return p
}

// whoAmI is what the API server takes somebody for.
func (p person) whoAmI(t *testing.T) (code int, name string, groups []string) {
	t.Helper()
	got := p.do(t, http.MethodPost, "/apis/authentication.k8s.io/v1/selfsubjectreviews", "{}")
	name, _, _ = unstructured.NestedString(got.object.Object, "status", "userInfo", "username")
	groups, _, _ = unstructured.NestedStringSlice(got.object.Object, "status", "userInfo", "groups")
	return got.code, name, groups
}

// outside demands that a person can do nothing in a namespace.
func outside(t *testing.T, p person, namespace string) {
	t.Helper()
	p.namespace = namespace
	for _, path := range []string{"v1/secrets/s-b", "v1/secrets", "v1/secrets?labelSelector=" + p.own(), "v1/pods/p-b/log", "/api/v1/namespaces/" + namespace} {
		p.denied(t, "mt: ", http.MethodGet, path, "")
	}
	p.denied(t, "mt: ", http.MethodPost, "v1/configmaps", "{metadata: {name: x}}")
	p.denied(t, "mt: ", http.MethodPatch, "v1/configmaps/x", "{apiVersion: v1, kind: ConfigMap, metadata: {name: x}}", "Content-Type", applyPatch)
}

func otherProjects(t *testing.T, w *world) {
	domain, err := w.made(t.Context(), "domain", object{"name": "second"})
	require.NoError(t, err)
	namesake := w.stranger(t, domain, "alice", "cms")
	capital := w.stranger(t, domain, "alice", "CMS-"+strings.ToUpper(rand.Text()[:4]))
	for _, name := range []string{"kube-system", "default", "kube-public", "caas-system"} {
		p := w.stranger(t, "default", "user-of-"+name, name)
		for _, namespace := range []string{name, cms} {
			outside(t, p, namespace)
		}
	}
	outside(t, namesake, cms)
	outside(t, capital, cms)
	_, name, _ := namesake.whoAmI(t)
	_, alice, _ := w.alice.whoAmI(t)
	assert.Equal(t, "alice", alice)
	assert.Equal(t, "alice@second", name, "not the Alice of the default domain")
	// Its own namespace is another one.
	own := w.namespaceOf(t, namesake, "cms-"+namesake.project[:8], "cms")
	namesake.namespace = own
	made := namesake.creates(t, "v1/configmaps", "{metadata: {name: "+unique("a60")+"}}")
	assert.Equal(t, namesake.id, made.GetLabels()[ownerKey])
	outside(t, w.alice, own)
}

// namespaceOf has a project's namespace made, as the platform does when a member comes for the first time.
func (w *world) namespaceOf(t *testing.T, p person, name, project string) string {
	t.Helper()
	w.root.do(t, http.MethodPost, "/api/v1/namespaces", "{metadata: {name: "+name+", labels: {osn.infn.it/projectid: "+p.project+", osn.infn.it/projectname: "+project+"}}}")
	w.root.do(t, http.MethodPost, "/apis/rbac.authorization.k8s.io/v1/namespaces/"+name+"/rolebindings",
		"{metadata: {name: mt-tenant}, roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: mt-tenant}, subjects: [{kind: Group, apiGroup: rbac.authorization.k8s.io, name: 'osn:project:"+p.project+"'}]}")
	eventually(t, "the namespace is the project's", func() bool {
		return p.do(t, http.MethodGet, "/api/v1/namespaces/"+name, "").code == http.StatusOK
	})
	return name
}

func systemNames(t *testing.T, w *world) {
	for _, user := range []string{"system:masters", "system:node:" + bobNode, "system:kube-scheduler", "system:serviceaccount:cms:sa-b", "System:Masters"} {
		p := w.stranger(t, "default", user, openstack.CMS)
		code, _, _ := p.whoAmI(t)
		assert.Equal(t, http.StatusUnauthorized, code, user)
		assert.Equal(t, http.StatusUnauthorized, p.do(t, http.MethodGet, "v1/secrets/s-b", "").code)
	}
	for _, role := range []string{"system:masters", "system:nodes"} {
		p := w.stranger(t, "default", "user-with-"+strings.ReplaceAll(role, ":", "-"), openstack.CMS, role)
		code, _, groups := p.whoAmI(t)
		assert.Contains(t, []int{http.StatusUnauthorized, http.StatusCreated}, code)
		assert.NotContains(t, groups, role)
		assert.Contains(t, []int{http.StatusUnauthorized, http.StatusForbidden}, p.do(t, http.MethodGet, "/api/v1/namespaces", "").code)
	}
	token, err := w.provider.login(t.Context(), otto)
	require.NoError(t, err)
	p := w.bearer(otto, token)
	code, name, groups := p.whoAmI(t)
	require.Contains(t, []int{http.StatusUnauthorized, http.StatusCreated}, code)
	assert.NotEqual(t, otto, name, "names of the provider have a prefix")
	for _, group := range groups {
		assert.NotContains(t, []string{"system:masters", "kubeadm:cluster-admins"}, group)
	}
	got := p.do(t, http.MethodGet, "/api/v1/namespaces", "")
	assert.Contains(t, []int{http.StatusUnauthorized, http.StatusForbidden}, got.code, "%s", got.body)
	got = p.do(t, http.MethodGet, "v1/secrets?labelSelector="+w.bob.own(), "")
	assert.Contains(t, []int{http.StatusUnauthorized, http.StatusForbidden}, got.code, "%s", got.body)
	code, name, groups = w.alice.whoAmI(t)
	assert.Equal(t, http.StatusCreated, code)
	assert.Equal(t, "alice", name)
	assert.Contains(t, groups, "osn:project:"+w.alice.project)
}

func wrongProject(t *testing.T, w *world) {
	// Alice is a member of QST, too, but this token is not for it.
	outside(t, w.alice, qst)
	outside(t, w.twin, cms)
	outside(t, w.carol, cms)
	outside(t, w.alice, "kube-system")
	outside(t, w.alice, "default")
	outside(t, w.alice, "nothing-here")
	made := w.twin.creates(t, "v1/configmaps", "{metadata: {name: "+unique("a62")+"}}")
	owned(t, w.twin, made.GetLabels())
	w.carol.denied(t, notYours, http.MethodGet, "v1/configmaps/"+made.GetName(), "")
}

// revocation is the time after which a token that ended is refused: the caches of kube-mt-authn and of the API server.
const revocation = 100 * time.Second

func removed(t *testing.T, w *world) {
	ctx := t.Context()
	var left, revoked person
	for who, name := range map[*person]string{&left: "leaver", &revoked: "loser"} {
		_, err := w.keystone.AddUser(ctx, name, openstack.CMS)
		require.NoError(t, err)
		require.NoError(t, w.assign(ctx, name, openstack.CMS, "member"))
		*who, err = w.login(ctx, name, openstack.CMS)
		require.NoError(t, err)
		who.creates(t, "v1/configmaps", "{metadata: {name: "+unique("a63")+"}}")
		onlyOwn(t, *who, "v1/configmaps?labelSelector="+who.own())
	}
	lines := watches(t, left, "v1/configmaps?watch=1&labelSelector="+left.own())
	member, err := w.found(ctx, "roles", "name=member")
	require.NoError(t, err)
	require.NoError(t, w.identity(ctx, http.MethodDelete, "/projects/"+left.project+"/users/"+left.id+"/roles/"+member, nil, nil))
	require.NoError(t, w.revoke(ctx, revoked.token))
	began := time.Now()
	for _, who := range []person{left, revoked} {
		require.Eventually(t, func() bool {
			return who.do(t, http.MethodGet, "v1/configmaps?labelSelector="+who.own(), "").code == http.StatusUnauthorized
		}, revocation-time.Since(began), time.Second, "%s is refused", who.name)
		t.Logf("%s was refused after %s", who.name, time.Since(began).Round(time.Second))
		for _, path := range []string{"v1/secrets/s-b", "v1/configmaps", "/api/v1/namespaces/cms", "/version?x"} {
			got := who.do(t, http.MethodGet, path, "")
			assert.Equal(t, http.StatusUnauthorized, got.code, "%s: %s", path, got.body)
		}
	}
	// A watch that was open goes on, with what is its owner's and nothing else, until the API server ends it.
	who := left
	who.keepsSecrets(t, "watch", []byte(strings.Join(lines(), "\n")))
	assert.Contains(t, w.apiServerArguments(t), "--min-request-timeout=300", "watches end after 5 to 10 minutes")
	w.alice.gets(t, "v1/configmaps?labelSelector="+w.alice.own())
}

func (w *world) revoke(ctx context.Context, token string) error {
	admin, err := w.keystone.Admin(ctx)
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodDelete, w.keystone.AuthURL()+"/auth/tokens", http.NoBody)
	if err != nil {
		return err
	}
	request.Header.Set("X-Auth-Token", admin.Token)
	request.Header.Set("X-Subject-Token", token)
	transport := w.keystone.Transport()
	defer transport.CloseIdleConnections()
	response, err := (&http.Client{Transport: transport, Timeout: patience}).Do(request)
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusNoContent {
		err = fmt.Errorf("revoke token: %s", response.Status)
	}
	return errors.Join(err, response.Body.Close())
}

// apiServerArguments are those of the lab's API server.
func (w *world) apiServerArguments(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	require.NoError(t, err)
	for _, file := range files {
		content, err := os.ReadFile(file)
		if arguments := strings.Split(string(content), "\x00"); err == nil && strings.HasSuffix(arguments[0], "kube-apiserver") &&
			strings.Contains(string(content), w.lab.Dir()+"/caas/") {
			return arguments
		}
	}
	require.Fail(t, "the API server's process is not found")
	return nil
}

func otherScopes(t *testing.T, w *world) {
	ctx := t.Context()
	tokens := map[string]string{}
	unscoped, err := w.keystone.Login(ctx, "alice", "")
	require.NoError(t, err)
	tokens["unscoped"] = unscoped.Token

	admin, err := w.keystone.Admin(ctx)
	require.NoError(t, err)
	role, err := w.found(ctx, "roles", "name=admin")
	require.NoError(t, err)
	secret, err := w.keystone.Password("admin")
	require.NoError(t, err)
	for name, scope := range map[string]object{"/domains/default": {"domain": object{"id": "default"}}, "/system": {"system": object{"all": true}}} {
		require.NoError(t, w.identity(ctx, http.MethodPut, name+"/users/"+admin.UserID+"/roles/"+role, nil, nil))
		tokens[name], err = w.authenticate(ctx, "/auth/tokens", object{"auth": object{"identity": password("admin", "default", secret), "scope": scope}})
		require.NoError(t, err)
	}
	trust, err := w.keystone.Trust(ctx, "alice", openstack.CMS)
	require.NoError(t, err)
	trusted, err := w.keystone.LoginTrust(ctx, trust)
	require.NoError(t, err)
	tokens["trust"] = trusted.Token
	tokens["ec2"] = w.ec2Token(t)
	forged := []byte(w.alice.token)
	forged[len(forged)/2] ^= 1
	tokens["forged"], tokens["garbage"] = string(forged), "gAAAAA"+strings.Repeat("x", 200)
	for name, token := range tokens {
		p := w.bearer(name, token)
		for _, path := range []string{"v1/secrets/s-a", "v1/secrets?labelSelector=" + w.alice.own(), "/api/v1/namespaces/cms"} {
			for _, who := range []person{p, p.proxied()} {
				got := who.do(t, http.MethodGet, path, "")
				assert.Equal(t, http.StatusUnauthorized, got.code, "%s: %s: %s", name, path, got.body)
			}
		}
	}
	// Application credentials are for one project, and good.
	credential, err := w.keystone.AddApplicationCredential(ctx, "alice", openstack.CMS, unique("a64"))
	require.NoError(t, err)
	token, err := w.authenticate(ctx, "/auth/tokens", object{"auth": object{"identity": object{
		"methods": []string{"application_credential"}, "application_credential": object{"id": credential.ID, "secret": credential.Secret},
	}}})
	require.NoError(t, err)
	robot := w.bearer("Alice's robot", token)
	robot.gets(t, "v1/secrets/s-a")
}

// ec2Token is a token of an EC2 credential, which needs no password and could be for a project that its maker had no token for.
func (w *world) ec2Token(t *testing.T) string {
	t.Helper()
	ctx := t.Context()
	session, err := w.keystone.Login(ctx, "alice", openstack.CMS)
	require.NoError(t, err)
	var made struct {
		Credential struct{ Access, Secret string } `json:"credential"`
	}
	require.NoError(t, session.Do(ctx, http.MethodPost, "identity", "/users/"+session.UserID+"/credentials/OS-EC2", object{"tenant_id": session.ProjectID}, &made))
	stamp := time.Now().UTC().Format("2006-01-02T15:04:05Z")
	query := "AWSAccessKeyId=" + made.Credential.Access + "&SignatureMethod=HmacSHA256&SignatureVersion=2&Timestamp=" + strings.ReplaceAll(stamp, ":", "%3A")
	mac := hmac.New(sha256.New, []byte(made.Credential.Secret))
	_, _ = mac.Write([]byte("GET\nec2.example.org\n/\n" + query))
	// With its cache in memory, Keystone forgets what it needs of credentials that it made itself.
	require.NoError(t, w.keystone.Stop(ctx))
	var admin *openstack.Session
	require.NoError(t, await(ctx, "Keystone is back", func() error {
		restarted, err := openstack.Start(ctx, w.keystone.Config())
		if err != nil {
			return err // its first connections may come too early
		}
		w.keystone = restarted
		admin, err = restarted.Admin(ctx)
		return err
	}))
	token, err := w.authenticate(ctx, "/ec2tokens", object{"credentials": object{
		"access": made.Credential.Access, "host": "ec2.example.org", "verb": "GET", "path": "/",
		"params": object{
			"AWSAccessKeyId": made.Credential.Access, "SignatureMethod": "HmacSHA256", "SignatureVersion": "2", "Timestamp": stamp,
		},
		"signature": base64.StdEncoding.EncodeToString(mac.Sum(nil)),
	}}, "X-Auth-Token", admin.Token) // newer Keystones give such tokens to services only
	require.NoError(t, err)
	return token
}
