// SPDX-License-Identifier: Apache-2.0

package httpserver_test

import (
	"crypto/tls"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/cloudveneto/caas/internal/httpserver"
	"github.com/cloudveneto/caas/internal/httpserver/httpservertest"
)

// handshake makes one request over a new connection and returns the name of the
// server's certificate.
func handshake(t *testing.T, base string, config *tls.Config) (server string, err error) {
	t.Helper()
	transport := &http.Transport{TLSClientConfig: config, DisableKeepAlives: true}
	defer transport.CloseIdleConnections()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, strings.Replace(base, "http://", "https://", 1), nil)
	require.NoError(t, err)
	answer, err := (&http.Client{Transport: transport}).Do(request)
	if err != nil {
		return "", err
	}
	defer func() { _ = answer.Body.Close() }()
	_, err = io.ReadAll(answer.Body)
	return answer.TLS.PeerCertificates[0].Subject.CommonName, err
}

func TestCertificatesAreReloaded(t *testing.T) {
	t.Parallel()
	directory := t.TempDir()
	ca, clients, newClients := httpservertest.NewCA(t, "ca"), httpservertest.NewCA(t, "clients"), httpservertest.NewCA(t, "new clients")
	certificate, key := ca.Issue(t, "first")
	files := httpserver.TLS{
		CertFile:          httpservertest.Write(t, directory, "tls.crt", certificate),
		KeyFile:           httpservertest.Write(t, directory, "tls.key", key),
		ClientCAFile:      httpservertest.Write(t, directory, "clients.crt", clients.PEM()),
		RequireClientCert: true,
	}
	base, _ := run(t, httpserver.Config{Handler: http.HandlerFunc(echo), TLS: &files})
	mine := &tls.Config{RootCAs: ca.Pool(), Certificates: []tls.Certificate{clients.Pair(t, "me")}}

	server, err := handshake(t, base, mine)
	require.NoError(t, err)
	assert.Equal(t, "first", server)
	_, err = handshake(t, base, &tls.Config{RootCAs: ca.Pool()})
	require.Error(t, err, "no certificate")
	_, err = handshake(t, base, &tls.Config{RootCAs: ca.Pool(), Certificates: []tls.Certificate{newClients.Pair(t, "me")}})
	require.Error(t, err, "certificate of another authority")
	_, err = handshake(t, base, &tls.Config{RootCAs: ca.Pool(), Certificates: mine.Certificates, MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10})
	require.Error(t, err, "TLS 1.1")

	// The middle of a rotation: a certificate that does not fit the key.
	certificate, key = ca.Issue(t, "second")
	httpservertest.Write(t, directory, "tls.crt", certificate)
	<-time.NewTimer(1100 * time.Millisecond).C
	server, err = handshake(t, base, mine)
	require.NoError(t, err)
	assert.Equal(t, "first", server)

	httpservertest.Write(t, directory, "tls.key", key)
	require.Eventually(t, func() bool {
		server, err = handshake(t, base, mine)
		return err == nil && server == "second"
	}, 10*time.Second, 100*time.Millisecond)

	httpservertest.Write(t, directory, "clients.crt", newClients.PEM())
	require.Eventually(t, func() bool {
		_, err = handshake(t, base, mine)
		return err != nil
	}, 10*time.Second, 100*time.Millisecond, "an authority that was removed is not believed any more")
}

func TestOptionalClientCertificateAndHTTP2(t *testing.T) {
	t.Parallel()
	directory := t.TempDir()
	ca := httpservertest.NewCA(t, "ca")
	certificate, key := ca.Issue(t, "server")
	base, _ := run(t, httpserver.Config{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			name := "nobody"
			if len(r.TLS.VerifiedChains) > 0 {
				name = r.TLS.VerifiedChains[0][0].Subject.CommonName
			}
			body, _ := io.ReadAll(r.Body)
			_, _ = io.WriteString(w, r.Proto+" "+name+" "+string(body))
		}),
		TLS: &httpserver.TLS{
			CertFile:     httpservertest.Write(t, directory, "tls.crt", certificate),
			KeyFile:      httpservertest.Write(t, directory, "tls.key", key),
			ClientCAFile: httpservertest.Write(t, directory, "ca.crt", ca.PEM()),
		},
	})
	base = strings.Replace(base, "http://", "https://", 1)
	for name, test := range map[string]struct {
		config *tls.Config
		http2  bool
		want   string
	}{
		"nobody over HTTP/1":      {&tls.Config{RootCAs: ca.Pool()}, false, "HTTP/1.1 nobody hello"},
		"certificate over HTTP/2": {&tls.Config{RootCAs: ca.Pool(), Certificates: []tls.Certificate{ca.Pair(t, "me")}}, true, "HTTP/2.0 me hello"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			transport := &http.Transport{TLSClientConfig: test.config, ForceAttemptHTTP2: test.http2}
			t.Cleanup(transport.CloseIdleConnections)
			code, text := get(t, &http.Client{Transport: transport}, http.MethodGet, base, strings.NewReader("hello"))
			assert.Equal(t, http.StatusOK, code)
			assert.Equal(t, test.want, text)
		})
	}
}
