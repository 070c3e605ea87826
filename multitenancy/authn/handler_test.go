// SPDX-License-Identifier: Apache-2.0

package authn_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	authenticationv1 "k8s.io/api/authentication/v1"

	"github.com/cloudveneto/caas/internal/logging"
	"github.com/cloudveneto/caas/multitenancy/authn"
	"github.com/cloudveneto/caas/multitenancy/keystone"
	"github.com/cloudveneto/caas/multitenancy/keystone/keystonetest"
	"github.com/cloudveneto/caas/multitenancy/oidc"
	"github.com/cloudveneto/caas/multitenancy/oidc/oidctest"
	"github.com/cloudveneto/caas/multitenancy/tenant"
)

const (
	v1      = "authentication.k8s.io/v1"
	v1beta1 = "authentication.k8s.io/v1beta1"
)

// site is a handler with both kinds of providers.
type site struct {
	*authn.Handler

	keystone *keystonetest.Server
	oidc     *oidctest.Server
	registry *prometheus.Registry
	log      bytes.Buffer
}

func newSite(tb testing.TB, change func(*authn.Config)) *site {
	tb.Helper()
	s := &site{keystone: keystonetest.Start(tb), oidc: oidctest.Start(tb), registry: prometheus.NewRegistry()}
	tokens, err := keystone.New(keystone.Config{
		AuthURL: s.keystone.AuthURL(), Transport: s.keystone.Client().Transport, Limits: keystone.Limits{Timeout: 20 * time.Second},
	})
	require.NoError(tb, err)
	jwts, err := oidc.New(oidc.Config{Issuers: []oidc.Issuer{{
		URL: s.oidc.URL, Transport: s.oidc.Client().Transport, Audiences: []string{"caas"}, UserNamePrefix: "iam:", GroupsPrefix: "iam:",
		Projects: []oidc.Project{{Group: "cms", ID: "p1", Name: "CMS"}},
	}}})
	require.NoError(tb, err)
	cfg := authn.Config{Keystone: tokens, OIDC: jwts, Metrics: s.registry, Audiences: []string{"https://kubernetes.default.svc"}}
	if change != nil {
		change(&cfg)
	}
	s.Handler, err = authn.New(cfg)
	require.NoError(tb, err)
	return s
}

func (s *site) post(tb testing.TB, body string) *httptest.ResponseRecorder {
	tb.Helper()
	ctx := logging.Into(tb.Context(), slog.New(slog.NewTextHandler(&s.log, &slog.HandlerOptions{Level: slog.LevelDebug})))
	answer := httptest.NewRecorder()
	s.ServeHTTP(answer, httptest.NewRequestWithContext(ctx, http.MethodPost, "/authenticate", strings.NewReader(body)))
	return answer
}

func question(tb testing.TB, version, token string, audiences ...string) string {
	tb.Helper()
	body, err := json.Marshal(map[string]any{
		"apiVersion": version, "kind": "TokenReview", "metadata": map[string]any{"creationTimestamp": nil},
		"spec": map[string]any{"token": token, "audiences": audiences},
	})
	require.NoError(tb, err)
	return string(body)
}

// review asks about a token, and sees to it that it is nowhere but in the question.
func (s *site) review(t *testing.T, version, token string, audiences ...string) authenticationv1.TokenReviewStatus {
	t.Helper()
	answer := s.post(t, question(t, version, token, audiences...))
	require.Equal(t, http.StatusOK, answer.Code)
	if token != "" {
		assert.NotContains(t, answer.Body.String(), token)
		assert.NotContains(t, s.log.String(), token)
	}
	var got authenticationv1.TokenReview
	require.NoError(t, json.Unmarshal(answer.Body.Bytes(), &got))
	assert.Equal(t, version, got.APIVersion)
	assert.Equal(t, "TokenReview", got.Kind)
	return got.Status
}

func (s *site) keystoneToken() string {
	token := keystonetest.Fernet()
	s.keystone.Add(token, keystonetest.Token())
	return token
}

func TestKeystoneToken(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	token := s.keystoneToken()
	for _, version := range []string{v1, v1beta1} {
		got := s.review(t, version, token)
		assert.True(t, got.Authenticated)
		assert.Empty(t, got.Error)
		assert.Equal(t, "zangrand@infn.it", got.User.Username)
		assert.Equal(t, "2ddd446e119b417791492e950553a055", got.User.UID)
		project := "osn:project:55158de200964f7c8aa5ca486e6cb7ea"
		assert.Equal(t, []string{"osn:authenticated", project, project + ":role:member", project + ":role:reader"}, got.User.Groups)
		assert.Equal(t, authenticationv1.ExtraValue{"55158de200964f7c8aa5ca486e6cb7ea"}, got.User.Extra[tenant.ExtraProjectID])
		assert.Equal(t, authenticationv1.ExtraValue{"CMS"}, got.User.Extra[tenant.ExtraProjectName])
		assert.Equal(t, authenticationv1.ExtraValue{"keystone"}, got.User.Extra[tenant.ExtraAuth])
		assert.Len(t, got.User.Extra, 10)
		for key := range got.User.Extra {
			assert.True(t, strings.HasPrefix(key, "osn.infn.it/"))
			assert.Equal(t, strings.ToLower(key), key)
		}
	}
	assert.Len(t, s.keystone.Requests(), 1)
	assert.InDelta(t, 2, testutil.ToFloat64(s.counter(t, "keystone", "accepted", "")), 0)
}

// counter finds a counter of reviews.
func (s *site) counter(t *testing.T, provider, result, why string) prometheus.Collector {
	t.Helper()
	families, err := s.registry.Gather()
	require.NoError(t, err)
	gauge := prometheus.NewGauge(prometheus.GaugeOpts{Name: "found"})
	for _, family := range families {
		if family.GetName() != "caas_authn_reviews_total" {
			continue
		}
		for _, metric := range family.GetMetric() {
			labels := map[string]string{}
			for _, label := range metric.GetLabel() {
				labels[label.GetName()] = label.GetValue()
			}
			if labels["provider"] == provider && labels["result"] == result && labels["reason"] == why {
				gauge.Set(metric.GetCounter().GetValue())
			}
		}
	}
	return gauge
}

func TestOIDCToken(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	claims := s.oidc.Claims("caas")
	claims["groups"] = []string{"cms", "system:masters"}
	got := s.review(t, v1, s.oidc.Sign(t, claims))
	assert.True(t, got.Authenticated)
	assert.Equal(t, "iam:alice", got.User.Username)
	assert.Equal(t, s.oidc.URL+"#alice", got.User.UID)
	assert.Equal(t, []string{"osn:authenticated", "osn:project:p1", "osn:project:p1:role:member", "iam:cms", "iam:system:masters"}, got.User.Groups)
	assert.Equal(t, authenticationv1.ExtraValue{tenant.EncodeSubject(s.oidc.URL, "alice")}, got.User.Extra[tenant.ExtraUserID])
	assert.Empty(t, s.keystone.Requests())
}

func TestAudiences(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	token := s.keystoneToken()
	for name, test := range map[string]struct{ asked, want []string }{
		"none":   {nil, nil},
		"served": {[]string{"https://kubernetes.default.svc"}, []string{"https://kubernetes.default.svc"}},
		"one of": {[]string{"vault", "https://kubernetes.default.svc"}, []string{"https://kubernetes.default.svc"}},
		"other":  {[]string{"vault"}, nil},
	} {
		got := s.review(t, v1, token, test.asked...)
		assert.True(t, got.Authenticated, name)
		assert.Equal(t, test.want, got.Audiences, name)
	}
}

func jwt(claims string) string {
	encode := base64.RawURLEncoding.EncodeToString
	return encode([]byte(`{"alg":"ES256","typ":"JWT"}`)) + "." + encode([]byte(claims)) + "." + encode(make([]byte, 64))
}

// TestShapes sends what nobody needs to be asked about, and sees to it that nobody is.
func TestShapes(t *testing.T) {
	t.Parallel()
	fernet := keystonetest.Fernet()
	raw, err := base64.RawURLEncoding.DecodeString(fernet)
	require.NoError(t, err)
	raw[0] = 0x81
	for name, token := range map[string]string{
		"empty":              "",
		"word":               "password",
		"expired account":    jwt(`{"iss":"https://kubernetes.default.svc","sub":"system:serviceaccount:a:b"}`),
		"no issuer":          jwt(`{"sub":"x"}`),
		"keystone's JWS":     jwt(`{"sub":"x","openstack_methods":["password"]}`),
		"uuid":               strings.Repeat("a1", 16),
		"other version":      base64.RawURLEncoding.EncodeToString(raw),
		"short":              "gAAAAAAA",
		"long":               "gAAAA" + strings.Repeat("A", 5000),
		"very long":          strings.Repeat("A", 6000) + "." + strings.Repeat("A", 6000) + "." + strings.Repeat("A", 6000),
		"line end":           fernet + "\n",
		"header injection":   fernet + "\r\nX-Auth-Token: other",
		"standard alphabet":  strings.Replace(fernet, fernet[20:21], "+", 1),
		"dots in the middle": "gAAAA.b.c.d",
		"not url-safe":       "a/b.c.d",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, nil)
			got := s.review(t, v1, token)
			assert.Equal(t, authenticationv1.TokenReviewStatus{}, got)
			assert.Empty(t, s.keystone.Requests())
			assert.Zero(t, s.oidc.Fetches())
		})
	}
}

func TestFormatsThatAreSwitchedOn(t *testing.T) {
	t.Parallel()
	s := newSite(t, func(c *authn.Config) { c.KeystoneJWS, c.KeystoneUUID = true, true })
	for _, token := range []string{jwt(`{"sub":"x","openstack_methods":["password"]}`), strings.Repeat("a1", 16)} {
		assert.False(t, s.review(t, v1, token).Authenticated)
		s.keystone.Add(token, keystonetest.Token())
	}
	assert.Len(t, s.keystone.Requests(), 2)
	assert.False(t, s.review(t, v1, jwt(`{"iss":"https://x","openstack_methods":["password"]}`)).Authenticated)
	assert.Len(t, s.keystone.Requests(), 2, "what names an issuer is none of Keystone's")
}

func TestSwitchedOff(t *testing.T) {
	t.Parallel()
	s := newSite(t, func(c *authn.Config) { c.OIDC = nil })
	assert.False(t, s.review(t, v1, s.oidc.Sign(t, s.oidc.Claims("caas"))).Authenticated)
	assert.True(t, s.review(t, v1, s.keystoneToken()).Authenticated)
	s = newSite(t, func(c *authn.Config) { c.Keystone = nil })
	assert.False(t, s.review(t, v1, s.keystoneToken()).Authenticated)
	assert.True(t, s.review(t, v1, s.oidc.Sign(t, s.oidc.Claims("caas"))).Authenticated)
	assert.Empty(t, s.keystone.Requests())
	_, err := authn.New(authn.Config{})
	require.Error(t, err)
}

func TestNoIsNotAnError(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	assert.Equal(t, authenticationv1.TokenReviewStatus{}, s.review(t, v1, keystonetest.Fernet()))
	assert.InDelta(t, 1, testutil.ToFloat64(s.counter(t, "keystone", "refused", keystone.ReasonUnknown)), 0)
}

func TestCannotTellIsAnError(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	token := s.keystoneToken()
	s.keystone.Fail(keystonetest.Status(503), keystonetest.Status(503))
	got := s.review(t, v1, token)
	assert.False(t, got.Authenticated)
	assert.NotEmpty(t, got.Error)
	assert.NotContains(t, got.Error, s.keystone.URL)
	assert.True(t, s.review(t, v1, token).Authenticated, "it is not remembered")

	s.oidc.Down(true)
	assert.NotEmpty(t, s.review(t, v1, s.oidc.Sign(t, s.oidc.Claims("caas"))).Error)
}

func TestKubernetesNamesAreRefused(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(user keystonetest.Object, token keystonetest.Object){
		"masters": func(user, _ keystonetest.Object) { user["name"] = "system:masters" },
		"node":    func(user, _ keystonetest.Object) { user["name"] = "system:node:x" },
		"blank":   func(user, _ keystonetest.Object) { user["name"] = " " },
		"control": func(user, _ keystonetest.Object) { user["name"] = "a\u0007" },
		"id":      func(user, _ keystonetest.Object) { user["id"] = "system:x" },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, nil)
			token, description := keystonetest.Fernet(), keystonetest.Token()
			user, _ := description["user"].(keystonetest.Object)
			change(user, description)
			s.keystone.Add(token, description)
			assert.Equal(t, authenticationv1.TokenReviewStatus{}, s.review(t, v1, token))
		})
	}
}

func TestMalformedReviews(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	token := s.keystoneToken()
	for name, test := range map[string]struct {
		body string
		code int
	}{
		"empty":         {"", http.StatusBadRequest},
		"object":        {"{}", http.StatusBadRequest},
		"null":          {"null", http.StatusBadRequest},
		"other kind":    {`{"apiVersion":"authentication.k8s.io/v1","kind":"SubjectAccessReview"}`, http.StatusBadRequest},
		"other version": {question(t, "authentication.k8s.io/v2", token), http.StatusBadRequest},
		"cut":           {question(t, v1, token)[:100], http.StatusBadRequest},
		"wrong types":   {`{"apiVersion":"authentication.k8s.io/v1","kind":"TokenReview","spec":{"token":["` + token + `"]}}`, http.StatusBadRequest},
		"too large":     {question(t, v1, strings.Repeat("x", 1<<20)), http.StatusRequestEntityTooLarge},
	} {
		answer := s.post(t, test.body)
		assert.Equal(t, test.code, answer.Code, name)
		assert.NotContains(t, answer.Body.String(), token, name)
	}
	assert.False(t, s.review(t, v1, "").Authenticated)
}

// stuck never answers.
type stuck struct{}

func (stuck) Verify(ctx context.Context, _ string) (tenant.Login, error) {
	<-ctx.Done()
	return tenant.Login{}, errors.New("stuck")
}

func TestTimeout(t *testing.T) {
	t.Parallel()
	s := newSite(t, func(c *authn.Config) { c.Keystone, c.Timeout = stuck{}, 20*time.Millisecond })
	assert.NotEmpty(t, s.review(t, v1, keystonetest.Fernet()).Error)
}

func FuzzReview(f *testing.F) {
	s := newSite(f, nil)
	good := keystonetest.Fernet()
	f.Add(question(f, v1, "x"))
	f.Add(question(f, v1beta1, jwt(`{"iss":"`+s.oidc.URL+`"}`)))
	f.Add(question(f, v1, good))
	f.Add("{}")
	f.Fuzz(func(t *testing.T, body string) {
		s.log.Reset()
		answer := s.post(t, body)
		require.Contains(t, []int{http.StatusOK, http.StatusBadRequest, http.StatusRequestEntityTooLarge}, answer.Code)
		if answer.Code == http.StatusOK {
			var got authenticationv1.TokenReview
			require.NoError(t, json.Unmarshal(answer.Body.Bytes(), &got))
			require.False(t, got.Status.Authenticated)
			require.Empty(t, got.Spec.Token)
		}
	})
}

// BenchmarkReview has the JSON of question and answer in it. The target is 50 µs.
func BenchmarkReview(b *testing.B) {
	s := newSite(b, nil)
	handler := func(b *testing.B, token string) {
		b.Helper()
		body := []byte(question(b, v1, token))
		ctx := logging.Into(b.Context(), slog.New(slog.DiscardHandler))
		request := httptest.NewRequestWithContext(ctx, http.MethodPost, "/authenticate", http.NoBody)
		b.ReportAllocs()
		for b.Loop() {
			answer := httptest.NewRecorder()
			request.Body = io.NopCloser(bytes.NewReader(body))
			s.ServeHTTP(answer, request)
			if !bytes.Contains(answer.Body.Bytes(), []byte(`"authenticated":true`)) {
				b.Fatal(answer.Body.String())
			}
		}
	}
	b.Run("keystone, remembered", func(b *testing.B) { handler(b, s.keystoneToken()) })
	b.Run("oidc RS256", func(b *testing.B) { handler(b, s.oidc.Sign(b, s.oidc.Claims("caas"))) })
}
