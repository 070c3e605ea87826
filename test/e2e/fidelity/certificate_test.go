// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package fidelity_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/cloudveneto/caas/internal/lab/kube"
	"github.com/cloudveneto/caas/internal/lab/offload"
)

// ownAuthority replaces the authority of a path's own connection by one whose key is at hand.
func ownAuthority(path *offload.Path) error {
	file := func(name string) string { return filepath.Join(path.Dir(), name) }
	if _, err := os.Stat(file("fidelity-ca.key")); err == nil {
		return nil
	}
	ca, pair, err := kube.NewCA("interlink-fidelity")
	if err != nil {
		return err
	}
	server, err := ca.Serving("interlink-api", "10.88.0.1")
	if err != nil {
		return err
	}
	client, err := ca.Client("virtual-kubelet-" + path.Node)
	if err != nil {
		return err
	}
	for name, content := range map[string][]byte{
		"interlink-ca.crt": ca.PEM, "fidelity-ca.key": pair.Key, "api.crt": server.Cert, "api.key": server.Key, "client.crt": client.Cert, "client.key": client.Key,
	} {
		if err := os.WriteFile(file(name), content, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// expired makes a client certificate that was good until a minute ago.
func expired(t *testing.T, path *offload.Path) (certificate, key []byte) {
	t.Helper()
	authority, _, _ := path.ClientFiles()
	ca, err := tls.LoadX509KeyPair(authority, filepath.Join(path.Dir(), "fidelity-ca.key"))
	require.NoError(t, err)
	own, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "virtual-kubelet-" + path.Node},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(-time.Minute),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	signed, err := x509.CreateCertificate(rand.Reader, template, ca.Leaf, &own.PublicKey, ca.PrivateKey)
	require.NoError(t, err)
	encoded, err := x509.MarshalPKCS8PrivateKey(own)
	require.NoError(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: signed}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: encoded})
}

// expiredCertificate has the virtual kubelet's client certificate expire, and be renewed later.
func expiredCertificate(t *testing.T, r *room) {
	c := perform(t, r)
	_, certFile, keyFile := r.path.ClientFiles()
	goodCert, err := os.ReadFile(certFile)
	require.NoError(t, err)
	goodKey, err := os.ReadFile(keyFile)
	require.NoError(t, err)
	write := func(cert, key []byte) {
		require.NoError(t, os.WriteFile(certFile, cert, 0o600))
		require.NoError(t, os.WriteFile(keyFile, key, 0o600))
	}
	t.Cleanup(func() { write(goodCert, goodKey) })
	write(expired(t, r.path))
	require.NoError(t, r.path.Kill(t.Context(), offload.API), "connections that are open do not end with a certificate")
	require.NoError(t, r.path.StartAll(t.Context()))
	c.change(t)
	r.awaitNotReady(t)
	write(goodCert, goodKey)
	c.verify(t)
}
