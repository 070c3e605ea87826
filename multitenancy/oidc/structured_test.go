// SPDX-License-Identifier: Apache-2.0

package oidc_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apiserverv1 "k8s.io/apiserver/pkg/apis/apiserver/v1"
	"k8s.io/apiserver/pkg/authentication/cel"
	"sigs.k8s.io/yaml"

	"github.com/cloudveneto/caas/multitenancy/oidc"
	"github.com/cloudveneto/caas/multitenancy/oidc/oidctest"
)

// accepted tells what the rules for the API server say of claims, by its own compiler.
func accepted(t *testing.T, from oidc.Issuer, claims oidctest.Object) bool {
	t.Helper()
	content, err := oidc.Config{Issuers: []oidc.Issuer{from}}.AuthenticationConfiguration()
	require.NoError(t, err)
	var configuration apiserverv1.AuthenticationConfiguration
	require.NoError(t, yaml.Unmarshal(content, &configuration))
	require.Len(t, configuration.JWT, 1)
	encoded, err := json.Marshal(claims)
	require.NoError(t, err)
	var decoded map[string]any
	require.NoError(t, json.Unmarshal(encoded, &decoded))
	compiler, all := cel.NewDefaultCompiler(), true
	for _, rule := range configuration.JWT[0].ClaimValidationRules {
		compiled, err := compiler.CompileClaimsExpression(&cel.ClaimValidationCondition{Expression: rule.Expression})
		require.NoError(t, err, rule.Expression)
		result, _, err := compiled.Program.Eval(map[string]any{"claims": decoded})
		all = all && err == nil && result.Value() == true
	}
	return all
}

// TestRulesOfTheAPIServer compares what it is told to accept with what this package accepts.
func TestRulesOfTheAPIServer(t *testing.T) {
	t.Parallel()
	server := oidctest.Start(t)
	for name, test := range map[string]struct {
		change    func(oidctest.Object)
		configure func(*oidc.Issuer)
		refused   bool
	}{
		"ID token":                         {},
		"marked as one":                    {change: func(c oidctest.Object) { c["typ"], c["token_use"] = "ID", "id" }},
		"odd marks":                        {change: func(c oidctest.Object) { c["typ"], c["token_use"], c["azp"] = []string{"Bearer"}, 7, true }},
		"scope":                            {change: func(c oidctest.Object) { c["scope"] = "openid" }, refused: true},
		"scp":                              {change: func(c oidctest.Object) { c["scp"] = []string{"openid"} }, refused: true},
		"Bearer":                           {change: func(c oidctest.Object) { c["typ"] = "Bearer" }, refused: true},
		"bearer":                           {change: func(c oidctest.Object) { c["typ"] = "bEARER" }, refused: true},
		"refresh token":                    {change: func(c oidctest.Object) { c["typ"] = "Refresh" }, refused: true},
		"offline token":                    {change: func(c oidctest.Object) { c["typ"] = "Offline" }, refused: true},
		"token_use":                        {change: func(c oidctest.Object) { c["token_use"] = "access" }, refused: true},
		"several audiences":                {change: func(c oidctest.Object) { c["aud"] = []string{audience, "others"} }},
		"several, asked for by us":         {change: func(c oidctest.Object) { c["aud"], c["azp"] = []string{audience, "others"}, audience }},
		"several, asked for by others":     {change: func(c oidctest.Object) { c["aud"], c["azp"] = []string{audience, "others"}, "others" }, refused: true},
		"one, asked for by others":         {change: func(c oidctest.Object) { c["aud"], c["azp"] = []string{audience}, "others" }},
		"one as text, asked for by others": {change: func(c oidctest.Object) { c["azp"] = "others" }},
		"access token": {configure: accessTokens, change: func(c oidctest.Object) {
			c["scope"], c["wlcg.ver"], c["typ"], c["aud"], c["azp"] = "compute.read", "1.0", "Bearer", []string{audience, "others"}, "others"
		}},
		"refresh token where access tokens are": {configure: accessTokens, change: func(c oidctest.Object) {
			c["scope"], c["wlcg.ver"], c["typ"] = "compute.read", "1.0", "Refresh"
		}, refused: true},
		"too long": {change: func(c oidctest.Object) { c["exp"] = time.Now().Add(48 * time.Hour).Unix() }, refused: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			from := issuer(server)
			if test.configure != nil {
				test.configure(&from)
			}
			claims := server.Claims(audience)
			if test.change != nil {
				test.change(claims)
			}
			_, err := verifier(t, from, nil).Verify(t.Context(), server.Sign(t, claims))
			assert.Equal(t, test.refused, reason(err) != "", "%v", err)
			assert.Equal(t, !test.refused, accepted(t, from, claims), "the API server")
		})
	}
}

func accessTokens(from *oidc.Issuer) {
	from.Profile, from.TokenType, from.Scopes = oidc.WLCG, oidc.WLCGAccess, []string{"compute.*"}
}
