// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"time"
)

const (
	dialTimeout = 5 * time.Second
	// idleTimeout is less than that of the API server, so that no request meets its end.
	idleTimeout = 60 * time.Second
	// pingAfter is how long an HTTP/2 connection may be silent before it is tried.
	pingAfter = 15 * time.Second
)

// Transport reaches an API server: by HTTP/2, and by HTTP/1.1 what upgrades its connection.
type Transport struct{ multiplexed, upgrading *http.Transport }

// NewTransport trusts the given authorities, or the system's when nil. It has no client certificate and uses no proxy.
func NewTransport(authorities *x509.CertPool) *Transport {
	one := func(protocols ...string) *http.Transport {
		dialer := &net.Dialer{Timeout: dialTimeout, KeepAlive: 30 * time.Second}
		return &http.Transport{
			DialContext:         dialer.DialContext,
			TLSClientConfig:     &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: authorities, NextProtos: protocols},
			TLSHandshakeTimeout: dialTimeout,
			IdleConnTimeout:     idleTimeout,
			MaxIdleConnsPerHost: 100,
			// Who wants a compressed answer says so, and gets it as it is.
			DisableCompression: true,
		}
	}
	multiplexed := one("h2", "http/1.1")
	multiplexed.ForceAttemptHTTP2 = true
	multiplexed.HTTP2 = &http.HTTP2Config{SendPingTimeout: pingAfter, PingTimeout: pingAfter}
	return &Transport{multiplexed: multiplexed, upgrading: one("http/1.1")}
}

// RoundTrip implements http.RoundTripper.
func (t *Transport) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Header.Get("Upgrade") != "" {
		return t.upgrading.RoundTrip(r)
	}
	return t.multiplexed.RoundTrip(r)
}

// CloseIdleConnections closes what is not in use.
func (t *Transport) CloseIdleConnections() {
	t.multiplexed.CloseIdleConnections()
	t.upgrading.CloseIdleConnections()
}
