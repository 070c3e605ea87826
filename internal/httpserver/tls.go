// SPDX-License-Identifier: Apache-2.0

package httpserver

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/cloudveneto/caas/internal/logging"
)

// reloadInterval bounds how often handshakes read the files again.
const reloadInterval = time.Second

// TLS names the files of a server's certificate. They are read again while the
// server runs: a changed file counts for the next connection, and files that do
// not fit together, as in the middle of a rotation, leave the old ones in use.
type TLS struct {
	CertFile string
	KeyFile  string
	// ClientCAFile, when set, is what client certificates are verified against.
	ClientCAFile string
	// RequireClientCert refuses connections without a client certificate; without
	// it a handler sees in the request whether there was one.
	RequireClientCert bool
}

// serverConfig returns a configuration that follows the files.
func (t TLS) serverConfig() (*tls.Config, error) {
	if t.CertFile == "" || t.KeyFile == "" {
		return nil, errors.New("tls: certificate file and key file are required")
	}
	if t.RequireClientCert && t.ClientCAFile == "" {
		return nil, errors.New("tls: client certificates cannot be required without a client CA file")
	}
	files := &tlsFiles{settings: t}
	if err := files.load(); err != nil {
		return nil, err
	}
	return &tls.Config{MinVersion: minimumTLS, GetConfigForClient: files.forClient}, nil
}

// tlsFiles is the last usable configuration made from the files.
type tlsFiles struct {
	settings TLS

	mu      sync.Mutex
	checked time.Time
	config  *tls.Config
	content [][]byte
}

// forClient is the configuration for one connection.
func (f *tlsFiles) forClient(hello *tls.ClientHelloInfo) (*tls.Config, error) {
	return f.current(hello.Context()), nil
}

// current returns the configuration, reading the files when it is time to. The
// files are small and local, so reading them under the lock does no harm.
func (f *tlsFiles) current(ctx context.Context) *tls.Config {
	f.mu.Lock()
	defer f.mu.Unlock()
	if time.Since(f.checked) < reloadInterval {
		return f.config
	}
	if err := f.reload(); err != nil {
		logging.From(ctx).ErrorContext(ctx, "certificate files are unusable, keeping the old ones", "error", err)
	}
	return f.config
}

func (f *tlsFiles) load() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.reload()
}

func (f *tlsFiles) reload() error {
	f.checked = time.Now()
	var content [][]byte
	for _, name := range []string{f.settings.CertFile, f.settings.KeyFile, f.settings.ClientCAFile} {
		var text []byte
		if name != "" {
			var err error
			if text, err = os.ReadFile(name); err != nil { //nolint:gosec // the operator names the files
				return fmt.Errorf("tls: %w", err)
			}
		}
		content = append(content, text)
	}
	if f.config != nil && same(content, f.content) {
		return nil
	}
	config, err := f.settings.config(content)
	if err != nil {
		return err
	}
	f.config, f.content = config, content
	return nil
}

func same(a, b [][]byte) bool {
	for i := range a {
		if !bytes.Equal(a[i], b[i]) {
			return false
		}
	}
	return true
}

// config builds a configuration from certificate, key and client CA. Session
// tickets belong to one configuration, so a changed client CA ends resumption too.
func (t TLS) config(content [][]byte) (*tls.Config, error) {
	certificate, err := tls.X509KeyPair(content[0], content[1])
	if err != nil {
		return nil, fmt.Errorf("tls: certificate %s with key %s: %w", t.CertFile, t.KeyFile, err)
	}
	config := &tls.Config{
		MinVersion:   minimumTLS,
		NextProtos:   []string{"h2", "http/1.1"},
		Certificates: []tls.Certificate{certificate},
	}
	if t.ClientCAFile == "" {
		return config, nil
	}
	config.ClientCAs = x509.NewCertPool()
	if !config.ClientCAs.AppendCertsFromPEM(content[2]) {
		return nil, fmt.Errorf("tls: client CA file %s holds no certificate", t.ClientCAFile)
	}
	config.ClientAuth = tls.VerifyClientCertIfGiven
	if t.RequireClientCert {
		config.ClientAuth = tls.RequireAndVerifyClientCert
	}
	return config, nil
}
