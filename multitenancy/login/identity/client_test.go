// SPDX-License-Identifier: Apache-2.0

package identity_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/cloudveneto/caas/multitenancy/login/identity"
	"github.com/cloudveneto/caas/multitenancy/login/identitytest"
)

const zangrand = "zangrand@infn.it"

func furnish(server *identitytest.Server) world {
	server.AddProject(identitytest.Project{ID: "1111", Name: "CMS"})
	server.AddProject(identitytest.Project{ID: "2222", Name: "QST"})
	server.AddUser(identitytest.User{ID: "u1", Name: zangrand, Password: "right", Roles: map[string][]string{"CMS": {"member"}, "QST": {"member"}}})
	return world{user: zangrand, password: "right", projects: []string{"CMS", "QST"}, trustee: "u2"}
}

func TestStandIn(t *testing.T) {
	t.Parallel()
	server := identitytest.StartTLS(t)
	w := furnish(server)
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	client, err := identity.New(identity.Config{AuthURL: server.URL, CA: ca})
	require.NoError(t, err)
	conform(t, client, w)
}

func TestAddresses(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]string{
		"https://ks:5000":          "https://ks:5000/v3",
		"https://ks:5000/":         "https://ks:5000/v3",
		"https://ks:5000/v3/":      "https://ks:5000/v3",
		"https://ks/identity/v2.0": "https://ks/identity/v3",
		"http://ks/identity?x=y":   "http://ks/identity/v3",
	} {
		client, err := identity.New(identity.Config{AuthURL: address})
		require.NoError(t, err)
		assert.Equal(t, want, client.URL())
	}
	for _, bad := range []string{"", "ks:5000", "ftp://ks", "https://user:secret@ks/v3", "https://%zz"} {
		_, err := identity.New(identity.Config{AuthURL: bad})
		assert.True(t, identity.Is(err, identity.Usage), "%q: %v", bad, err)
	}
}

func TestWhatGoesWrong(t *testing.T) {
	t.Parallel()
	// Nothing listens there any more.
	closed := httptest.NewServer(http.NotFoundHandler())
	refusing := closed.URL
	closed.Close()
	// This one accepts, and says nothing.
	silent, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = silent.Close() })
	trusted := httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(trusted.Close)
	page := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusOK)
		_, _ = w.Write([]byte("<html>welcome</html>"))
	}))
	t.Cleanup(page.Close)
	nowhere := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(nowhere.Close)
	moved := httptest.NewServer(http.RedirectHandler("https://elsewhere.example.org/v3", http.StatusFound))
	t.Cleanup(moved.Close)
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: trusted.Certificate().Raw})
	another := strings.Replace(trusted.URL, "127.0.0.1", "localhost", 1)

	for name, test := range map[string]struct {
		cfg  identity.Config
		kind identity.Kind
		says string
	}{
		"refused":           {identity.Config{AuthURL: refusing}, identity.Unavailable, "refuses connections"},
		"no answer":         {identity.Config{AuthURL: "http://" + silent.Addr().String(), Timeout: 50 * time.Millisecond}, identity.Unavailable, "does not answer in time"},
		"no such host":      {identity.Config{AuthURL: "https://keystone.invalid"}, "", "cannot be found"},
		"unknown authority": {identity.Config{AuthURL: trusted.URL}, identity.Network, "authority that this machine does not know"},
		"another host":      {identity.Config{AuthURL: another, CA: ca}, identity.Network, "certificate for another host"},
		"no TLS":            {identity.Config{AuthURL: strings.Replace(page.URL, "http:", "https:", 1)}, identity.Network, "does not speak TLS"},
		"a web page":        {identity.Config{AuthURL: page.URL}, identity.Network, "is not Keystone"},
		"nothing there":     {identity.Config{AuthURL: nowhere.URL}, identity.Network, "is not Keystone"},
		"moved":             {identity.Config{AuthURL: moved.URL}, identity.Network, "points to https://elsewhere.example.org/v3"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client, err := identity.New(test.cfg)
			require.NoError(t, err)
			_, err = client.Login(t.Context(), identity.Credential{UserName: "a", Password: "hush"}, identity.Scope{})
			require.ErrorContains(t, err, test.says)
			if test.kind != "" {
				assert.True(t, identity.Is(err, test.kind), "%v", err)
			}
			assert.NotContains(t, err.Error(), "hush")
			assert.NotContains(t, err.Error(), "\n")
		})
	}
}

// TestCertificateOfAnotherTime has a server whose certificate has ended, as all have for a clock that is wrong.
func TestCertificateOfAnotherTime(t *testing.T) {
	t.Parallel()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC), NotAfter: time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	server.StartTLS()
	t.Cleanup(server.Close)
	client, err := identity.New(identity.Config{
		AuthURL: server.URL, CA: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		Now: func() time.Time { return time.Date(2031, 5, 5, 12, 0, 0, 0, time.UTC) },
	})
	require.NoError(t, err)
	_, err = client.Login(t.Context(), identity.Credential{UserName: "a", Password: "b"}, identity.Scope{})
	require.ErrorContains(t, err, "not valid now (valid 2024-01-01 to 2025-01-01, this machine's clock says 2031-05-05T12:00:00Z); is the clock right?")
	assert.True(t, identity.Is(err, identity.Network))
}

func TestAnswersOfKeystone(t *testing.T) {
	t.Parallel()
	say := func(status int, text string, header ...string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			if len(header) == 2 {
				w.Header().Set(header[0], header[1])
			}
			w.WriteHeader(status)
			_, _ = fmt.Fprintf(w, `{"error": {"code": %d, "message": %q}}`, status, text)
		}
	}
	for name, test := range map[string]struct {
		faults []http.HandlerFunc
		kind   identity.Kind
		says   string
	}{
		"expired password": {[]http.HandlerFunc{say(401, "The password is expired and needs to be changed for user: u1.")}, identity.Unauthorized, "password has expired"},
		"second factor":    {[]http.HandlerFunc{say(401, "Additional authentications steps required.", "Openstack-Auth-Receipt", "x")}, identity.NeedsPasscode, "-passcode"},
		"forbidden":        {[]http.HandlerFunc{say(403, "not\nyou")}, identity.Forbidden, "not you"},
		"once away":        {[]http.HandlerFunc{identitytest.Status(503)}, "", ""},
		"away":             {[]http.HandlerFunc{identitytest.Status(503), identitytest.Status(503)}, identity.Unavailable, "try again later"},
		"too many":         {[]http.HandlerFunc{identitytest.Status(429), identitytest.Status(429)}, identity.Unavailable, "try again later"},
		"no token":         {[]http.HandlerFunc{func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`{"token": {}}`)) }}, identity.Network, "no token in its answer"},
		"long":             {[]http.HandlerFunc{say(400, strings.Repeat("x", 5000))}, identity.Network, "…"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := identitytest.Start(t)
			w := furnish(server)
			server.Fail(test.faults...)
			client, err := identity.New(identity.Config{AuthURL: server.URL})
			require.NoError(t, err)
			_, err = client.Login(t.Context(), w.credential(), identity.Scope{})
			if test.kind == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, test.says)
			assert.True(t, identity.Is(err, test.kind), "%v", err)
			assert.Less(t, len(err.Error()), 600)
		})
	}
}

func TestClocks(t *testing.T) {
	t.Parallel()
	server := identitytest.Start(t)
	w := furnish(server)
	server.Skew(-3 * time.Hour)
	client, err := identity.New(identity.Config{AuthURL: server.URL})
	require.NoError(t, err)
	token, err := client.Login(t.Context(), w.credential(), identity.Scope{})
	require.NoError(t, err)
	assert.WithinDuration(t, time.Now().Add(time.Hour), token.Expires, 5*time.Second, "by this machine's clock")
	assert.InDelta(t, (3 * time.Hour).Seconds(), token.Skew.Seconds(), 5)
	assert.Equal(t, []string{"POST /v3/auth/tokens"}, server.Requests(), "the login's answer says what the time is")
}

func TestSecretsAreHidden(t *testing.T) {
	t.Parallel()
	const secret = "open-sesame"
	credential := identity.Credential{UserName: "a", Password: secret, ApplicationCredentialKey: secret, Token: secret, Passcode: secret}
	var out strings.Builder
	slog.New(slog.NewTextHandler(&out, nil)).Info("test", "credential", credential, "secret", identity.Secret(secret))
	out.WriteString(fmt.Sprint(credential) + fmt.Sprintf("%v %+v %#v %s %q", credential, credential, credential, credential.Password, credential.Password))
	assert.NotContains(t, out.String(), secret)
}

func TestInterrupted(t *testing.T) {
	t.Parallel()
	server := identitytest.Start(t)
	w := furnish(server)
	client, err := identity.New(identity.Config{AuthURL: server.URL})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = client.Login(ctx, w.credential(), identity.Scope{})
	require.ErrorContains(t, err, "interrupted")
}
