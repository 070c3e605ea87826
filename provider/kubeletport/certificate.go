// SPDX-License-Identifier: Apache-2.0

package kubeletport

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"sync"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/util/certificate"
)

// Certificate says where the serving certificate comes from: from files when
// they are named, else self-signed if wanted, else from a signing request.
type Certificate struct {
	CertFile, KeyFile string
	SelfSigned        bool
	// SignerName signs the request; usually kubernetes.io/kubelet-serving.
	SignerName string
	// Dir keeps key (readable by the owner only) and certificate of the request.
	Dir string
}

// source hands out the current certificate.
type source struct {
	get   func(*tls.ClientHelloInfo) (*tls.Certificate, error)
	start func()
	stop  func()
}

func (c Certificate) source(cfg Config) (source, error) {
	nothing := func() {}
	switch {
	case c.CertFile != "":
		files := &filePair{cert: c.CertFile, key: c.KeyFile}
		if _, err := files.get(nil); err != nil {
			return source{}, err
		}
		return source{files.get, nothing, nothing}, nil
	case c.SelfSigned:
		pair, err := selfSigned(cfg)
		if err != nil {
			return source{}, err
		}
		return source{func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return pair, nil }, nothing, nothing}, nil
	default:
		return c.requested(cfg)
	}
}

// requested makes a manager that asks the cluster for a certificate and renews
// it when about 80 % of its life are over.
func (c Certificate) requested(cfg Config) (source, error) {
	if c.Dir == "" {
		return source{}, errors.New("a directory for the certificate is required")
	}
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return source{}, err
	}
	store, err := certificate.NewFileStore("kubelet-server", c.Dir, c.Dir, "", "")
	if err != nil {
		return source{}, fmt.Errorf("certificate store: %w", err)
	}
	manager, err := certificate.NewManager(&certificate.Config{
		Name:             "kubelet-server",
		ClientsetFn:      func(*tls.Certificate) (kubernetes.Interface, error) { return cfg.Client, nil },
		GetTemplate:      func() *x509.CertificateRequest { return request(cfg) },
		SignerName:       c.SignerName,
		GetUsages:        certificate.DefaultKubeletServingGetUsages,
		CertificateStore: store,
	})
	if err != nil {
		return source{}, fmt.Errorf("certificate manager: %w", err)
	}
	get := func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		if current := manager.Current(); current != nil {
			return current, nil
		}
		return nil, errors.New("the certificate has not been issued yet; is its signing request approved?")
	}
	return source{get, manager.Start, manager.Stop}, nil
}

// request is what the kubelet-serving signer demands.
func request(cfg Config) *x509.CertificateRequest {
	template := &x509.CertificateRequest{
		Subject:  pkix.Name{CommonName: "system:node:" + cfg.NodeName, Organization: []string{"system:nodes"}},
		DNSNames: []string{cfg.NodeName},
	}
	if address := net.ParseIP(cfg.NodeAddress); address != nil {
		template.IPAddresses = []net.IP{address}
	}
	return template
}

func selfSigned(cfg Config) (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make key: %w", err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, fmt.Errorf("make serial number: %w", err)
	}
	wanted := request(cfg)
	template := &x509.Certificate{
		SerialNumber: serial, Subject: wanted.Subject, DNSNames: wanted.DNSNames, IPAddresses: wanted.IPAddresses,
		NotBefore: time.Now().Add(-5 * time.Minute), NotAfter: time.Now().AddDate(1, 0, 0),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("sign certificate: %w", err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}

// filePair reads a certificate again whenever its file changed; a pair that does
// not fit, as in the middle of a rotation, leaves the old one in use.
type filePair struct {
	cert, key string

	mu      sync.Mutex
	changed time.Time
	pair    *tls.Certificate
}

func (f *filePair) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	info, err := os.Stat(f.cert)
	if err == nil && f.pair != nil && info.ModTime().Equal(f.changed) {
		return f.pair, nil
	}
	if err == nil {
		var pair tls.Certificate
		if pair, err = tls.LoadX509KeyPair(f.cert, f.key); err == nil {
			f.pair, f.changed = &pair, info.ModTime()
		}
	}
	if f.pair != nil {
		return f.pair, nil
	}
	return nil, fmt.Errorf("load certificate: %w", err)
}
