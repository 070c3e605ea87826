// SPDX-License-Identifier: Apache-2.0

package oidc_test

import (
	"encoding/base64"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/cloudveneto/caas/multitenancy/oidc"
	"github.com/cloudveneto/caas/multitenancy/oidc/oidctest"
	"github.com/cloudveneto/caas/multitenancy/tenant"
)

const audience = "caas"

type clock struct{ ahead atomic.Int64 }

func (c *clock) now() time.Time          { return time.Now().Add(time.Duration(c.ahead.Load())) }
func (c *clock) forward(d time.Duration) { c.ahead.Add(int64(d)) }

func issuer(server *oidctest.Server) oidc.Issuer {
	return oidc.Issuer{URL: server.URL, Transport: server.Client().Transport, Audiences: []string{audience}}
}

func verifier(tb testing.TB, one oidc.Issuer, now func() time.Time) *oidc.Verifier {
	tb.Helper()
	v, err := oidc.New(oidc.Config{Issuers: []oidc.Issuer{one}, Now: now, Metrics: prometheus.NewRegistry()})
	require.NoError(tb, err)
	return v
}

func reason(err error) string {
	if refusal, refused := tenant.Refused(err); refused {
		return refusal.Reason
	}
	return ""
}

func TestVerify(t *testing.T) {
	t.Parallel()
	server := oidctest.Start(t)
	from := issuer(server)
	from.UserNameClaim, from.UserNamePrefix, from.GroupsPrefix = "preferred_username", "iam:", "iam:"
	from.Projects = []oidc.Project{
		{Group: "cms", ID: "p1", Name: "CMS"},
		{Group: "cms/admins", ID: "p1", Name: "CMS", Roles: []string{"manager", "member"}},
		{Group: "qst", ID: "p2", Name: "QST"},
	}
	claims := server.Claims(audience)
	claims["preferred_username"], claims["groups"] = "alice", []string{"cms", "cms/admins", "other"}
	got, err := verifier(t, from, nil).Verify(t.Context(), server.Sign(t, claims))
	require.NoError(t, err)
	assert.WithinDuration(t, time.Now().Add(time.Hour), got.Expires, time.Minute)
	got.Expires = time.Time{}
	assert.Equal(t, tenant.Login{
		Auth: "oidc", Name: "iam:alice", UID: server.URL + "#alice", Owner: tenant.EncodeSubject(server.URL, "alice"),
		DisplayName: "alice", Domain: server.URL, TokenID: "token-1", Groups: []string{"iam:cms", "iam:cms/admins", "iam:other"},
		Memberships: []tenant.Membership{{Project: tenant.Project{ID: "p1", Name: "CMS"}, Roles: []string{"member", "manager"}}},
	}, got)
	user, err := got.User()
	require.NoError(t, err)
	assert.True(t, tenant.IdentityOf(user).Manages("p1"))
}

func TestVerifyDefaults(t *testing.T) {
	t.Parallel()
	server := oidctest.Start(t)
	claims := server.Claims("other")
	claims["aud"], claims["groups"] = []string{"other", audience}, []string{"system:masters"}
	got, err := verifier(t, issuer(server), nil).Verify(t.Context(), server.Sign(t, claims))
	require.NoError(t, err)
	assert.Equal(t, server.URL+"#alice", got.Name)
	assert.Empty(t, got.Groups, "without a prefix none is passed on")
	assert.Empty(t, got.Memberships)
}

func TestVerifyRefuses(t *testing.T) {
	t.Parallel()
	wlcg := func(i *oidc.Issuer) { i.Profile = oidc.WLCG }
	access := func(i *oidc.Issuer) {
		i.Profile, i.TokenType, i.Scopes = oidc.WLCG, oidc.WLCGAccess, []string{"compute.*"}
	}
	in := func(after time.Duration) int64 { return time.Now().Add(after).Unix() }
	for name, test := range map[string]struct {
		issuer func(*oidc.Issuer)
		claims func(oidctest.Object)
		want   string // no reason for a token that is accepted
	}{
		"other audience":     {claims: func(c oidctest.Object) { c["aud"] = "other" }, want: oidc.ReasonAudience},
		"no audience":        {claims: func(c oidctest.Object) { delete(c, "aud") }, want: oidc.ReasonAudience},
		"any audience":       {claims: func(c oidctest.Object) { c["aud"] = "https://wlcg.cern.ch/jwt/v1/any" }, want: oidc.ReasonAudience},
		"made for another":   {claims: func(c oidctest.Object) { c["aud"], c["azp"] = []string{audience, "x"}, "x" }, want: oidc.ReasonAudience},
		"made for us":        {claims: func(c oidctest.Object) { c["aud"], c["azp"] = []string{audience, "x"}, audience }},
		"expired":            {claims: func(c oidctest.Object) { c["exp"] = in(-time.Second) }, want: oidc.ReasonSignature},
		"no end":             {claims: func(c oidctest.Object) { delete(c, "exp") }, want: oidc.ReasonSignature},
		"no beginning":       {claims: func(c oidctest.Object) { delete(c, "iat") }, want: oidc.ReasonLifetime},
		"from the future":    {claims: func(c oidctest.Object) { c["iat"] = in(2 * time.Minute) }, want: oidc.ReasonLifetime},
		"not good yet":       {claims: func(c oidctest.Object) { c["nbf"] = in(2 * time.Minute) }, want: oidc.ReasonLifetime},
		"a year long":        {claims: func(c oidctest.Object) { c["exp"] = in(365 * 24 * time.Hour) }, want: oidc.ReasonLifetime},
		"own limit":          {issuer: func(i *oidc.Issuer) { i.MaxLifetime = time.Minute }, want: oidc.ReasonLifetime},
		"no subject":         {claims: func(c oidctest.Object) { delete(c, "sub") }, want: oidc.ReasonClaim},
		"access token":       {claims: func(c oidctest.Object) { c["scope"] = "openid" }, want: oidc.ReasonType},
		"bearer token":       {claims: func(c oidctest.Object) { c["typ"] = "Bearer" }, want: oidc.ReasonType},
		"refresh token":      {claims: func(c oidctest.Object) { c["typ"] = "Refresh" }, want: oidc.ReasonType},
		"no name":            {issuer: func(i *oidc.Issuer) { i.UserNameClaim = "email" }, want: oidc.ReasonClaim},
		"unverified address": {issuer: func(i *oidc.Issuer) { i.UserNameClaim = "email" }, claims: func(c oidctest.Object) { c["email"] = "root@example.org" }, want: oidc.ReasonClaim},
		"verified address": {issuer: func(i *oidc.Issuer) { i.UserNameClaim = "email" }, claims: func(c oidctest.Object) {
			c["email"], c["email_verified"] = "alice@example.org", true
		}},
		"required claim":    {issuer: func(i *oidc.Issuer) { i.RequiredClaims = map[string]string{"acr": "2fa"} }, want: oidc.ReasonClaim},
		"required claim ok": {issuer: func(i *oidc.Issuer) { i.RequiredClaims = map[string]string{"acr": "2fa"} }, claims: func(c oidctest.Object) { c["acr"] = "2fa" }},
		"too many groups":   {claims: func(c oidctest.Object) { c["groups"] = make([]string, 2000) }, want: oidc.ReasonClaim},
		"no profile":        {issuer: wlcg, want: oidc.ReasonProfile},
		"other version":     {issuer: wlcg, claims: func(c oidctest.Object) { c["wlcg.ver"] = "2.0" }, want: oidc.ReasonProfile},
		"profile":           {issuer: wlcg, claims: func(c oidctest.Object) { c["wlcg.ver"] = "1.0" }},
		"no scope":          {issuer: access, claims: func(c oidctest.Object) { c["wlcg.ver"], c["scope"] = "1.0", "storage.read:/ openid" }, want: oidc.ReasonScope},
		"scope":             {issuer: access, claims: func(c oidctest.Object) { c["wlcg.ver"], c["scope"] = "1.0", "openid compute.create" }},
		"scope with path":   {issuer: access, claims: func(c oidctest.Object) { c["wlcg.ver"], c["scope"] = "1.0", "compute.create:/cms" }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := oidctest.Start(t)
			from, claims := issuer(server), server.Claims(audience)
			if test.issuer != nil {
				test.issuer(&from)
			}
			if test.claims != nil {
				test.claims(claims)
			}
			token := server.Sign(t, claims)
			_, err := verifier(t, from, nil).Verify(t.Context(), token)
			assert.Equal(t, test.want, reason(err), "%v", err)
			if test.want == "" {
				require.NoError(t, err)
				return
			}
			assert.NotContains(t, err.Error(), token)
		})
	}
}

func TestVerifyRefusesForgeries(t *testing.T) {
	t.Parallel()
	server, other := oidctest.Start(t), oidctest.Start(t)
	good := server.Sign(t, server.Claims(audience))
	parts := strings.Split(good, ".")
	encode := base64.RawURLEncoding.EncodeToString
	v := verifier(t, issuer(server), nil)
	stranger := oidctest.MakeKey(t, jose.RS256)
	known := stranger
	known.Name = "key-1"
	weak := server.Rotate(t, true, jose.RS256)
	weak.Algorithm = jose.RS384
	for name, test := range map[string]struct{ token, want string }{
		"unsigned":            {encode([]byte(`{"alg":"none","kid":"key-1"}`)) + "." + parts[1] + ".", oidc.ReasonSignature},
		"shared secret":       {encode([]byte(`{"alg":"HS256","kid":"key-1"}`)) + "." + parts[1] + "." + parts[2], oidc.ReasonSignature},
		"other claims":        {parts[0] + "." + encode([]byte(`{"iss":"`+server.URL+`","sub":"root"}`)) + "." + parts[2], oidc.ReasonSignature},
		"no signature":        {parts[0] + "." + parts[1] + ".", oidc.ReasonSignature},
		"stranger's key":      {stranger.Sign(t, server.Claims(audience), ""), oidc.ReasonSignature},
		"under a known name":  {known.Sign(t, server.Claims(audience), ""), oidc.ReasonSignature},
		"algorithm not taken": {weak.Sign(t, server.Claims(audience), ""), oidc.ReasonSignature},
		"other issuer's key":  {other.Sign(t, server.Claims(audience)), oidc.ReasonSignature},
		"other issuer":        {other.Sign(t, other.Claims(audience)), oidc.ReasonIssuer},
		"header unreadable":   {"!." + parts[1] + "." + parts[2], oidc.ReasonFormat},
		"no token":            {"x", oidc.ReasonIssuer},
		"four parts":          {good + ".x", oidc.ReasonIssuer},
	} {
		_, err := v.Verify(t.Context(), test.token)
		assert.Equal(t, test.want, reason(err), "%s: %v", name, err)
	}
	_, err := v.Verify(t.Context(), good)
	require.NoError(t, err)
	assert.Equal(t, 1, server.Fetches())
}

func TestAccessTokenByItsHeader(t *testing.T) {
	t.Parallel()
	server := oidctest.Start(t)
	key := server.Rotate(t, true, jose.ES256)
	v := verifier(t, issuer(server), nil)
	_, err := v.Verify(t.Context(), key.Sign(t, server.Claims(audience), "at+jwt"))
	assert.Equal(t, oidc.ReasonType, reason(err))
	_, err = v.Verify(t.Context(), key.Sign(t, server.Claims(audience), "JWT"))
	require.NoError(t, err)
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		change func(*oidc.Issuer)
		want   string
	}{
		"no TLS":             {func(i *oidc.Issuer) { i.URL = "http://iam.example.org" }, "no TLS"},
		"fragment":           {func(i *oidc.Issuer) { i.URL = "https://iam.example.org/#x" }, "no issuer's URL"},
		"transport":          {func(i *oidc.Issuer) { i.Transport = nil }, "transport"},
		"audience":           {func(i *oidc.Issuer) { i.Audiences = nil }, "audiences"},
		"any audience":       {func(i *oidc.Issuer) { i.Audiences = []string{"https://wlcg.cern.ch/jwt/v1/any"} }, "everybody's"},
		"none":               {func(i *oidc.Issuer) { i.Algorithms = []string{"none"} }, `"none"`},
		"shared secrets":     {func(i *oidc.Issuer) { i.Algorithms = []string{"HS256"} }, `"HS256"`},
		"profile":            {func(i *oidc.Issuer) { i.Profile = "x" }, "profile"},
		"type":               {func(i *oidc.Issuer) { i.TokenType = "x" }, "tokenType"},
		"access, no scope":   {func(i *oidc.Issuer) { i.Profile, i.TokenType = oidc.WLCG, oidc.WLCGAccess }, "scopes"},
		"every scope":        {func(i *oidc.Issuer) { i.Profile, i.TokenType, i.Scopes = oidc.WLCG, oidc.WLCGAccess, []string{"*"} }, "says anything"},
		"scopes of ID":       {func(i *oidc.Issuer) { i.Scopes = []string{"a"} }, "only access tokens"},
		"system prefix":      {func(i *oidc.Issuer) { i.UserNamePrefix = "system:" }, "prefixes"},
		"our prefix":         {func(i *oidc.Issuer) { i.GroupsPrefix = "osn:project:" }, "prefixes"},
		"no groups' prefix":  {func(i *oidc.Issuer) { i.GroupsPrefix = "-" }, "must have a prefix"},
		"project without id": {func(i *oidc.Issuer) { i.Projects = []oidc.Project{{Group: "x"}} }, "projects[0]"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			one := oidc.Issuer{URL: "https://iam.example.org", Transport: http.DefaultTransport, Audiences: []string{audience}}
			test.change(&one)
			_, err := oidc.New(oidc.Config{Issuers: []oidc.Issuer{one}})
			require.ErrorContains(t, err, test.want)
		})
	}
	_, err := oidc.New(oidc.Config{})
	require.ErrorContains(t, err, "no issuers")
	one := oidc.Issuer{URL: "https://iam.example.org", Transport: http.DefaultTransport, Audiences: []string{audience}}
	_, err = oidc.New(oidc.Config{Issuers: []oidc.Issuer{one, one}})
	require.ErrorContains(t, err, "twice")
}

func FuzzVerify(f *testing.F) {
	server := oidctest.Start(f)
	v := verifier(f, issuer(server), nil)
	good := server.Sign(f, server.Claims(audience))
	f.Add(good)
	f.Add("a.b.c")
	f.Add("..")
	f.Add("eyJhbGciOiJub25lIn0.e30.")
	f.Fuzz(func(t *testing.T, token string) {
		if token == good {
			return
		}
		login, err := v.Verify(t.Context(), token)
		// Base64 lets the last character of a signature differ without a difference.
		if err == nil {
			require.Equal(t, "alice", login.DisplayName)
			require.Equal(t, strings.Join(strings.Split(good, ".")[:2], "."), strings.Join(strings.Split(token, ".")[:2], "."))
		}
	})
}

func BenchmarkVerify(b *testing.B) {
	for name, algorithm := range map[string]jose.SignatureAlgorithm{"RS256": jose.RS256, "ES256": jose.ES256} {
		b.Run(name, func(b *testing.B) {
			server := oidctest.Start(b)
			server.Rotate(b, false, algorithm)
			v := verifier(b, issuer(server), nil)
			token := server.Sign(b, server.Claims(audience))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := v.Verify(b.Context(), token); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
