// SPDX-License-Identifier: Apache-2.0

package api_test

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coreos/go-oidc/v3/oidc/oidctest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/cloudveneto/caas/internal/httpserver"
	"github.com/cloudveneto/caas/internal/httpserver/httpservertest"
	"github.com/cloudveneto/caas/internal/interlink"
	"github.com/cloudveneto/caas/sidecar/api"
)

func withToken(t *testing.T, token string) *http.Request {
	t.Helper()
	request := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/pinglink", nil)
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	return request
}

func TestStaticTokens(t *testing.T) {
	t.Parallel()
	directory := t.TempDir()
	file := httpservertest.Write(t, directory, "tokens", []byte("# virtual kubelets\n\n0123456789abcdef,af-one\n fedcba9876543210 , af-two \n"))
	tokens, err := api.NewTokens(file)
	require.NoError(t, err)
	for token, want := range map[string]string{
		"0123456789abcdef": "af-one", "fedcba9876543210": "af-two",
		"": "", "0123456789abcde": "", "0123456789abcdef,af-one": "", "#": "",
	} {
		name, err := tokens.Authenticate(withToken(t, token))
		assert.Equal(t, want, name)
		assert.Equal(t, want == "", errors.Is(err, api.ErrUnauthenticated))
		if err != nil && token != "" {
			assert.NotContains(t, err.Error(), token+"x")
		}
	}
	httpservertest.Write(t, directory, "tokens", []byte("broken"))
	<-time.NewTimer(1100 * time.Millisecond).C
	name, err := tokens.Authenticate(withToken(t, "0123456789abcdef"))
	require.NoError(t, err, "a broken file leaves the tokens as they were")
	assert.Equal(t, "af-one", name)
	httpservertest.Write(t, directory, "tokens", []byte("fedcba9876543210,af-two"))
	require.Eventually(t, func() bool {
		_, err := tokens.Authenticate(withToken(t, "0123456789abcdef"))
		return errors.Is(err, api.ErrUnauthenticated)
	}, 10*time.Second, 100*time.Millisecond, "a removed line revokes the token")
}

func TestTokenFilesThatAreRefused(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ content, want string }{
		"no name":   {"0123456789abcdef", "line 1: want token,name"},
		"no token":  {"\n,name", "line 2: want token,name"},
		"too short": {"secret,name", "line 1: the token is shorter than 16 characters"},
		"not ASCII": {"0123456789abcdef,näme", "line 1: want token,name in printable ASCII"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := api.NewTokens(httpservertest.Write(t, t.TempDir(), "tokens", []byte(test.content)))
			require.ErrorContains(t, err, test.want)
			assert.NotContains(t, err.Error(), "0123456789abcdef")
		})
	}
}

func TestAnyOf(t *testing.T) {
	t.Parallel()
	named := func(name string) api.Authenticator {
		return func(*http.Request) (string, error) { return name, nil }
	}
	no := func(*http.Request) (string, error) { return "", api.ErrUnauthenticated }
	doubt := func(*http.Request) (string, error) { return "", errors.New("issuer is away") }
	for name, test := range map[string]struct {
		methods []api.Authenticator
		want    string
		no      bool
	}{
		"first that knows":   {[]api.Authenticator{no, doubt, named("a"), named("b")}, "a", false},
		"nobody knows":       {[]api.Authenticator{no, no}, "", true},
		"somebody can't say": {[]api.Authenticator{no, doubt}, "", false},
		"dangerous name":     {[]api.Authenticator{named("a\r\nX: y")}, "", true},
		"empty name":         {[]api.Authenticator{named("")}, "", true},
		"no methods":         {nil, "", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := api.AnyOf(test.methods...)(withToken(t, ""))
			assert.Equal(t, test.want, got)
			assert.Equal(t, test.want == "", err != nil)
			assert.Equal(t, test.no, errors.Is(err, api.ErrUnauthenticated))
		})
	}
}

// provider is a real OpenID provider's discovery and keys, with switches.
type provider struct {
	*httptest.Server

	fetches atomic.Int32
	down    atomic.Bool
	mu      sync.Mutex
	oidc    *oidctest.Server
	key     *rsa.PrivateKey
	keyID   string
}

func newProvider(t *testing.T) *provider {
	t.Helper()
	p := &provider{}
	p.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.fetches.Add(1)
		if p.down.Load() {
			http.Error(w, "down", http.StatusBadGateway)
			return
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		p.oidc.ServeHTTP(w, r)
	}))
	t.Cleanup(p.Close)
	p.rotate(t, "one")
	return p
}

func (p *provider) rotate(t *testing.T, keyID string) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.key, p.keyID = key, keyID
	p.oidc = &oidctest.Server{PublicKeys: []oidctest.PublicKey{{PublicKey: key.Public(), KeyID: keyID, Algorithm: "RS256"}}}
	p.oidc.SetIssuer(p.URL)
}

func (p *provider) token(t *testing.T, changes map[string]any) string {
	t.Helper()
	claims := map[string]any{
		"iss": p.URL, "aud": "interlink", "sub": "user-1", "exp": time.Now().Add(time.Hour).Unix(),
		"iat": time.Now().Unix(), "groups": []string{"offload", "other"}, "org": "infn",
	}
	maps.Copy(claims, changes)
	return p.sign(t, p.key, claims)
}

func (p *provider) sign(t *testing.T, key crypto.PrivateKey, claims map[string]any) string {
	t.Helper()
	encoded, err := json.Marshal(claims)
	require.NoError(t, err)
	return oidctest.SignIDToken(key, p.keyID, "RS256", string(encoded))
}

func (p *provider) issuer() api.Issuer {
	client := p.Client()
	client.Timeout = 5 * time.Second
	return api.Issuer{
		URL: p.URL, Audience: "interlink", Groups: []string{"offload"}, UsernamePrefix: "oidc:",
		RequiredClaims: map[string]string{"org": "infn"}, Client: client, RetryInterval: 100 * time.Millisecond,
	}
}

func TestOIDC(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	checker, err := api.NewOIDC([]api.Issuer{p.issuer()})
	require.NoError(t, err)
	assert.Zero(t, p.fetches.Load(), "the provider is not needed for a start")
	stranger, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	for name, test := range map[string]struct{ token, want string }{
		"good":             {p.token(t, nil), "oidc:user-1"},
		"one group":        {p.token(t, map[string]any{"groups": "offload"}), "oidc:user-1"},
		"other issuer":     {p.token(t, map[string]any{"iss": "https://other"}), ""},
		"other audience":   {p.token(t, map[string]any{"aud": "kubernetes"}), ""},
		"expired":          {p.token(t, map[string]any{"exp": time.Now().Add(-time.Hour).Unix()}), ""},
		"not in the group": {p.token(t, map[string]any{"groups": []string{"other", "offload2"}}), ""},
		"no groups":        {p.token(t, map[string]any{"groups": nil}), ""},
		"wrong claim":      {p.token(t, map[string]any{"org": "else"}), ""},
		"no name":          {p.token(t, map[string]any{"sub": ""}), ""},
		"other key":        {p.sign(t, stranger, map[string]any{"iss": p.URL, "aud": "interlink", "sub": "user-1", "exp": time.Now().Add(time.Hour).Unix()}), ""},
		"no JWT":           {"abc", ""},
		"no JSON":          {"e30.e30x.e30", ""},
		"none":             {"", ""},
	} {
		name2, err := checker.Authenticate(withToken(t, test.token))
		assert.Equal(t, test.want, name2, name)
		assert.Equal(t, test.want == "", errors.Is(err, api.ErrUnauthenticated), "%s: %v", name, err)
		if err != nil && len(test.token) > 20 {
			assert.NotContains(t, err.Error(), test.token[len(test.token)-20:], "no token in errors")
		}
	}
}

func TestOIDCKeyRotationAndOutage(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	p.down.Store(true)
	checker, err := api.NewOIDC([]api.Issuer{p.issuer()})
	require.NoError(t, err)
	_, err = checker.Authenticate(withToken(t, p.token(t, nil)))
	require.Error(t, err)
	require.NotErrorIs(t, err, api.ErrUnauthenticated, "cannot tell is not no")

	p.down.Store(false)
	require.Eventually(t, func() bool {
		_, err := checker.Authenticate(withToken(t, p.token(t, nil)))
		return err == nil
	}, 5*time.Second, 20*time.Millisecond)
	old := p.token(t, nil)
	p.rotate(t, "two")
	require.Eventually(t, func() bool {
		_, err := checker.Authenticate(withToken(t, p.token(t, nil)))
		return err == nil
	}, 5*time.Second, 20*time.Millisecond, "new keys are found")
	_, err = checker.Authenticate(withToken(t, old))
	require.ErrorIs(t, err, api.ErrUnauthenticated)

	before := p.fetches.Load()
	var callers sync.WaitGroup
	start := time.Now()
	for range 50 {
		callers.Go(func() {
			for range 20 {
				_, err := checker.Authenticate(withToken(t, old))
				assert.ErrorIs(t, err, api.ErrUnauthenticated)
			}
		})
	}
	callers.Wait()
	most := 2*int32(time.Since(start)/(100*time.Millisecond)+2) + before
	assert.LessOrEqual(t, p.fetches.Load(), most, "1000 bad tokens cause a bounded number of fetches")

	p.down.Store(true)
	<-time.NewTimer(120 * time.Millisecond).C
	_, err = checker.Authenticate(withToken(t, p.token(t, nil)))
	require.NoError(t, err, "known keys outlive an outage")
}

// TestEveryWayIn runs a server that accepts certificates, tokens and OIDC at once.
func TestEveryWayIn(t *testing.T) {
	t.Parallel()
	directory := t.TempDir()
	ca := httpservertest.NewCA(t, "ca")
	certificate, key := ca.Issue(t, "server")
	files := &httpserver.TLS{
		CertFile:     httpservertest.Write(t, directory, "tls.crt", certificate),
		KeyFile:      httpservertest.Write(t, directory, "tls.key", key),
		ClientCAFile: httpservertest.Write(t, directory, "ca.crt", ca.PEM()),
	}
	tokens, err := api.NewTokens(httpservertest.Write(t, directory, "tokens", []byte("0123456789abcdef,by-token")))
	require.NoError(t, err)
	p := newProvider(t)
	checker, err := api.NewOIDC([]api.Issuer{p.issuer()})
	require.NoError(t, err)
	plugin := newPluginDouble(t, text("ok"))
	gateway, err := api.New(api.Config{
		PluginURL:    plugin.URL,
		Authenticate: api.AnyOf(api.ClientCertificate, tokens.Authenticate, checker.Authenticate),
	})
	require.NoError(t, err)
	base := serveHandler(t, gateway.Handler(), httpserver.Config{TLS: files})
	for name, test := range map[string]struct {
		token       string
		certificate []tls.Certificate
		code        int
		want        string
	}{
		"certificate":           {"", []tls.Certificate{ca.Pair(t, "by-certificate")}, http.StatusOK, "by-certificate"},
		"certificate, DNS name": {"", []tls.Certificate{ca.Pair(t, "", "vk.example.org")}, http.StatusOK, "vk.example.org"},
		"certificate and token": {"0123456789abcdef", []tls.Certificate{ca.Pair(t, "by-certificate")}, http.StatusOK, "by-certificate"},
		"static token":          {"0123456789abcdef", nil, http.StatusOK, "by-token"},
		"OIDC token":            {p.token(t, nil), nil, http.StatusOK, "oidc:user-1"},
		"nothing":               {"", nil, http.StatusUnauthorized, ""},
		"bad token":             {"nonsense", nil, http.StatusUnauthorized, ""},
		"unknown issuer":        {newProvider(t).token(t, nil), nil, http.StatusUnauthorized, ""},
	} {
		transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: ca.Pool(), Certificates: test.certificate}}
		request, err := http.NewRequestWithContext(t.Context(), http.MethodDelete, base+"/delete", strings.NewReader(`{"metadata":{"uid":"u"}}`))
		require.NoError(t, err)
		request.Header.Set(interlink.HeaderClient, "somebody-else")
		if test.token != "" {
			request.Header.Set("Authorization", "bearer "+test.token)
		}
		before := len(plugin.recorded())
		answer, err := (&http.Client{Transport: transport}).Do(request)
		require.NoError(t, err)
		_ = answer.Body.Close()
		transport.CloseIdleConnections()
		require.Equal(t, test.code, answer.StatusCode, name)
		if test.code != http.StatusOK {
			assert.Equal(t, `Bearer realm="interlink"`, answer.Header.Get("WWW-Authenticate"), name)
			assert.Len(t, plugin.recorded(), before, name)
			continue
		}
		last := plugin.recorded()[before]
		assert.Equal(t, []string{test.want}, last.Header.Values(interlink.HeaderClient), name)
		assert.Empty(t, last.Header.Get("Authorization"), name)
	}
}

func TestUncheckableCallersGet503AndIdentityIsDropped(t *testing.T) {
	t.Parallel()
	plugin := newPluginDouble(t, text("ok"))
	base := serve(t, api.Config{PluginURL: plugin.URL, Authenticate: func(*http.Request) (string, error) {
		return "", errors.New("issuer at 10.0.0.1 is away")
	}})
	answer := send(t, http.MethodPost, base+"/pinglink", "")
	assert.Equal(t, http.StatusServiceUnavailable, answer.code)
	assert.NotContains(t, answer.body, "10.0.0.1")

	base = serve(t, api.Config{PluginURL: plugin.URL})
	request, err := http.NewRequestWithContext(t.Context(), http.MethodDelete, base+"/delete", strings.NewReader(`{"metadata":{"uid":"u"}}`))
	require.NoError(t, err)
	request.Header.Set(interlink.HeaderClient, "somebody-else")
	assert.Equal(t, http.StatusOK, do(t, request).code)
	assert.Empty(t, plugin.recorded()[0].Header.Values(interlink.HeaderClient))
}
