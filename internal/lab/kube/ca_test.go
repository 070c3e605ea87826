// SPDX-License-Identifier: Apache-2.0

package kube_test

import (
	"crypto/x509"
	"encoding/pem"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/cloudveneto/caas/internal/lab/kube"
)

func newCA(t *testing.T) (*kube.CA, kube.KeyPair) {
	t.Helper()
	ca, pair, err := kube.NewCA("test-ca")
	require.NoError(t, err)
	return ca, pair
}

func parse(t *testing.T, certificate []byte) *x509.Certificate {
	t.Helper()
	block, rest := pem.Decode(certificate)
	require.NotNil(t, block)
	require.Empty(t, rest)
	parsed, err := x509.ParseCertificate(block.Bytes)
	require.NoError(t, err)
	return parsed
}

func TestIssue(t *testing.T) {
	t.Parallel()
	ca, _ := newCA(t)
	roots := x509.NewCertPool()
	require.True(t, roots.AppendCertsFromPEM(ca.PEM))
	tests := map[string]struct {
		issue func() (kube.KeyPair, error)
		usage x509.ExtKeyUsage
		check func(*testing.T, *x509.Certificate)
	}{
		"client": {
			issue: func() (kube.KeyPair, error) { return ca.Client("alice", "group-a", "group-b") },
			usage: x509.ExtKeyUsageClientAuth,
			check: func(t *testing.T, cert *x509.Certificate) {
				t.Helper()
				assert.Equal(t, "alice", cert.Subject.CommonName)
				assert.Equal(t, []string{"group-a", "group-b"}, cert.Subject.Organization)
			},
		},
		"serving": {
			issue: func() (kube.KeyPair, error) { return ca.Serving("server", "10.0.0.1", "server.example.org") },
			usage: x509.ExtKeyUsageServerAuth,
			check: func(t *testing.T, cert *x509.Certificate) {
				t.Helper()
				require.NoError(t, cert.VerifyHostname("server.example.org"))
				require.NoError(t, cert.VerifyHostname("10.0.0.1"))
				require.Error(t, cert.VerifyHostname("10.0.0.2"))
				assert.True(t, cert.IPAddresses[0].Equal(net.IPv4(10, 0, 0, 1)))
			},
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pair, err := tc.issue()
			require.NoError(t, err)
			cert := parse(t, pair.Cert)
			_, err = cert.Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{tc.usage}})
			require.NoError(t, err)
			assert.False(t, cert.IsCA)
			assert.True(t, cert.NotBefore.Before(time.Now()))
			tc.check(t, cert)
			block, _ := pem.Decode(pair.Key)
			require.NotNil(t, block)
			assert.Equal(t, "EC PRIVATE KEY", block.Type, "kube-apiserver reads no other")
		})
	}
}

func TestIssuedTwiceDiffers(t *testing.T) {
	t.Parallel()
	ca, _ := newCA(t)
	one, err := ca.Client("alice")
	require.NoError(t, err)
	other, err := ca.Client("alice")
	require.NoError(t, err)
	assert.NotEqual(t, parse(t, one.Cert).SerialNumber, parse(t, other.Cert).SerialNumber)
}

func TestLoadCA(t *testing.T) {
	t.Parallel()
	_, pair := newCA(t)
	dir := t.TempDir()
	certFile, keyFile := filepath.Join(dir, "ca.crt"), filepath.Join(dir, "ca.key")
	require.NoError(t, os.WriteFile(certFile, pair.Cert, 0o600))
	require.NoError(t, os.WriteFile(keyFile, pair.Key, 0o600))
	loaded, err := kube.LoadCA(certFile, keyFile)
	require.NoError(t, err)
	issued, err := loaded.Client("bob")
	require.NoError(t, err)
	require.NoError(t, parse(t, issued.Cert).CheckSignatureFrom(parse(t, pair.Cert)))

	_, err = kube.LoadCA(filepath.Join(dir, "absent"), keyFile)
	require.ErrorIs(t, err, os.ErrNotExist)
	_, err = kube.LoadCA(keyFile, certFile)
	require.ErrorContains(t, err, "parse CA")
}

func TestWriteKubeconfig(t *testing.T) {
	t.Parallel()
	ca, _ := newCA(t)
	pair, err := ca.Client("alice")
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "kubeconfig")
	require.NoError(t, kube.WriteKubeconfig(path, "https://10.0.0.1:6443", ca.PEM, pair))
	info, err := os.Stat(path)
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	config, err := clientcmd.BuildConfigFromFlags("", path)
	require.NoError(t, err)
	assert.Equal(t, "https://10.0.0.1:6443", config.Host)
	assert.Equal(t, ca.PEM, config.CAData)
	assert.Equal(t, pair.Cert, config.CertData)
	assert.Equal(t, pair.Key, config.KeyData)
}
