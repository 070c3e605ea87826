// SPDX-License-Identifier: Apache-2.0

//go:build integration

package oidc_test

import (
	"context"
	"encoding/pem"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/cloudveneto/caas/internal/lab/kubetest"
	"github.com/cloudveneto/caas/multitenancy/oidc"
	"github.com/cloudveneto/caas/multitenancy/oidc/oidctest"
	"github.com/cloudveneto/caas/multitenancy/tenant"
)

// An API server is an OpenID provider too: of its ServiceAccounts.
const (
	serverIssuer = "https://kubernetes.default.svc.cluster.local"
	keysURI      = serverIssuer + "/openid/v1/jwks"
)

// conform is what the stand-in has to do like a real provider.
func conform(t *testing.T, from oidc.Issuer, sign func(audience string) string) tenant.Login {
	t.Helper()
	v := verifier(t, from, nil)
	require.NoError(t, contextual(t, v))
	token := sign(audience)
	name, known := v.Issuer(token)
	assert.True(t, known)
	assert.Equal(t, from.URL, name)
	got, err := v.Verify(t.Context(), token)
	require.NoError(t, err)
	assert.Equal(t, from.URL+"#"+got.DisplayName, got.UID)
	assert.Equal(t, tenant.EncodeSubject(from.URL, got.DisplayName), got.Owner)
	assert.True(t, got.Expires.After(time.Now()))

	_, err = v.Verify(t.Context(), sign("others"))
	assert.Equal(t, oidc.ReasonAudience, reason(err), "%v", err)
	_, err = v.Verify(t.Context(), token[:len(token)-20]+"AAAAAAAAAAAAAAAAAAAA")
	assert.Equal(t, oidc.ReasonSignature, reason(err), "%v", err)
	return got
}

// contextual runs the verifier for a moment, as a program does.
func contextual(t *testing.T, v *oidc.Verifier) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	return v.Run(ctx)
}

func TestIntegrationStandInConforms(t *testing.T) {
	server := oidctest.Start(t)
	conform(t, issuer(server), func(audience string) string { return server.Sign(t, server.Claims(audience)) })
}

func TestIntegrationAPIServer(t *testing.T) {
	server := oidctest.Start(t)
	mapped := issuer(server)
	mapped.CAData = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}))
	mapped.UserNameClaim, mapped.UserNamePrefix = "preferred_username", "iam:"
	mapped.Profile, mapped.GroupsPrefix = oidc.WLCG, "iam:"
	mapped.RequiredClaims = map[string]string{"acr": "2fa"}
	mapped.Projects = []oidc.Project{
		{Group: "/cms", ID: "p1", Name: "CMS"},
		{Group: "/cms/admins", ID: "p1", Name: "CMS", Roles: []string{"manager"}},
		{Group: "/qst", ID: "p2", Name: "QST"},
	}
	configuration, err := oidc.Config{Issuers: []oidc.Issuer{mapped}}.AuthenticationConfiguration()
	require.NoError(t, err)
	file := filepath.Join(t.TempDir(), "authentication.yaml")
	require.NoError(t, os.WriteFile(file, configuration, 0o600))
	cluster := kubetest.Start(t, kubetest.Options{APIServerArgs: []string{
		"--authentication-config=" + file, "--service-account-jwks-uri=" + keysURI,
	}})
	t.Cleanup(func() {
		if t.Failed() {
			text, _ := os.ReadFile(filepath.Join(cluster.Dir, "log", "kube-apiserver.log"))
			t.Logf("kube-apiserver:\n%s", text[max(0, len(text)-4000):])
		}
	})
	t.Run("is a provider", func(t *testing.T) { testRealProvider(t, cluster) })
	t.Run("verifies itself", func(t *testing.T) { testStructured(t, cluster, server, mapped) })
}

func testRealProvider(t *testing.T, cluster *kubetest.Cluster) {
	config := cluster.RESTConfig()
	address, err := url.Parse(config.Host)
	require.NoError(t, err)
	config.Dial = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, address.Host)
	}
	transport, err := rest.TransportFor(config)
	require.NoError(t, err)
	client := cluster.Client()
	_, err = client.CoreV1().ServiceAccounts("default").Create(t.Context(), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "robot"}}, metav1.CreateOptions{})
	require.NoError(t, err)
	login := conform(t, oidc.Issuer{URL: serverIssuer, Transport: transport, Audiences: []string{audience}}, func(audience string) string {
		made, err := client.CoreV1().ServiceAccounts("default").CreateToken(t.Context(), "robot", &authenticationv1.TokenRequest{
			Spec: authenticationv1.TokenRequestSpec{Audiences: []string{audience}, ExpirationSeconds: new(int64(3600))},
		}, metav1.CreateOptions{})
		require.NoError(t, err)
		return made.Status.Token
	})
	// What is a ServiceAccount there is none here.
	_, err = login.User()
	assert.Equal(t, tenant.ReasonName, reason(err), "%v", err)
}

// testStructured compares what the API server makes of a token with what this package does.
func testStructured(t *testing.T, cluster *kubetest.Cluster, server *oidctest.Server, from oidc.Issuer) {
	v := verifier(t, from, nil)
	for name, test := range map[string]struct {
		change  func(oidctest.Object)
		refused bool
	}{
		"one project":       {change: func(c oidctest.Object) { c["wlcg.groups"] = []string{"/cms", "/cms/admins", "/other"} }},
		"two projects":      {change: func(c oidctest.Object) { c["wlcg.groups"] = []string{"/cms", "/qst"} }},
		"one group as text": {change: func(c oidctest.Object) { c["wlcg.groups"] = "/qst" }},
		"no groups":         {change: func(oidctest.Object) {}},
		"access token":      {change: func(c oidctest.Object) { c["scope"] = "openid" }, refused: true},
		"too long":          {change: func(c oidctest.Object) { c["exp"] = time.Now().Add(48 * time.Hour).Unix() }, refused: true},
		"other profile":     {change: func(c oidctest.Object) { c["wlcg.ver"] = "2.0" }, refused: true},
		"required claim":    {change: func(c oidctest.Object) { c["acr"] = "1fa" }, refused: true},
		"other audience":    {change: func(c oidctest.Object) { c["aud"] = "others" }, refused: true},
	} {
		t.Run(name, func(t *testing.T) {
			claims := server.Claims(audience)
			claims["preferred_username"], claims["wlcg.ver"], claims["acr"] = "alice", "1.0", "2fa"
			test.change(claims)
			token := server.Sign(t, claims)
			login, err := v.Verify(t.Context(), token)
			config := rest.AnonymousClientConfig(cluster.RESTConfig())
			config.BearerToken = token
			client, clientErr := kubernetes.NewForConfig(config)
			require.NoError(t, clientErr)
			var review *authenticationv1.SelfSubjectReview
			var reviewErr error
			ask := func() bool {
				review, reviewErr = client.AuthenticationV1().SelfSubjectReviews().Create(t.Context(), &authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{})
				return reviewErr == nil
			}
			if test.refused {
				assert.NotEmpty(t, reason(err), "%v", err)
				assert.False(t, ask())
				return
			}
			require.NoError(t, err)
			require.Eventually(t, ask, 30*time.Second, 100*time.Millisecond, "the API server reads the provider's keys in its own time: %v", reviewErr)
			want, err := login.User()
			require.NoError(t, err)
			got := review.Status.UserInfo
			assert.Equal(t, want.Name, got.Username)
			assert.Equal(t, want.UID, got.UID)
			assert.ElementsMatch(t, append(want.Groups, "system:authenticated"), got.Groups)
			same := tenant.User{Name: got.Username, UID: got.UID, Groups: got.Groups, Extra: map[string][]string{}}
			for key, values := range got.Extra {
				same.Extra[key] = values
			}
			one, other := tenant.IdentityOf(want), tenant.IdentityOf(same)
			for _, roles := range []map[string][]string{one.Roles, other.Roles} {
				for _, names := range roles {
					slices.Sort(names)
				}
			}
			assert.Equal(t, one, other, "whoever verified the token, it is the same tenant")
		})
	}
}
