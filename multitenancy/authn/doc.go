// SPDX-License-Identifier: Apache-2.0

// Package authn answers the API server's TokenReviews: whose token is this? It tells by
// a token's shape who can know, asks that one, and refuses whoever is called like a part
// of Kubernetes. It never writes a token anywhere, not into its answers either.
//
//	handler, err := authn.New(authn.Config{Keystone: verifier, Metrics: registry})
//	router.Handle("/authenticate", handler).Methods(http.MethodPost)
//
// An answer is always 200: "no" with authenticated=false, which the API server remembers,
// and "cannot tell" with an error in the status, which it does not.
//
// Of this module it imports multitenancy/tenant, internal/httpserver and internal/logging.
package authn
