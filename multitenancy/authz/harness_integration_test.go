// SPDX-License-Identifier: Apache-2.0

//go:build integration

package authz_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	authenticationv1 "k8s.io/api/authentication/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/cloudveneto/caas/internal/httpserver"
	"github.com/cloudveneto/caas/internal/lab/kube"
	"github.com/cloudveneto/caas/internal/lab/kubetest"
	"github.com/cloudveneto/caas/multitenancy/authz"
	"github.com/cloudveneto/caas/multitenancy/tenant"
)

const (
	carol = "ca401000000000000000000000000000" // of the other project
	soon  = 20 * time.Second
	tick  = 20 * time.Millisecond
)

// people are the users whose tokens are their names.
func people() map[string]tenant.User {
	return map[string]tenant.User{
		"alice": userOf(alice, project, "member"), "bob": userOf(bob, project, "member"), "carol": userOf(carol, other, "member"),
		"stranger": {Name: "stranger", UID: "x", Groups: []string{tenant.GroupAuthenticated}},
	}
}

// site is an API server with the webhook. RBAC allows tenants everything, so what is denied the webhook has denied.
type site struct {
	*kubetest.Cluster

	t       *testing.T
	rules   *authz.Rules
	handler *swap
	address string
	pki     pki
	stop    func()
}

// swap is a handler that can be changed while it serves.
type swap struct{ now atomic.Pointer[http.Handler] }

func (s *swap) set(handler http.Handler) { s.now.Store(&handler) }

func (s *swap) ServeHTTP(w http.ResponseWriter, r *http.Request) { (*s.now.Load()).ServeHTTP(w, r) }

// pki are the files of one authority, which server and client certificates are from.
type pki struct {
	dir string
	ca  *kube.CA
}

func newPKI(t *testing.T) pki {
	t.Helper()
	ca, _, err := kube.NewCA("webhooks")
	require.NoError(t, err)
	p := pki{t.TempDir(), ca}
	server, err := ca.Serving("webhook", "127.0.0.1")
	require.NoError(t, err)
	client, err := ca.Client("kube-apiserver")
	require.NoError(t, err)
	for name, content := range map[string][]byte{
		"ca.crt": ca.PEM, "server.crt": server.Cert, "server.key": server.Key, "client.crt": client.Cert, "client.key": client.Key,
	} {
		require.NoError(t, os.WriteFile(p.path(name), content, 0o600))
	}
	return p
}

func (p pki) path(name string) string { return filepath.Join(p.dir, name) }

// serve starts a server with the webhooks' TLS; it ends with the test or by stop.
func (p pki) serve(t *testing.T, address string, handler http.Handler) (at string, stop func()) {
	t.Helper()
	server, err := httpserver.New(httpserver.Config{
		Address: address, Handler: handler, GracePeriod: time.Second,
		TLS: &httpserver.TLS{CertFile: p.path("server.crt"), KeyFile: p.path("server.key"), ClientCAFile: p.path("ca.crt"), RequireClientCert: true},
	})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { assert.NoError(t, server.Run(ctx)) })
	stop = func() { cancel(); running.Wait() }
	t.Cleanup(stop)
	return server.Addr().String(), stop
}

// kubeconfig is how the API server calls a webhook.
func (p pki) kubeconfig(t *testing.T, name, url string) string {
	t.Helper()
	config := clientcmdapi.NewConfig()
	config.Clusters["webhook"] = &clientcmdapi.Cluster{Server: url, CertificateAuthority: p.path("ca.crt")}
	config.AuthInfos["apiserver"] = &clientcmdapi.AuthInfo{ClientCertificate: p.path("client.crt"), ClientKey: p.path("client.key")}
	config.Contexts["webhook"] = &clientcmdapi.Context{Cluster: "webhook", AuthInfo: "apiserver"}
	config.CurrentContext = "webhook"
	require.NoError(t, clientcmd.WriteToFile(*config, p.path(name)))
	return p.path(name)
}

func newSite(t *testing.T, policy tenant.Policy) *site {
	t.Helper()
	rules, err := authz.NewRules(policy, authz.Options{})
	require.NoError(t, err)
	s := &site{t: t, rules: rules, handler: &swap{}, pki: newPKI(t)}
	s.handler.set(http.NotFoundHandler())
	s.address, s.stop = s.pki.serve(t, "127.0.0.1:0", s.handler)
	tokens, _ := s.pki.serve(t, "127.0.0.1:0", http.HandlerFunc(reviewToken))
	config, err := rules.AuthorizationConfiguration(s.pki.kubeconfig(t, "authz.kubeconfig", "https://"+s.address+authz.Path))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(s.pki.path("authorization.yaml"), config, 0o600))
	s.Cluster = kubetest.Start(t, kubetest.Options{APIServerArgs: []string{
		"--authorization-config=" + s.pki.path("authorization.yaml"),
		"--authentication-token-webhook-config-file=" + s.pki.kubeconfig(t, "authn.kubeconfig", "https://"+tokens),
		"--authentication-token-webhook-version=v1",
	}})
	_, err = s.Client().RbacV1().ClusterRoleBindings().Create(t.Context(), &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "tenants-may-everything"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "cluster-admin"},
		Subjects: []rbacv1.Subject{
			{APIGroup: rbacv1.GroupName, Kind: "Group", Name: tenant.GroupAuthenticated},
			{APIGroup: rbacv1.GroupName, Kind: "Group", Name: "system:serviceaccounts:" + space},
		},
	}, metav1.CreateOptions{})
	require.NoError(t, err)
	s.authorize()
	return s
}

// authorize starts index and lookups, and serves their decisions when they are ready.
func (s *site) authorize() {
	s.t.Helper()
	index, authorizer := s.authorizer(s.RESTConfig(), s.RESTConfig(), 0)
	s.handler.set(authorizer.Handler())
	require.Eventually(s.t, index.Ready, soon, tick)
}

// authorizer makes one that runs until the test ends. watching and asking are its two ways to the API server.
func (s *site) authorizer(watching, asking *rest.Config, stale time.Duration) (*authz.Index, *authz.Authorizer) {
	s.t.Helper()
	watcher, err := metadata.NewForConfig(watching)
	require.NoError(s.t, err)
	kinds, err := discovery.NewDiscoveryClientForConfig(watching)
	require.NoError(s.t, err)
	asker, err := metadata.NewForConfig(asking)
	require.NoError(s.t, err)
	index, err := authz.NewIndex(authz.IndexConfig{Metadata: watcher, Discovery: kinds, Wants: s.rules.Wants, Stale: stale})
	require.NoError(s.t, err)
	lookup, err := authz.NewLookup(authz.LookupConfig{Metadata: asker, Version: index.Version})
	require.NoError(s.t, err)
	authorizer, err := authz.New(authz.Config{Rules: s.rules, Facts: index, Objects: lookup, Metrics: prometheus.NewRegistry()})
	require.NoError(s.t, err)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { assert.NoError(s.t, index.Run(ctx)) })
	s.t.Cleanup(func() { cancel(); running.Wait() })
	return index, authorizer
}

// reviewToken is kube-mt-authn for users who are what their tokens say.
func reviewToken(w http.ResponseWriter, r *http.Request) {
	review := authenticationv1.TokenReview{}
	if err := json.NewDecoder(r.Body).Decode(&review); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	user, known := people()[review.Spec.Token]
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

// answer is what the API server says.
type answerOf struct {
	code int
	body string
}

// request sends one as a user; headers are pairs. A body that begins with { is JSON.
func (s *site) request(token, method, path, body string, headers ...string) answerOf {
	s.t.Helper()
	config := rest.AnonymousClientConfig(s.RESTConfig())
	config.BearerToken = token
	client, err := rest.HTTPClientFor(config)
	require.NoError(s.t, err)
	ctx, cancel := context.WithTimeout(s.t.Context(), 30*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, config.Host, bytes.NewBufferString(body))
	require.NoError(s.t, err)
	// The path is sent as it is, odd or not.
	at, query, _ := strings.Cut(path, "?")
	request.URL.Opaque, request.URL.RawQuery = "//"+request.URL.Host+at, query
	if body != "" {
		request.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	response, err := client.Do(request)
	require.NoError(s.t, err)
	defer response.Body.Close()
	// A watch has no end.
	content, _ := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	return answerOf{response.StatusCode, string(content)}
}

// denied asserts that it was the webhook.
func denied(t *testing.T, got answerOf) {
	t.Helper()
	assert.Equal(t, http.StatusForbidden, got.code, got.body)
	assert.Contains(t, got.body, "mt: ")
}

func clientOf(t *testing.T, kubeconfig string) *kubernetes.Clientset {
	t.Helper()
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	require.NoError(t, err)
	client, err := kubernetes.NewForConfig(config)
	require.NoError(t, err)
	return client
}
