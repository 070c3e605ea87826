// SPDX-License-Identifier: Apache-2.0

package kube

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
	"os"
	"time"
)

const (
	// backdate makes certificates valid for clocks that are somewhat behind.
	backdate = time.Hour
	// validity is longer than any lab lives.
	validity = 365 * 24 * time.Hour
	// serialBits is what RFC 5280 allows (20 octets), minus the sign and some room.
	serialBits = 120
)

// KeyPair is a certificate and its private key, both PEM.
type KeyPair struct {
	Cert, Key []byte
}

// Certificate is what is asked of a CA.
type Certificate struct {
	// CommonName is the user name of a client certificate.
	CommonName string
	// Organizations are the groups of a client certificate.
	Organizations []string
	// SANs are the DNS names and IP addresses of a serving certificate.
	SANs []string
	// Usages are the extended key usages.
	Usages []x509.ExtKeyUsage
}

// CA is a certificate authority whose key is at hand.
type CA struct {
	// PEM is the certificate.
	PEM  []byte
	cert *x509.Certificate
	key  crypto.Signer
}

// NewCA makes a self-signed certificate authority.
func NewCA(commonName string) (*CA, KeyPair, error) {
	template, err := newTemplate(commonName)
	if err != nil {
		return nil, KeyPair{}, err
	}
	template.IsCA, template.BasicConstraintsValid = true, true
	template.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature | x509.KeyUsageCRLSign
	pair, err := sign(template, nil)
	if err != nil {
		return nil, KeyPair{}, err
	}
	ca, err := parseCA(pair)
	return ca, pair, err
}

// LoadCA reads a certificate authority from its files.
func LoadCA(certFile, keyFile string) (*CA, error) {
	cert, err := os.ReadFile(certFile) //nolint:gosec // the caller's own file
	if err != nil {
		return nil, fmt.Errorf("load CA: %w", err)
	}
	key, err := os.ReadFile(keyFile) //nolint:gosec // the caller's own file
	if err != nil {
		return nil, fmt.Errorf("load CA: %w", err)
	}
	return parseCA(KeyPair{Cert: cert, Key: key})
}

func parseCA(pair KeyPair) (*CA, error) {
	parsed, err := tls.X509KeyPair(pair.Cert, pair.Key)
	if err != nil {
		return nil, fmt.Errorf("parse CA: %w", err)
	}
	key, isSigner := parsed.PrivateKey.(crypto.Signer)
	if !isSigner {
		return nil, errors.New("parse CA: the key cannot sign")
	}
	return &CA{PEM: pair.Cert, cert: parsed.Leaf, key: key}, nil
}

// Issue makes a key and a certificate for it.
func (c *CA) Issue(want Certificate) (KeyPair, error) {
	template, err := newTemplate(want.CommonName)
	if err != nil {
		return KeyPair{}, err
	}
	template.Subject.Organization = want.Organizations
	template.ExtKeyUsage = want.Usages
	for _, san := range want.SANs {
		if ip := net.ParseIP(san); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, san)
		}
	}
	return sign(template, c)
}

// Client issues a client certificate for a Kubernetes user with groups.
func (c *CA) Client(user string, groups ...string) (KeyPair, error) {
	return c.Issue(Certificate{CommonName: user, Organizations: groups, Usages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
}

// Serving issues a serving certificate for DNS names and IP addresses.
func (c *CA) Serving(commonName string, sans ...string) (KeyPair, error) {
	return c.Issue(Certificate{CommonName: commonName, SANs: sans, Usages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
}

func newTemplate(commonName string) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), serialBits))
	if err != nil {
		return nil, fmt.Errorf("issue certificate for %s: %w", commonName, err)
	}
	now := time.Now()
	return &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: commonName},
		NotBefore:    now.Add(-backdate),
		NotAfter:     now.Add(validity),
		KeyUsage:     x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment,
	}, nil
}

// sign makes the key pair; without a CA the certificate signs itself. The key is SEC1 because kube-apiserver cannot
// read the public half of a service account key out of PKCS #8.
func sign(template *x509.Certificate, by *CA) (KeyPair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return KeyPair{}, fmt.Errorf("make key for %s: %w", template.Subject.CommonName, err)
	}
	if by == nil {
		by = &CA{cert: template, key: key}
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, by.cert, key.Public(), by.key)
	if err != nil {
		return KeyPair{}, fmt.Errorf("sign certificate for %s: %w", template.Subject.CommonName, err)
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return KeyPair{}, fmt.Errorf("encode key for %s: %w", template.Subject.CommonName, err)
	}
	return KeyPair{
		Cert: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}),
		Key:  pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}),
	}, nil
}
