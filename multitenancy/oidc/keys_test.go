// SPDX-License-Identifier: Apache-2.0

package oidc_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/cloudveneto/caas/multitenancy/oidc"
	"github.com/cloudveneto/caas/multitenancy/oidc/oidctest"
)

func TestKeysAreExchanged(t *testing.T) {
	t.Parallel()
	server := oidctest.Start(t)
	var moved clock
	v := verifier(t, issuer(server), moved.now)
	first := server.Sign(t, server.Claims(audience))
	verify := func(token, want string) {
		t.Helper()
		_, err := v.Verify(t.Context(), token)
		assert.Equal(t, want, reason(err), "%v", err)
		assert.Equal(t, want == "", err == nil, "%v", err)
	}
	verify(first, "")
	server.Rotate(t, false, jose.RS256)
	second := server.Sign(t, server.Claims(audience))
	verify(second, oidc.ReasonKey) // too soon to ask again
	verify(first, "")
	assert.Equal(t, 1, server.Fetches())
	moved.forward(61 * time.Second)
	verify(second, "")
	verify(first, oidc.ReasonKey) // the provider has taken its key back
	assert.Equal(t, 2, server.Fetches())
}

func TestKeysWithoutNamesAreExchanged(t *testing.T) {
	t.Parallel()
	server := oidctest.Start(t)
	server.Unnamed()
	var moved clock
	v := verifier(t, issuer(server), moved.now)
	_, err := v.Verify(t.Context(), server.Sign(t, server.Claims(audience)))
	require.NoError(t, err)
	server.Rotate(t, false, jose.ES256)
	server.Unnamed()
	moved.forward(61 * time.Second)
	_, err = v.Verify(t.Context(), server.Sign(t, server.Claims(audience)))
	require.NoError(t, err)
	assert.Equal(t, 2, server.Fetches())
}

func TestManyUnknownKeysAskOnce(t *testing.T) {
	t.Parallel()
	server := oidctest.Start(t)
	v := verifier(t, issuer(server), nil)
	forged := oidctest.MakeKey(t, jose.ES256)
	var group sync.WaitGroup
	for number := range 200 {
		key := forged
		key.Name = "made-up-" + string(rune('a'+number%26)) + strings.Repeat("x", number/26)
		token := key.Sign(t, server.Claims(audience), "")
		group.Go(func() {
			_, err := v.Verify(t.Context(), token)
			assert.Equal(t, oidc.ReasonKey, reason(err), "%v", err)
		})
	}
	group.Wait()
	assert.Equal(t, 1, server.Fetches())
}

func TestProviderIsDown(t *testing.T) {
	t.Parallel()
	server, healthy := oidctest.Start(t), oidctest.Start(t)
	var moved clock
	server.Down(true)
	v, err := oidc.New(oidc.Config{Issuers: []oidc.Issuer{issuer(server), issuer(healthy)}, Now: moved.now})
	require.NoError(t, err)
	token := server.Sign(t, server.Claims(audience))
	_, err = v.Verify(t.Context(), token)
	require.Error(t, err)
	assert.Empty(t, reason(err), "nobody can tell")
	_, err = v.Verify(t.Context(), healthy.Sign(t, healthy.Claims(audience)))
	require.NoError(t, err, "the others are not concerned")

	server.Down(false)
	_, err = v.Verify(t.Context(), token)
	require.Error(t, err, "too soon to ask again")
	moved.forward(11 * time.Second)
	_, err = v.Verify(t.Context(), token)
	require.NoError(t, err)

	server.Down(true)
	moved.forward(7 * time.Hour)
	claims := server.Claims(audience)
	claims["iat"], claims["nbf"], claims["exp"] = moved.now().Unix(), moved.now().Unix(), moved.now().Add(time.Hour).Unix()
	later := server.Sign(t, claims)
	_, err = v.Verify(t.Context(), later)
	require.NoError(t, err, "old keys are kept")
	server.Rotate(t, true, jose.RS256)
	_, err = v.Verify(t.Context(), server.Sign(t, claims))
	require.Error(t, err)
	assert.Empty(t, reason(err), "it may be a new key")

	moved.forward(4 * 24 * time.Hour)
	_, err = v.Verify(t.Context(), later)
	require.Error(t, err)
	assert.Empty(t, reason(err), "but not for ever")
}

func TestUnusableKeys(t *testing.T) {
	t.Parallel()
	for name, document := range map[string]string{
		"not JSON":      "<html>",
		"none":          `{"keys": []}`,
		"shared secret": `{"keys": [{"kty": "oct", "k": "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0", "kid": "key-1"}]}`,
		"short":         `{"keys": [{"kty": "RSA", "kid": "key-1", "e": "AQAB", "n": "` + strings.Repeat("A", 43) + `Q"}]}`,
		"too many":      `{"keys": [` + strings.Repeat(`{},`, 200) + `{}]}`,
		"too long":      `{"keys": [], "x": "` + strings.Repeat("x", 2<<20) + `"}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := oidctest.Start(t)
			server.Serve(document)
			_, err := verifier(t, issuer(server), nil).Verify(t.Context(), server.Sign(t, server.Claims(audience)))
			require.Error(t, err)
			assert.Empty(t, reason(err))
		})
	}
}

func TestRun(t *testing.T) {
	t.Parallel()
	server := oidctest.Start(t)
	from := issuer(server)
	from.Refresh, from.MinRefresh = 20*time.Millisecond, 10*time.Millisecond
	v := verifier(t, from, nil)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- v.Run(ctx) }()
	require.Eventually(t, func() bool { return server.Fetches() > 2 }, 10*time.Second, time.Millisecond, "keys are fetched unasked")
	server.Down(true)
	time.Sleep(50 * time.Millisecond)
	server.Down(false)
	before := server.Fetches()
	require.Eventually(t, func() bool { return server.Fetches() > before+1 }, 10*time.Second, time.Millisecond)
	cancel()
	require.NoError(t, <-ended)
}
