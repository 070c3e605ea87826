// SPDX-License-Identifier: Apache-2.0

package openstack

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/cloudveneto/caas/internal/telemetry"
)

const maxRedirects = 3

// transports are those of a provider's calls. What can be repeated has half of the
// operation's time to be answered. What cannot is waited for as long as the operation may
// take: a busy Nova does it all the same, and then it would have to be looked for.
type transports struct{ hasty, patient *http.Transport }

// RoundTrip implements http.RoundTripper.
func (t *transports) RoundTrip(request *http.Request) (*http.Response, error) {
	if repeatable(request) {
		return t.hasty.RoundTrip(request)
	}
	return t.patient.RoundTrip(request)
}

// CloseIdleConnections does so for both.
func (t *transports) CloseIdleConnections() {
	t.hasty.CloseIdleConnections()
	t.patient.CloseIdleConnections()
}

// newTransport trusts the given certificates alone, if there are any.
func newTransport(p Provider) (*transports, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if p.CAFile != "" {
		pem, err := os.ReadFile(p.CAFile)
		if err != nil {
			return nil, fmt.Errorf("read CA file: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("CA file %q has no certificates", p.CAFile)
		}
	}
	dialer := &net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}
	patient := &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         dialer.DialContext,
		TLSClientConfig:     config,
		TLSHandshakeTimeout: 10 * time.Second,
		MaxIdleConnsPerHost: p.Limits.InFlight,
		IdleConnTimeout:     time.Minute,
		ForceAttemptHTTP2:   true,
	}
	hasty := patient.Clone()
	hasty.ResponseHeaderTimeout = p.Timeout.Duration / 2
	return &transports{hasty: hasty, patient: patient}, nil
}

// client is an HTTP client whose calls are counted, limited by a bucket, and repeated
// where that is safe.
func (p *provider) client(limit *bucket, service func(address string) string) http.Client {
	return http.Client{
		Transport: &repeated{next: &throttled{bucket: limit, next: &metered{
			next: telemetry.Transport(p.base), metrics: p.metrics, provider: p.ID, service: service,
		}}},
		CheckRedirect: stayHome,
	}
}

// stayHome follows redirects of reads to the same host only: the token in the headers
// is for nobody else, and a POST must not be sent again.
func stayHome(request *http.Request, via []*http.Request) error {
	first := via[0]
	switch {
	case len(via) > maxRedirects:
		return errors.New("too many redirects")
	case first.Method != http.MethodGet && first.Method != http.MethodHead:
		return fmt.Errorf("redirect of a %s request", first.Method)
	case request.URL.Host != first.URL.Host || request.URL.Scheme != first.URL.Scheme:
		return fmt.Errorf("redirect to another host, %s", request.URL.Host)
	default:
		return nil
	}
}

// untrusted tells that the far end could not prove who it is, which more tries will
// not change.
func untrusted(err error) bool {
	var verification *tls.CertificateVerificationError
	var authority x509.UnknownAuthorityError
	var name x509.HostnameError
	return errors.As(err, &verification) || errors.As(err, &authority) || errors.As(err, &name)
}
