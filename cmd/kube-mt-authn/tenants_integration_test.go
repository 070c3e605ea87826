// SPDX-License-Identifier: Apache-2.0

//go:build integration

package main_test

import (
	"bytes"
	"crypto/tls"
	"encoding/pem"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cloudveneto/caas/internal/httpserver/httpservertest"
	"github.com/cloudveneto/caas/internal/lab/kubetest"
	"github.com/cloudveneto/caas/internal/lab/manifest"
	"github.com/cloudveneto/caas/internal/programtest"
	"github.com/cloudveneto/caas/multitenancy/keystone/keystonetest"
	"github.com/cloudveneto/caas/multitenancy/tenant"
)

// TestIntegrationFirstLogin has the first member of a project log in, whose namespace the program then makes.
func TestIntegrationFirstLogin(t *testing.T) {
	cluster := kubetest.Start(t, kubetest.Options{})
	require.NoError(t, manifest.Apply(t.Context(), cluster.RESTConfig(), os.DirFS("../../deploy"),
		"kube-mt-authn/tenants-rbac.yaml", "kube-mt-authz/tenant-role.yaml", "osnode/tenant-role.yaml"))
	provider := keystonetest.Start(t)
	token := keystonetest.Fernet()
	provider.Add(token, keystonetest.Token())
	address, client := startForTenants(t, provider, cluster.Kubeconfig("system:kube-mt-tenants"))

	began := time.Now()
	body := fmt.Sprintf(`{"apiVersion":"authentication.k8s.io/v1","kind":"TokenReview","spec":{"token":%q}}`, token)
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://"+address+"/authenticate", bytes.NewBufferString(body))
	require.NoError(t, err)
	answer, err := client.Do(request)
	require.NoError(t, err)
	require.NoError(t, answer.Body.Close())
	t.Logf("answered after %s", time.Since(began))

	// The member may do in the namespace what both roles grant, and nobody else may.
	may := func(group, kind, member string) bool {
		review, err := cluster.Client().AuthorizationV1().SubjectAccessReviews().Create(t.Context(), &authorizationv1.SubjectAccessReview{
			Spec: authorizationv1.SubjectAccessReviewSpec{User: "x", Groups: []string{member}, ResourceAttributes: &authorizationv1.ResourceAttributes{
				Namespace: "cms", Verb: "create", Group: group, Resource: kind,
			}},
		}, metav1.CreateOptions{})
		return assert.NoError(t, err) && review.Status.Allowed
	}
	members := tenant.ProjectGroup("55158de200964f7c8aa5ca486e6cb7ea")
	require.Eventually(t, func() bool { return may("", "pods", members) && may("osnode.infn.it", "openstacknodes", members) }, 20*time.Second, 5*time.Millisecond)
	t.Logf("usable after %s", time.Since(began))
	assert.False(t, may("", "pods", tenant.ProjectGroup("another")))
	// The first role is enough for that. What the namespace gets besides comes after it: the other's binding, and the quota.
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		bindings, err := cluster.Client().RbacV1().RoleBindings("cms").List(t.Context(), metav1.ListOptions{})
		require.NoError(c, err)
		assert.Len(c, bindings.Items, 2)
	}, 20*time.Second, 20*time.Millisecond)
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		_, err := cluster.Client().CoreV1().ResourceQuotas("cms").Get(t.Context(), "project", metav1.GetOptions{})
		assert.NoError(c, err)
	}, 20*time.Second, 20*time.Millisecond)
}

// startForTenants starts the program with a section tenants, and returns where it is and who may ask it.
func startForTenants(t *testing.T, provider *keystonetest.Server, kubeconfig string) (string, *http.Client) {
	t.Helper()
	dir, ca := t.TempDir(), httpservertest.NewCA(t, "webhooks")
	certificate, key := ca.Issue(t, "authn")
	address := programtest.FreeAddress(t)
	templates, err := filepath.Abs("../../deploy/kube-mt-authn/namespace.yaml")
	require.NoError(t, err)
	authority := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: provider.Certificate().Raw})
	file := fmt.Sprintf("listen: %s\ntls: {certFile: %s, keyFile: %s, clientCAFile: %s}\nkeystone: {authURL: %q, caFile: %s}\n"+
		"tenants: {kubeconfig: %s, templates: [%s]}\n",
		address, httpservertest.Write(t, dir, "tls.crt", certificate), httpservertest.Write(t, dir, "tls.key", key),
		httpservertest.Write(t, dir, "ca.crt", ca.PEM()), provider.AuthURL(), httpservertest.Write(t, dir, "keystone.crt", authority), kubeconfig, templates)
	process := programtest.Start(t, binary.Command(t, "--config", httpservertest.Write(t, dir, "authn.yaml", []byte(file)), "--ops-listen="))
	t.Cleanup(func() { assert.NoError(t, process.End(syscall.SIGINT)) })
	client := &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{
		RootCAs: ca.Pool(), Certificates: []tls.Certificate{ca.Pair(t, "kube-apiserver")}, MinVersion: tls.VersionTLS12,
	}}}
	t.Cleanup(client.CloseIdleConnections)
	require.Eventually(t, func() bool {
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", address)
		return err == nil && conn.Close() == nil
	}, 20*time.Second, 20*time.Millisecond)
	return address, client
}
