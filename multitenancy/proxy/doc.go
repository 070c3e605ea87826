// SPDX-License-Identifier: Apache-2.0

// Package proxy makes plain kubectl work where the API server demands of tenants that
// they select what is theirs. It stands before the API server, adds the owner's selector
// to lists, watches and deletions of collections, and turns "not found or not yours" into
// the 404 that clients expect.
//
// It has no rights and vouches for nobody: it passes on the user's own token, and the API
// server decides as if it had been asked directly. Nothing of the security rests on it.
// What it cannot make sense of it passes on as it is.
//
//	handler, err := proxy.New(proxy.Config{Server: server, Transport: transport, Policy: policy})
//	server, err := httpserver.New(httpserver.Config{Handler: handler, MaxBody: -1, TLS: tls})
//
// Of this module it imports multitenancy/tenant, internal/httpserver and internal/logging.
package proxy
