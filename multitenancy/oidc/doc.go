// SPDX-License-Identifier: Apache-2.0

// Package oidc verifies JSON Web Tokens of OpenID providers: their ID tokens, and where a
// provider keeps the WLCG profile its access tokens. Providers are asked for their keys
// when they are first needed, and in the background from then on; one that is down stops
// neither a start nor the others, and tokens that somebody makes up reach no provider
// more than once a minute.
//
//	verifier, err := oidc.New(oidc.Config{Issuers: []oidc.Issuer{{URL: "https://iam.example.org/", Audiences: []string{"caas"}, …}}})
//	…
//	login, err := verifier.Verify(ctx, token)
//
// A tenant.RefusalError says no; every other error says that the keys are not known.
//
// Of this module it imports multitenancy/tenant and internal/logging.
package oidc
