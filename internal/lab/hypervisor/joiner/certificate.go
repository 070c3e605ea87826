// SPDX-License-Identifier: Apache-2.0

package joiner

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"fmt"
	"net"

	certificatesv1 "k8s.io/api/certificates/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/util/cert"
	"k8s.io/client-go/util/certificate/csr"
	"k8s.io/client-go/util/keyutil"
)

const (
	nodeUserPrefix = "system:node:"
	nodesGroup     = "system:nodes"
)

// credentials are what a kubelet keeps on its disk.
type credentials struct{ certificate, key []byte }

// wish is a request for a certificate.
type wish struct {
	signer string
	name   string // the common name
	dns    []string
	ips    []net.IP
	usages []certificatesv1.KeyUsage
	key    *ecdsa.PrivateKey
}

func clientWish(name string) (wish, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	return wish{
		signer: certificatesv1.KubeAPIServerClientKubeletSignerName, name: name, key: key,
		usages: []certificatesv1.KeyUsage{certificatesv1.UsageDigitalSignature, certificatesv1.UsageClientAuth},
	}, err
}

func servingWish(name string, dns []string, ips []net.IP) (wish, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	return wish{
		signer: certificatesv1.KubeletServingSignerName, name: name, dns: dns, ips: ips, key: key,
		usages: []certificatesv1.KeyUsage{certificatesv1.UsageDigitalSignature, certificatesv1.UsageServerAuth},
	}, err
}

// ask makes the request and waits until it is answered. requested is told its name.
func (w wish) ask(ctx context.Context, client kubernetes.Interface, requested func(string)) (credentials, error) {
	template := &x509.CertificateRequest{
		Subject: pkix.Name{CommonName: w.name, Organization: []string{nodesGroup}}, DNSNames: w.dns, IPAddresses: w.ips,
	}
	request, err := cert.MakeCSRFromTemplate(w.key, template)
	if err != nil {
		return credentials{}, fmt.Errorf("make certificate request: %w", err)
	}
	key, err := keyutil.MarshalPrivateKeyToPEM(w.key)
	if err != nil {
		return credentials{}, fmt.Errorf("encode key: %w", err)
	}
	// A repeated attempt with the same key finds its first request.
	sum := sha256.Sum256(append(key, w.signer...))
	name, uid, err := csr.RequestCertificateWithContext(ctx, client, request, "node-csr-"+hex.EncodeToString(sum[:16]), w.signer, nil, w.usages, w.key)
	if err != nil {
		return credentials{}, fmt.Errorf("request certificate: %w", err)
	}
	requested(name)
	certificate, err := csr.WaitForCertificate(ctx, client, name, uid)
	if err != nil {
		return credentials{}, fmt.Errorf("wait for certificate: %w", err)
	}
	return credentials{certificate: certificate, key: key}, nil
}
