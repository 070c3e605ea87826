// SPDX-License-Identifier: Apache-2.0

package openstack

import (
	"context"
	"net/http"
)

// Exported for tests.
var (
	NewProject = project
	FreeSubnet = freeSubnet
	EnsureKey  = ensureKey
)

// Complete fills the defaults in.
func (c Config) Complete() (Config, error) { return c.complete() }

// NewSession is a session with a Keystone, for tests.
func NewSession(client *http.Client, keystone, user string) *Session {
	return &Session{UserID: user, Token: "token", client: client, endpoints: map[string]string{"identity": keystone}}
}

// ReplaceApplicationCredential is replaceApplicationCredential.
func (s *Session) ReplaceApplicationCredential(ctx context.Context, name string) (ApplicationCredential, error) {
	return s.replaceApplicationCredential(ctx, name)
}
