// SPDX-License-Identifier: Apache-2.0

// Package devicetest runs a real OpenID provider with one user, and the browser with which she logs in.
package devicetest

import (
	"context"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/zitadel/oidc/v3/example/server/exampleop"
	"github.com/zitadel/oidc/v3/example/server/storage"
	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"

	"github.com/cloudveneto/caas/multitenancy/login/identity"
)

const (
	// ClientID is the program's name at the provider. It has no secret.
	ClientID = "kubectl-openstack"
	// User is whom the provider knows.
	User = "olga"

	password = "olgas-password"
)

// provider is a real OpenID provider with one user, and a client as this program is: without a secret.
type provider struct {
	*storage.Storage
}

type client struct{ *storage.Client }

// GrantTypes are those of programs on users' machines.
func (client) GrantTypes() []oidc.GrantType {
	return []oidc.GrantType{oidc.GrantTypeDeviceCode, oidc.GrantTypeRefreshToken}
}

// GetClientByClientID finds the one client.
func (p provider) GetClientByClientID(ctx context.Context, id string) (op.Client, error) { //nolint:ireturn // the library's interface
	known, err := p.Storage.GetClientByClientID(ctx, id)
	if err != nil {
		return nil, err
	}
	own, ok := known.(*storage.Client)
	if !ok {
		return nil, fmt.Errorf("client %s is a %T", id, known)
	}
	return client{own}, nil
}

// CreateAccessAndRefreshTokens says whose a device's tokens are, which the library's example leaves out, so that it
// would not renew them.
func (p provider) CreateAccessAndRefreshTokens(ctx context.Context, asked op.TokenRequest, current string) (string, string, time.Time, error) {
	if from, ok := asked.(*op.DeviceAuthorizationState); ok {
		asked = &storage.AuthRequest{ApplicationID: from.ClientID, UserID: from.Subject, Scopes: from.Scopes}
	}
	return p.Storage.CreateAccessAndRefreshTokens(ctx, asked, current)
}

type users struct{ one storage.User }

func (u users) GetUserByID(string) *storage.User       { return &u.one }
func (u users) GetUserByUsername(string) *storage.User { return &u.one }
func (users) ExampleClientID() string                  { return ClientID }

// endpoints keeps providers from being set up while others answer: the library writes a variable of its own then, which all
// of them read.
//
//nolint:gochecknoglobals // as is that variable
var endpoints sync.RWMutex

// Start serves until the test ends. CA is the authority of its certificate.
func Start(tb testing.TB) (issuer string, ca []byte) {
	tb.Helper()
	var handler http.Handler
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		endpoints.RLock()
		defer endpoints.RUnlock()
		handler.ServeHTTP(w, r)
	}))
	tb.Cleanup(server.Close)
	known := provider{storage.NewStorageWithClients(
		users{storage.User{ID: User, Username: User, Password: password}},
		map[string]*storage.Client{ClientID: storage.NativeClient(ClientID)},
	)}
	endpoints.Lock()
	defer endpoints.Unlock()
	handler = exampleop.SetupServer(server.URL, known, slog.New(slog.DiscardHandler), false)
	return server.URL, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
}

// Browse does what the user does in a browser: enters the code, logs in and agrees or not.
func Browse(tb testing.TB, ca []byte, issuer, code, action string) {
	tb.Helper()
	transport, err := identity.Transport(ca)
	require.NoError(tb, err)
	jar, err := cookiejar.New(nil)
	require.NoError(tb, err)
	browser := &http.Client{Transport: transport, Jar: jar, Timeout: 10 * time.Second}
	for _, page := range []struct {
		path string
		form url.Values
	}{
		{"/device/login", url.Values{"user_code": {code}, "username": {User}, "password": {password}}},
		{"/device/confirm", url.Values{"action": {action}}},
	} {
		request, err := http.NewRequestWithContext(tb.Context(), http.MethodPost, issuer+page.path, strings.NewReader(page.form.Encode()))
		require.NoError(tb, err)
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		answer, err := browser.Do(request)
		require.NoError(tb, err)
		text, _ := io.ReadAll(answer.Body)
		_ = answer.Body.Close()
		require.Equal(tb, http.StatusOK, answer.StatusCode, string(text))
	}
}
