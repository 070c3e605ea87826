// SPDX-License-Identifier: Apache-2.0

//go:build integration

package main_test

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/cloudveneto/caas/internal/httpserver/httpservertest"
	"github.com/cloudveneto/caas/internal/lab/kubetest"
	"github.com/cloudveneto/caas/internal/programtest"
	"github.com/cloudveneto/caas/multitenancy/tenant"
)

const (
	alice, bob = "a11ce000000000000000000000000000", "b0b00000000000000000000000000000"
	project    = "c0ffee00000000000000000000000000"
	namespace  = "cms"
	soon       = 20 * time.Second
)

// program is the real one before a real API server.
type program struct {
	*kubetest.Cluster

	tb       testing.TB
	url, ops string
	client   *http.Client
	process  *programtest.Process
	token    string
}

func start(tb testing.TB) *program {
	tb.Helper()
	p := &program{Cluster: kubetest.Start(tb, kubetest.Options{}), tb: tb, ops: programtest.FreeAddress(tb)}
	p.furnish()
	config := p.RESTConfig()
	require.NoError(tb, rest.LoadTLSFiles(config))
	ca, dir, address := httpservertest.NewCA(tb, "proxy"), tb.TempDir(), programtest.FreeAddress(tb)
	certificate, key := ca.Issue(tb, "proxy")
	p.url = "https://" + address
	file := fmt.Sprintf("listen: %s\nopsListen: %s\ntls: {certFile: %s, keyFile: %s}\nserver: {url: %q, caFile: %s}\n",
		address, p.ops, httpservertest.Write(tb, dir, "tls.crt", certificate), httpservertest.Write(tb, dir, "tls.key", key),
		config.Host, httpservertest.Write(tb, dir, "ca.crt", config.CAData))
	p.client = &http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: ca.Pool(), MinVersion: tls.VersionTLS12}, ForceAttemptHTTP2: true,
	}}
	tb.Cleanup(p.client.CloseIdleConnections)
	p.process = programtest.Start(tb, binary.Command(tb, "--config", httpservertest.Write(tb, dir, "proxy.yaml", []byte(file))))
	require.Eventually(tb, func() bool {
		answer, err := p.client.Get("http://" + p.ops + "/readyz") //nolint:noctx // a test's
		if err != nil {
			return false
		}
		defer answer.Body.Close()
		return answer.StatusCode == http.StatusOK
	}, soon, 20*time.Millisecond)
	return p
}

// furnish makes a project's namespace, a robot of Alice, and objects of hers and of Bob's.
func (p *program) furnish() {
	ctx, core := p.tb.Context(), p.Client().CoreV1()
	labels := func(owner string) map[string]string {
		return tenant.Mark{UserID: owner, Project: tenant.Project{ID: project, Name: "CMS"}}.Labels()
	}
	_, err := core.Namespaces().Create(ctx, &corev1.Namespace{
		ObjectMeta: metav1.ObjectMeta{Name: namespace, Labels: map[string]string{tenant.LabelProjectID: project, tenant.LabelProjectName: "CMS"}},
	}, metav1.CreateOptions{})
	require.NoError(p.tb, err)
	_, err = p.Client().RbacV1().RoleBindings(namespace).Create(ctx, &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "robots"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "cluster-admin"},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: "Group", Name: "system:serviceaccounts:" + namespace}},
	}, metav1.CreateOptions{})
	require.NoError(p.tb, err)
	_, err = core.ServiceAccounts(namespace).Create(ctx, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "robot", Labels: labels(alice)}}, metav1.CreateOptions{})
	require.NoError(p.tb, err)
	made, err := core.ServiceAccounts(namespace).CreateToken(ctx, "robot", &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
	require.NoError(p.tb, err)
	p.token = made.Status.Token
	for name, owner := range map[string]string{"c-a": alice, "c-b": bob} {
		_, err := core.ConfigMaps(namespace).Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels(owner)}}, metav1.CreateOptions{})
		require.NoError(p.tb, err)
	}
}

func (p *program) open(path string) *http.Response {
	p.tb.Helper()
	request, err := http.NewRequestWithContext(p.tb.Context(), http.MethodGet, p.url+path, http.NoBody)
	require.NoError(p.tb, err)
	request.Header.Set("Authorization", "Bearer "+p.token)
	answer, err := p.client.Do(request)
	require.NoError(p.tb, err)
	return answer
}

func (p *program) get(path string) (int, string) {
	p.tb.Helper()
	answer := p.open(path)
	defer answer.Body.Close()
	content, err := io.ReadAll(answer.Body)
	require.NoError(p.tb, err)
	return answer.StatusCode, string(content)
}

func TestIntegrationProgram(t *testing.T) {
	p := start(t)
	code, body := p.get("/api/v1/namespaces/cms/configmaps")
	require.Equal(t, http.StatusOK, code, body)
	assert.Contains(t, body, "c-a")
	assert.NotContains(t, body, "c-b", "the robot could see it, and asked for what is its owner's")
	code, body = p.get("/mt/v1/whoami")
	require.Equal(t, http.StatusOK, code, body)
	assert.Contains(t, body, `"namespace":"cms"`)

	watch := p.open("/api/v1/namespaces/cms/configmaps?watch=true&resourceVersion=0")
	defer watch.Body.Close()
	event, err := bufio.NewReader(watch.Body).ReadString('\n')
	require.NoError(t, err)
	assert.Contains(t, event, "c-a")

	began := time.Now()
	require.NoError(t, p.process.End(syscall.SIGTERM), "a watch does not hold the end up")
	assert.Less(t, time.Since(began), 5*time.Second)
	assert.NotContains(t, p.process.String(), p.token)
	assert.NotContains(t, p.process.String(), "level=ERROR")
}
