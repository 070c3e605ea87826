// SPDX-License-Identifier: Apache-2.0

package settings

import (
	"crypto/tls"
	"fmt"
	"os"
	"strings"
	"sync"
)

// TLSConfig is the client side of the connection to the far end. The client
// certificate is read again for every new connection, so that a rotated one is
// used without losing the connections that exist.
func (f *FarEnd) TLSConfig() (*tls.Config, error) {
	config := &tls.Config{
		MinVersion: tls.VersionTLS12, RootCAs: f.CAs,
		InsecureSkipVerify: f.Insecure, //nolint:gosec // upstream's HTTP.Insecure asks for it
	}
	if f.CertFile == "" {
		return config, nil
	}
	last, err := tls.LoadX509KeyPair(f.CertFile, f.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("client certificate: %w", err)
	}
	var mu sync.Mutex
	config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		mu.Lock()
		defer mu.Unlock()
		// Files that do not fit together are in the middle of a rotation.
		if pair, err := tls.LoadX509KeyPair(f.CertFile, f.KeyFile); err == nil {
			last = pair
		}
		return &last, nil
	}
	return config, nil
}

// Token returns the bearer token to send, "" for none. The file is read each
// time: whoever refreshes the token replaces it.
func (f *FarEnd) Token() (string, error) {
	if f.TokenFile == "" {
		return "", nil
	}
	data, err := os.ReadFile(f.TokenFile)
	if err != nil {
		return "", err
	}
	return strings.TrimSpace(string(data)), nil
}
