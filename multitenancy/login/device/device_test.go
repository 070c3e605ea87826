// SPDX-License-Identifier: Apache-2.0

package device_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/cloudveneto/caas/multitenancy/login/device"
	"github.com/cloudveneto/caas/multitenancy/login/device/devicetest"
	"github.com/cloudveneto/caas/multitenancy/login/identity"
)

func discover(t *testing.T, issuer string, ca []byte) *device.Provider {
	t.Helper()
	found, err := device.Discover(t.Context(), device.Config{
		Issuer: issuer, ClientID: devicetest.ClientID, Scopes: []string{"openid", "profile", "offline_access"}, CA: ca,
	})
	require.NoError(t, err)
	return found
}

func TestLogin(t *testing.T) {
	t.Parallel()
	issuer, ca := devicetest.Start(t)
	from := discover(t, issuer, ca)
	tokens, err := from.Login(t.Context(), func(prompt device.Prompt) {
		assert.True(t, strings.HasPrefix(prompt.URL, issuer), prompt.URL)
		assert.WithinRange(t, prompt.Expires, time.Now(), time.Now().Add(time.Hour))
		devicetest.Browse(t, ca, issuer, prompt.Code, "allowed")
	})
	require.NoError(t, err)
	assert.Equal(t, devicetest.User, tokens.Subject)
	assert.Len(t, strings.Split(string(tokens.ID), "."), 3)
	assert.WithinRange(t, tokens.Expires, time.Now().Add(time.Minute), time.Now().Add(24*time.Hour))
	require.NotEmpty(t, tokens.Refresh)

	next, err := from.Refresh(t.Context(), tokens.Refresh)
	require.NoError(t, err)
	assert.Equal(t, devicetest.User, next.Subject)
	assert.NotEqual(t, tokens.Refresh, next.Refresh, "this provider exchanges them")
	_, err = from.Refresh(t.Context(), tokens.Refresh)
	require.Error(t, err)
	require.NoError(t, from.Revoke(t.Context(), next.Refresh))
	_, err = from.Refresh(t.Context(), next.Refresh)
	require.Error(t, err)
	assert.NotContains(t, err.Error(), string(next.Refresh))
}

func TestRefused(t *testing.T) {
	t.Parallel()
	issuer, ca := devicetest.Start(t)
	_, err := discover(t, issuer, ca).Login(t.Context(), func(prompt device.Prompt) { devicetest.Browse(t, ca, issuer, prompt.Code, "denied") })
	require.ErrorContains(t, err, "refused in the browser")
	assert.True(t, identity.Is(err, identity.Unauthorized))

	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	_, err = discover(t, issuer, ca).Login(ctx, func(device.Prompt) {})
	require.ErrorContains(t, err, "nobody has entered the code in time")
}

// scripted is a provider whose token page answers as it is told.
func scripted(t *testing.T, tokens http.HandlerFunc) *device.Provider {
	t.Helper()
	pages := http.NewServeMux()
	server := httptest.NewServer(pages)
	t.Cleanup(server.Close)
	pages.HandleFunc("/.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(`{"issuer": "` + server.URL + `", "token_endpoint": "` + server.URL + `/token", "device_authorization_endpoint": "` + server.URL + `/device"}`))
	})
	pages.HandleFunc("/device", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`{"device_code": "d", "user_code": "U", "verification_uri": "` + server.URL + `/page", "expires_in": 1}`))
	})
	pages.HandleFunc("/token", tokens)
	found, err := device.Discover(t.Context(), device.Config{Issuer: server.URL, ClientID: "c", Timeout: time.Second})
	require.NoError(t, err)
	return found
}

func TestSlowProviderIsNoRefusal(t *testing.T) {
	t.Parallel()
	slow := scripted(t, func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // only then the server sees that the client has gone
		<-r.Context().Done()
	})
	_, err := slow.Refresh(t.Context(), "refresh")
	require.ErrorContains(t, err, "does not answer in time")
	assert.True(t, identity.Is(err, identity.Unavailable), "a token that is good still may be used on: %v", err)

	ctx, cancel := context.WithCancel(t.Context())
	_, err = slow.Login(ctx, func(device.Prompt) { cancel() })
	require.ErrorContains(t, err, "interrupted")
}

func TestCodeExpires(t *testing.T) {
	t.Parallel()
	_, err := scripted(t, http.NotFound).Login(t.Context(), func(device.Prompt) {})
	require.ErrorContains(t, err, "nobody has entered the code in time")
	assert.True(t, identity.Is(err, identity.Unauthorized), "%v", err)
}

func TestDiscover(t *testing.T) {
	t.Parallel()
	issuer, ca := devicetest.Start(t)
	page := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(page.Close)
	plain := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write([]byte(`{"issuer": "http://` + r.Host + `", "token_endpoint": "http://x/token"}`))
	}))
	t.Cleanup(plain.Close)
	another := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(`{"issuer": "https://evil.example.org"}`))
	}))
	t.Cleanup(another.Close)
	for name, test := range map[string]struct {
		cfg  device.Config
		kind identity.Kind
		says string
	}{
		"unknown authority": {device.Config{Issuer: issuer}, identity.Network, "authority that this machine does not know"},
		"bad authority":     {device.Config{Issuer: issuer, CA: []byte("x")}, identity.Usage, "no certificate in PEM form"},
		"no provider":       {device.Config{Issuer: page.URL}, identity.Network, "is no OpenID provider"},
		"no device login":   {device.Config{Issuer: plain.URL}, identity.Network, "offers no device login"},
		"another's name":    {device.Config{Issuer: another.URL}, identity.Network, "calls itself https://evil.example.org"},
		"no TLS":            {device.Config{Issuer: "http://iam.example.org"}, identity.Usage, "is no issuer"},
		"nothing":           {device.Config{}, identity.Usage, "is no issuer"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := device.Discover(t.Context(), test.cfg)
			require.ErrorContains(t, err, test.says)
			assert.True(t, identity.Is(err, test.kind), "%v", err)
		})
	}
	stranger, err := device.Discover(t.Context(), device.Config{Issuer: issuer, CA: ca, ClientID: "stranger", Scopes: []string{"openid"}})
	require.NoError(t, err)
	_, err = stranger.Login(t.Context(), func(device.Prompt) {})
	require.Error(t, err)
	assert.True(t, slices.ContainsFunc([]identity.Kind{identity.Usage, identity.Network, identity.Unavailable}, func(kind identity.Kind) bool { return identity.Is(err, kind) }), "%v", err)
}
