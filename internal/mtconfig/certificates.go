// SPDX-License-Identifier: Apache-2.0

package mtconfig

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"time"
)

const (
	authorityLife   = 10 * 365 * 24 * time.Hour
	certificateLife = 365 * 24 * time.Hour
	// soon is when a certificate is reported before it expires.
	soon     = 30 * 24 * time.Hour
	backdate = time.Hour
	// serialBits is what RFC 5280 allows, minus the sign and some room.
	serialBits = 120
)

// pair is a certificate and its key, both PEM.
type pair struct{ cert, key []byte }

// wanted is a certificate that the directory has, FILE.crt and FILE.key.
type wanted struct {
	file, name string
	// names are those of a server; a client has none.
	names []string
	// byCluster tells that the cluster's CA signs it, and not the webhooks'.
	byCluster bool
}

type reader struct{ file, user, kubeconfig string }

// readers are whom the webhooks read the cluster's objects as.
func readers() []reader {
	return []reader{
		{file: "authz-reader", user: "system:kube-mt-authz", kubeconfig: "authz-reader.kubeconfig"},
		{file: "admission-reader", user: "system:kube-mt-admission", kubeconfig: "admission.kubeconfig"},
		{file: "tenants", user: "system:kube-mt-tenants", kubeconfig: "tenants.kubeconfig"},
	}
}

func (s Site) certificates() []wanted {
	here := []string{loopback, "::1", "localhost"}
	all := []wanted{
		{file: "authn", name: authnWebhook, names: here},
		{file: "authz", name: authzWebhook, names: here},
		{file: "admission", name: admissionHook, names: here},
		{file: "apiserver-client", name: "kube-apiserver"},
	}
	for _, one := range readers() {
		all = append(all, wanted{file: one.file, name: one.user, byCluster: true})
	}
	if s.Proxy != nil && len(s.Proxy.Names) > 0 {
		all = append(all, wanted{file: "proxy", name: proxyProgram, names: s.Proxy.Names, byCluster: true})
	}
	return all
}

// authority is a CA whose key is at hand.
type authority struct {
	cert *x509.Certificate
	key  crypto.Signer
}

func parseAuthority(from pair) (authority, error) {
	parsed, err := tls.X509KeyPair(from.cert, from.key)
	if err != nil {
		return authority{}, err
	}
	key, signs := parsed.PrivateKey.(crypto.Signer)
	if !signs || !parsed.Leaf.IsCA {
		return authority{}, errors.New("it is not the certificate of an authority")
	}
	return authority{cert: parsed.Leaf, key: key}, nil
}

// newAuthority makes the webhooks' own CA.
func newAuthority(now time.Time) (pair, error) {
	template, err := template("kube-mt", now, authorityLife)
	if err != nil {
		return pair{}, err
	}
	template.IsCA, template.BasicConstraintsValid, template.MaxPathLenZero = true, true, true
	template.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign | x509.KeyUsageDigitalSignature
	return sign(template, nil)
}

// issue makes a certificate and its key.
func (a authority) issue(want wanted, now time.Time) (pair, error) {
	template, err := template(want.name, now, certificateLife)
	if err != nil {
		return pair{}, err
	}
	if template.NotAfter.After(a.cert.NotAfter) {
		template.NotAfter = a.cert.NotAfter
	}
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.ExtKeyUsage = []x509.ExtKeyUsage{want.usage()}
	for _, name := range want.names {
		if ip := net.ParseIP(name); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	return sign(template, &a)
}

func (w wanted) usage() x509.ExtKeyUsage {
	if len(w.names) > 0 {
		return x509.ExtKeyUsageServerAuth
	}
	return x509.ExtKeyUsageClientAuth
}

func template(name string, now time.Time, life time.Duration) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), serialBits))
	if err != nil {
		return nil, err
	}
	return &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name}, NotBefore: now.Add(-backdate), NotAfter: now.Add(life),
	}, nil
}

func sign(template *x509.Certificate, by *authority) (pair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return pair{}, err
	}
	if by == nil {
		by = &authority{cert: template, key: key}
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, by.cert, key.Public(), by.key)
	if err != nil {
		return pair{}, err
	}
	encoded, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return pair{}, err
	}
	return pair{
		cert: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}),
		key:  pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: encoded}),
	}, nil
}

// fits says why a certificate is not the one that is wanted.
func (w wanted) fits(have pair, by *x509.Certificate, now time.Time) error {
	parsed, err := tls.X509KeyPair(have.cert, have.key)
	if err != nil {
		return err
	}
	leaf := parsed.Leaf
	if leaf.Subject.CommonName != w.name {
		return fmt.Errorf("it is for %q and not for %q", leaf.Subject.CommonName, w.name)
	}
	roots := x509.NewCertPool()
	roots.AddCert(by)
	options := x509.VerifyOptions{Roots: roots, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{w.usage()}}
	if _, err := leaf.Verify(options); err != nil {
		return err
	}
	for _, name := range w.names {
		if err := leaf.VerifyHostname(name); err != nil {
			return err
		}
	}
	return nil
}

// expiry is when a certificate ends.
func expiry(content []byte) (time.Time, error) {
	block, _ := pem.Decode(content)
	if block == nil {
		return time.Time{}, errors.New("it is no certificate")
	}
	parsed, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return time.Time{}, err
	}
	return parsed.NotAfter, nil
}
