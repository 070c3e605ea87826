// SPDX-License-Identifier: Apache-2.0

// Package keystone verifies tokens of OpenStack's Keystone: it asks Keystone about a
// token with that token itself, so that no credential of the platform's is at stake, and
// accepts what is a project member's own login and nothing else.
//
//	verifier, err := keystone.New(keystone.Config{AuthURL: "https://keystone.example.org:5000/v3"})
//	…
//	login, err := verifier.Verify(ctx, token)
//
// A tenant.RefusalError says no; every other error says that Keystone could not tell. Answers
// are remembered for a minute at most, by a keyed hash of the token and never by the token.
//
// Of this module it imports multitenancy/tenant and internal/logging.
package keystone
