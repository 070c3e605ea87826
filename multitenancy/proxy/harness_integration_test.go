// SPDX-License-Identifier: Apache-2.0

//go:build integration

package proxy_test

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/cloudveneto/caas/internal/httpserver"
	"github.com/cloudveneto/caas/internal/httpserver/httpservertest"
	"github.com/cloudveneto/caas/internal/lab/kubetest"
	"github.com/cloudveneto/caas/internal/lab/manifest"
	"github.com/cloudveneto/caas/multitenancy/authz"
	"github.com/cloudveneto/caas/multitenancy/proxy"
	"github.com/cloudveneto/caas/multitenancy/tenant"
)

const soon = 20 * time.Second

// site is an API server with the authorization webhook and RBAC as deployed, and a proxy before it.
type site struct {
	*kubetest.Cluster
	front

	caFile string
}

func newSite(tb testing.TB) *site {
	tb.Helper()
	rules, err := authz.NewRules(tenant.DefaultPolicy(), authz.Options{})
	require.NoError(tb, err)
	ca, dir := httpservertest.NewCA(tb, "webhooks"), tb.TempDir()
	var authorizer http.Handler
	webhooks := serveWebhooks(tb, ca, dir, map[string]http.HandlerFunc{
		"/authenticate": reviewToken,
		authz.Path: func(w http.ResponseWriter, r *http.Request) {
			authorizer.ServeHTTP(w, r) // the API server starts before there is one, and asks nothing of tenants until then
		},
	})
	config, err := rules.AuthorizationConfiguration(webhookConfig(tb, ca, dir, "authz", webhooks+authz.Path))
	require.NoError(tb, err)
	s := &site{Cluster: kubetest.Start(tb, kubetest.Options{APIServerArgs: []string{
		"--authorization-config=" + httpservertest.Write(tb, dir, "authorization.yaml", config),
		"--authentication-token-webhook-config-file=" + webhookConfig(tb, ca, dir, "authn", webhooks+"/authenticate"),
		"--authentication-token-webhook-version=v1",
		"--disable-admission-plugins=ServiceAccount",
	}})}
	authorizer = startAuthorizer(tb, s.RESTConfig(), rules)
	s.furnish(tb)
	s.serve(tb)
	return s
}

func serveWebhooks(tb testing.TB, ca *httpservertest.CA, dir string, handlers map[string]http.HandlerFunc) string {
	tb.Helper()
	certificate, key := ca.Issue(tb, "webhooks")
	routes := http.NewServeMux()
	for path, handler := range handlers {
		routes.HandleFunc(path, handler)
	}
	server, err := httpserver.New(httpserver.Config{
		Address: "127.0.0.1:0", Handler: routes, GracePeriod: time.Second,
		TLS: &httpserver.TLS{
			CertFile: httpservertest.Write(tb, dir, "tls.crt", certificate), KeyFile: httpservertest.Write(tb, dir, "tls.key", key),
			ClientCAFile: httpservertest.Write(tb, dir, "ca.crt", ca.PEM()), RequireClientCert: true,
		},
	})
	require.NoError(tb, err)
	run(tb, server.Run)
	return "https://" + server.Addr().String()
}

// run runs something until the test has ended.
func run(tb testing.TB, task func(context.Context) error) {
	tb.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { assert.NoError(tb, task(ctx)) })
	tb.Cleanup(func() { cancel(); running.Wait() })
}

func webhookConfig(tb testing.TB, ca *httpservertest.CA, dir, name, server string) string {
	tb.Helper()
	certificate, key := ca.Issue(tb, "kube-apiserver")
	config := clientcmdapi.NewConfig()
	config.Clusters[name] = &clientcmdapi.Cluster{Server: server, CertificateAuthorityData: ca.PEM()}
	config.AuthInfos[name] = &clientcmdapi.AuthInfo{ClientCertificateData: certificate, ClientKeyData: key}
	config.Contexts[name] = &clientcmdapi.Context{Cluster: name, AuthInfo: name}
	config.CurrentContext = name
	path := filepath.Join(dir, name+".kubeconfig")
	require.NoError(tb, clientcmd.WriteToFile(*config, path))
	return path
}

func startAuthorizer(tb testing.TB, config *rest.Config, rules *authz.Rules) http.Handler {
	tb.Helper()
	client, err := metadata.NewForConfig(config)
	require.NoError(tb, err)
	kinds, err := discovery.NewDiscoveryClientForConfig(config)
	require.NoError(tb, err)
	index, err := authz.NewIndex(authz.IndexConfig{Metadata: client, Discovery: kinds, Wants: rules.Wants})
	require.NoError(tb, err)
	lookup, err := authz.NewLookup(authz.LookupConfig{Metadata: client, Version: index.Version})
	require.NoError(tb, err)
	authorizer, err := authz.New(authz.Config{Rules: rules, Facts: index, Objects: lookup, Metrics: prometheus.NewRegistry()})
	require.NoError(tb, err)
	run(tb, index.Run)
	require.Eventually(tb, index.Ready, soon, 20*time.Millisecond)
	return authorizer.Handler()
}

// furnish makes a project's namespace with objects of two members.
func (s *site) furnish(tb testing.TB) {
	tb.Helper()
	require.NoError(tb, manifest.Apply(tb.Context(), s.RESTConfig(), os.DirFS("../../deploy/kube-mt-authz"), "tenant-role.yaml"))
	_, err := s.Client().CoreV1().Namespaces().Create(tb.Context(), &corev1.Namespace{
		ObjectMeta: metav1.ObjectMeta{Name: space, Labels: map[string]string{tenant.LabelProjectID: project, tenant.LabelProjectName: "CMS"}},
	}, metav1.CreateOptions{})
	require.NoError(tb, err)
	_, err = s.Client().RbacV1().RoleBindings(space).Create(tb.Context(), bindingOf(project), metav1.CreateOptions{})
	require.NoError(tb, err)
}

func bindingOf(project string) *rbacv1.RoleBinding {
	return &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "mt-tenant"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "mt-tenant"},
		Subjects: []rbacv1.Subject{
			{APIGroup: rbacv1.GroupName, Kind: "Group", Name: tenant.ProjectGroup(project)},
			{APIGroup: rbacv1.GroupName, Kind: "Group", Name: "system:serviceaccounts:" + space},
		},
	}
}

// meta is that of an object as admission would label it.
func meta(name, owner string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Name: name, Namespace: space, Labels: tenant.Mark{UserID: owner, Project: tenant.Project{ID: project, Name: "CMS"}}.Labels()}
}

func (s *site) pod(tb testing.TB, name, owner string) {
	tb.Helper()
	_, err := s.Client().CoreV1().Pods(space).Create(tb.Context(), &corev1.Pod{
		ObjectMeta: meta(name, owner),
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "main", Image: "example.org/image"}}},
	}, metav1.CreateOptions{})
	require.NoError(tb, err)
}

func (s *site) configMap(tb testing.TB, name, owner string) {
	tb.Helper()
	_, err := s.Client().CoreV1().ConfigMaps(space).Create(tb.Context(), &corev1.ConfigMap{ObjectMeta: meta(name, owner)}, metav1.CreateOptions{})
	require.NoError(tb, err)
}

func (s *site) serve(tb testing.TB) {
	tb.Helper()
	config := s.RESTConfig()
	require.NoError(tb, rest.LoadTLSFiles(config))
	target, err := url.Parse(config.Host)
	require.NoError(tb, err)
	verify, err := rest.TLSConfigFor(config)
	require.NoError(tb, err)
	transport := proxy.NewTransport(verify.RootCAs)
	tb.Cleanup(transport.CloseIdleConnections)
	registry := prometheus.NewRegistry()
	handler, err := proxy.New(proxy.Config{Server: target, Transport: transport, Policy: tenant.DefaultPolicy(), Metrics: registry})
	require.NoError(tb, err)
	base, pool, caFile := serveTLS(tb, handler)
	s.front = frontOf(tb, base, pool, registry)
	s.caFile = caFile
}

// kubectl runs the real one as a user, through the proxy.
func (s *site) kubectl(tb testing.TB, token string, args ...string) (stdout, stderr string, err error) {
	tb.Helper()
	command := s.command(tb.Context(), tb, token, args...)
	var out, problems bytes.Buffer
	command.Stdout, command.Stderr = &out, &problems
	err = command.Run()
	return out.String(), problems.String(), err
}

func (s *site) command(ctx context.Context, tb testing.TB, token string, args ...string) *exec.Cmd {
	tb.Helper()
	config := clientcmdapi.NewConfig()
	config.Clusters["caas"] = &clientcmdapi.Cluster{Server: s.url, CertificateAuthority: s.caFile}
	config.AuthInfos[token] = &clientcmdapi.AuthInfo{Token: token}
	config.Contexts["cms"] = &clientcmdapi.Context{Cluster: "caas", AuthInfo: token, Namespace: space}
	config.CurrentContext = "cms"
	path := filepath.Join(s.Dir, token+"-"+filepath.Base(filepath.Dir(s.caFile))+".kubeconfig")
	require.NoError(tb, clientcmd.WriteToFile(*config, path))
	kubectl := filepath.Join(s.ControlPlane().Config().BinDir, "kubectl")
	command := exec.CommandContext(ctx, kubectl, append([]string{"--kubeconfig", path, "--cache-dir", s.Dir + "/kubectl-cache"}, args...)...)
	command.Env = append(os.Environ(), "HOME="+s.Dir)
	return command
}

// reviewToken is kube-mt-authn for users who are what their tokens say.
func reviewToken(w http.ResponseWriter, r *http.Request) {
	review := authenticationv1.TokenReview{}
	if err := json.NewDecoder(r.Body).Decode(&review); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	user, known := people()[review.Spec.Token]
	known = known && len(user.Extra) > 0
	review.Status = authenticationv1.TokenReviewStatus{Authenticated: known}
	if known {
		extra := map[string]authenticationv1.ExtraValue{}
		for key, values := range user.Extra {
			extra[key] = values
		}
		review.Status.User = authenticationv1.UserInfo{Username: user.Name, UID: user.UID, Groups: user.Groups, Extra: extra}
	}
	if err := json.NewEncoder(w).Encode(review); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
	}
}
