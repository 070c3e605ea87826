// SPDX-License-Identifier: Apache-2.0

//go:build integration

package main_test

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	authenticationv1 "k8s.io/api/authentication/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/cloudveneto/caas/internal/httpserver/httpservertest"
	"github.com/cloudveneto/caas/internal/lab/kubetest"
	"github.com/cloudveneto/caas/internal/lab/openstack"
	"github.com/cloudveneto/caas/internal/lab/openstack/openstacktest"
	"github.com/cloudveneto/caas/internal/programtest"
	"github.com/cloudveneto/caas/multitenancy/oidc/oidctest"
	"github.com/cloudveneto/caas/multitenancy/tenant"
)

// world is a real API server that asks this program, which asks a real Keystone.
type world struct {
	t       *testing.T
	site    *openstack.Site
	issuer  *oidctest.Server
	cluster *kubetest.Cluster
	address string
	ca      *httpservertest.CA
	log     *programtest.Process
	tokens  []string
}

func TestIntegrationAuthentication(t *testing.T) {
	w := &world{t: t, issuer: oidctest.Start(t), site: startSite(t), ca: httpservertest.NewCA(t, "mt")}
	w.start()
	t.Run("keystone", w.testKeystone)
	t.Run("openid", w.testOIDC)
	t.Run("refused", w.testRefused)
	t.Run("rights follow the project", w.testRights)
	t.Run("revoked", w.testRevoked)
	t.Run("only the API server may ask", w.testClientCertificate)
	t.Run("no token is written anywhere", w.testLogs)
}

// startSite runs a real OpenStack, of which only Keystone is used.
func startSite(t *testing.T) *openstack.Site {
	t.Helper()
	openstacktest.Require(t, openstack.Hook)
	return openstacktest.Start(t, openstack.Config{})
}

// start runs the webhook and the API server.
func (w *world) start() {
	t, dir := w.t, w.t.TempDir()
	w.address = programtest.FreeAddress(t)
	certificate, key := w.ca.Issue(t, "kube-mt-authn")
	for name, content := range map[string][]byte{
		"ca.crt": w.ca.PEM(), "tls.crt": certificate, "tls.key": key,
		"issuer.crt": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: w.issuer.Certificate().Raw}),
	} {
		httpservertest.Write(t, dir, name, content)
	}
	w.serve(httpservertest.Write(t, dir, "authn.yaml", fmt.Appendf(nil, `
listen: %s
tls: {certFile: %[2]s/tls.crt, keyFile: %[2]s/tls.key, clientCAFile: %[2]s/ca.crt}
keystone: {authURL: %[3]q, timeout: 10s, cache: {positive: 1s, negative: 1s}}
oidc: [{issuer: %[4]q, caFile: %[2]s/issuer.crt, audiences: [caas], userNamePrefix: "iam:", projects: [{group: cms, id: p1, name: CMS}]}]
`, w.address, dir, w.keystone(), w.issuer.URL)))
	kubeconfig := fmt.Appendf(nil, `
apiVersion: v1
kind: Config
clusters: [{name: a, cluster: {server: "https://%s/authenticate", certificate-authority: %[2]s/ca.crt}}]
users: [{name: a, user: {client-certificate: %[2]s/tls.crt, client-key: %[2]s/tls.key}}]
contexts: [{name: a, context: {cluster: a, user: a}}]
current-context: a
`, w.address, dir)
	w.cluster = kubetest.Start(t, kubetest.Options{APIServerArgs: []string{
		"--authentication-token-webhook-config-file=" + httpservertest.Write(t, dir, "authn.kubeconfig", kubeconfig),
		"--authentication-token-webhook-version=v1", "--authentication-token-webhook-cache-ttl=1s",
	}})
}

// keystone is the site's Keystone, which is in a network namespace, on an address here.
func (w *world) keystone() string {
	target, err := url.Parse(strings.TrimSuffix(w.site.AuthURL(), "/v3"))
	require.NoError(w.t, err)
	proxy := &httputil.ReverseProxy{
		Rewrite:   func(request *httputil.ProxyRequest) { request.SetURL(target) },
		Transport: w.site.Transport(),
	}
	server := httptest.NewServer(proxy)
	w.t.Cleanup(server.Close)
	return server.URL + "/v3"
}

// serve runs the program.
func (w *world) serve(config string) {
	t := w.t
	w.log = programtest.Start(t, binary.Command(t,
		"--config", config, "--insecure", "--log-level", "debug", "--ops-listen", ""))
	t.Cleanup(func() { assert.NoError(t, w.log.End(syscall.SIGTERM)) })
	require.Eventually(t, func() bool { return strings.Contains(w.log.String(), "server is listening") }, 20*time.Second, 10*time.Millisecond)
}

// used remembers a token, to look for it later.
func (w *world) used(token string) string {
	w.tokens = append(w.tokens, token)
	return token
}

func (w *world) login(t *testing.T, user, project string) *openstack.Session {
	t.Helper()
	session, err := w.site.Login(t.Context(), user, project)
	require.NoError(t, err)
	w.used(session.Token)
	return session
}

func (w *world) client(t *testing.T, token string) *kubernetes.Clientset {
	t.Helper()
	config := rest.AnonymousClientConfig(w.cluster.RESTConfig())
	config.BearerToken = token
	client, err := kubernetes.NewForConfig(config)
	require.NoError(t, err)
	return client
}

// whoami asks as a user would.
func (w *world) whoami(t *testing.T, token string) (authenticationv1.UserInfo, string) {
	t.Helper()
	kubectl := filepath.Join(w.cluster.ControlPlane().Config().BinDir, "kubectl")
	config := w.cluster.RESTConfig()
	ca := httpservertest.Write(t, t.TempDir(), "ca.crt", config.CAData)
	if len(config.CAData) == 0 {
		ca = config.CAFile
	}
	command := exec.CommandContext(t.Context(), kubectl, "auth", "whoami", "-o", "json", "--server", config.Host, "--certificate-authority", ca, "--token", token)
	command.Env = []string{"HOME=" + t.TempDir(), "KUBECONFIG=" + os.DevNull}
	var out, failure bytes.Buffer
	command.Stdout, command.Stderr = &out, &failure
	if command.Run() != nil {
		return authenticationv1.UserInfo{}, failure.String()
	}
	var review authenticationv1.SelfSubjectReview
	require.NoError(t, json.Unmarshal(out.Bytes(), &review))
	return review.Status.UserInfo, ""
}

func (w *world) testKeystone(t *testing.T) {
	session := w.login(t, openstack.Zangrand, openstack.CMS)
	began := time.Now()
	user, problem := w.whoami(t, session.Token)
	require.Empty(t, problem)
	t.Logf("kubectl auth whoami: %s", time.Since(began))
	project := tenant.ProjectGroup(session.ProjectID)
	assert.Equal(t, openstack.Zangrand, user.Username)
	assert.Equal(t, session.UserID, user.UID)
	assert.Subset(t, user.Groups, []string{"osn:authenticated", project, project + ":role:member", "system:authenticated"})
	assert.Equal(t, authenticationv1.ExtraValue{"CMS"}, user.Extra[tenant.ExtraProjectName])
	assert.Equal(t, authenticationv1.ExtraValue{session.UserID}, user.Extra[tenant.ExtraUserID])
	assert.Equal(t, authenticationv1.ExtraValue{"keystone"}, user.Extra[tenant.ExtraAuth])
	assert.NotEmpty(t, user.Extra[tenant.ExtraTokenExpires])

	other := w.login(t, openstack.Zangrand, openstack.QST)
	user, problem = w.whoami(t, other.Token)
	require.Empty(t, problem)
	assert.NotContains(t, user.Groups, project, "one login is for one project")
	assert.Contains(t, user.Groups, tenant.ProjectGroup(other.ProjectID))
}

func (w *world) testOIDC(t *testing.T) {
	claims := w.issuer.Claims("caas")
	claims["groups"] = []string{"cms"}
	user, problem := w.whoami(t, w.used(w.issuer.Sign(t, claims)))
	require.Empty(t, problem)
	assert.Equal(t, "iam:alice", user.Username)
	assert.Equal(t, w.issuer.URL+"#alice", user.UID)
	assert.Contains(t, user.Groups, "osn:project:p1")
	assert.Equal(t, authenticationv1.ExtraValue{tenant.EncodeSubject(w.issuer.URL, "alice")}, user.Extra[tenant.ExtraUserID])
}

func (w *world) testRefused(t *testing.T) {
	_, err := w.site.AddUser(t.Context(), "system:masters", openstack.CMS)
	require.NoError(t, err)
	claims := w.issuer.Claims("others")
	good := w.login(t, openstack.Zangrand, openstack.CMS).Token
	for name, token := range map[string]string{
		"unscoped":           w.login(t, openstack.Zangrand, "").Token,
		"named like masters": w.login(t, "system:masters", openstack.CMS).Token,
		"for others":         w.used(w.issuer.Sign(t, claims)),
		"cut":                good[:len(good)-2],
		"made up":            "gAAAA" + strings.Repeat("x", 200),
		"word":               "opensesame",
	} {
		_, problem := w.whoami(t, token)
		assert.Contains(t, problem, "must be logged in", name)
	}
}

func (w *world) testRights(t *testing.T) {
	session := w.login(t, openstack.Zangrand, openstack.CMS)
	admin := w.cluster.Client()
	_, err := admin.RbacV1().Roles("default").Create(t.Context(), &rbacv1.Role{
		ObjectMeta: metav1.ObjectMeta{Name: "members"},
		Rules:      []rbacv1.PolicyRule{{APIGroups: []string{""}, Resources: []string{"pods"}, Verbs: []string{"list"}}},
	}, metav1.CreateOptions{})
	require.NoError(t, err)
	binding := &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "members"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: "members"},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.GroupKind, Name: tenant.ProjectGroup(session.ProjectID)}},
	}
	_, err = admin.RbacV1().RoleBindings("default").Create(t.Context(), binding, metav1.CreateOptions{})
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		_, err := w.client(t, session.Token).CoreV1().Pods("default").List(t.Context(), metav1.ListOptions{})
		return err == nil
	}, 20*time.Second, 100*time.Millisecond)
	// The same user's login to another project (A62).
	other := w.login(t, openstack.Zangrand, openstack.QST)
	_, err = w.client(t, other.Token).CoreV1().Pods("default").List(t.Context(), metav1.ListOptions{})
	require.ErrorContains(t, err, "forbidden")
}

func (w *world) testRevoked(t *testing.T) {
	session := w.login(t, openstack.Zangrand, openstack.CMS)
	_, problem := w.whoami(t, session.Token)
	require.Empty(t, problem)
	admin, err := w.site.Admin(t.Context())
	require.NoError(t, err)
	request, err := http.NewRequestWithContext(t.Context(), http.MethodDelete, w.site.AuthURL()+"/auth/tokens", http.NoBody)
	require.NoError(t, err)
	request.Header.Set("X-Auth-Token", admin.Token)
	request.Header.Set("X-Subject-Token", session.Token)
	answer, err := (&http.Client{Transport: w.site.Transport(), Timeout: time.Minute}).Do(request)
	require.NoError(t, err)
	require.NoError(t, answer.Body.Close())
	began := time.Now()
	require.Eventually(t, func() bool {
		_, problem := w.whoami(t, session.Token)
		return problem != ""
	}, 60*time.Second, 500*time.Millisecond)
	t.Logf("refused %s after it was revoked, with 1 s of memory in the webhook and its caller", time.Since(began))
}

func (w *world) testClientCertificate(t *testing.T) {
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: w.ca.Pool(), MinVersion: tls.VersionTLS12}}
	defer transport.CloseIdleConnections()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://"+w.address+"/authenticate", strings.NewReader("{}"))
	require.NoError(t, err)
	answer, err := (&http.Client{Transport: transport, Timeout: 10 * time.Second}).Do(request)
	if err == nil {
		require.NoError(t, answer.Body.Close())
	}
	require.ErrorContains(t, err, "certificate required")
}

func (w *world) testLogs(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(w.cluster.Dir, "log", "kube-apiserver.log"))
	require.NoError(t, err)
	log := w.log.String()
	assert.Contains(t, log, "token accepted")
	assert.Contains(t, log, "token refused")
	for _, token := range w.tokens {
		assert.NotContains(t, log, token)
		assert.NotContains(t, string(text), token)
	}
}
