// SPDX-License-Identifier: Apache-2.0

package keystone_test

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/cloudveneto/caas/multitenancy/keystone"
	"github.com/cloudveneto/caas/multitenancy/keystone/keystonetest"
)

func TestExists(t *testing.T) {
	t.Parallel()
	server := keystonetest.Start(t)
	config := keystone.Config{AuthURL: server.AuthURL(), Transport: server.Client().Transport}
	nobody, err := keystone.New(config)
	require.NoError(t, err)
	_, err = nobody.Exists(t.Context(), "x")
	require.ErrorContains(t, err, "no service user")

	config.Service = &keystone.Credential{UserName: "service", Project: "service", Password: func() (string, error) { return "secret", nil }}
	v, err := keystone.New(config)
	require.NoError(t, err)
	for id, want := range map[string]bool{"55158de200964f7c8aa5ca486e6cb7ea": true, "gone": false, "../users/x": false} {
		exists, err := v.Exists(t.Context(), id)
		require.NoError(t, err, id)
		assert.Equal(t, want, exists, id)
	}
	for _, code := range []int{http.StatusForbidden, http.StatusUnauthorized, http.StatusInternalServerError, http.StatusTooManyRequests} {
		server.Fail(keystonetest.Status(code))
		_, err := v.Exists(t.Context(), "gone")
		require.Error(t, err, "%d is not gone", code)
	}
	server.RevokeServices()
	_, err = v.Exists(t.Context(), "gone")
	require.Error(t, err)
	exists, err := v.Exists(t.Context(), "gone")
	require.NoError(t, err, "the service user logs in again")
	assert.False(t, exists)
}
