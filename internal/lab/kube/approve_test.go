// SPDX-License-Identifier: Apache-2.0

package kube_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"net"
	"net/url"
	"testing"

	"github.com/stretchr/testify/require"
	certificatesv1 "k8s.io/api/certificates/v1"

	"github.com/cloudveneto/caas/internal/lab/kube"
)

const (
	nodeUser  = "system:node:n1"
	nodeGroup = "system:nodes"
)

// servingTemplate is what kubelet n1 at 10.0.0.1 asks for.
func servingTemplate() *x509.CertificateRequest {
	return &x509.CertificateRequest{
		Subject:     pkix.Name{CommonName: nodeUser, Organization: []string{nodeGroup}},
		DNSNames:    []string{"n1"},
		IPAddresses: []net.IP{net.IPv4(10, 0, 0, 1)},
	}
}

func servingRequest(t *testing.T, template *x509.CertificateRequest) *certificatesv1.CertificateSigningRequest {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	der, err := x509.CreateCertificateRequest(rand.Reader, template, key)
	require.NoError(t, err)
	return &certificatesv1.CertificateSigningRequest{Spec: certificatesv1.CertificateSigningRequestSpec{
		SignerName: certificatesv1.KubeletServingSignerName,
		Username:   nodeUser,
		Groups:     []string{nodeGroup, "system:authenticated"},
		Usages:     []certificatesv1.KeyUsage{certificatesv1.UsageDigitalSignature, certificatesv1.UsageServerAuth},
		Request:    pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}),
	}}
}

type servingCase struct {
	template func(*x509.CertificateRequest)
	spec     func(*certificatesv1.CertificateSigningRequestSpec)
	unknown  bool
	want     string
}

func servingCases() map[string]servingCase {
	return map[string]servingCase{
		"as a kubelet asks": {},
		"unknown node":      {unknown: true, want: "is not known"},
		"other signer": {
			spec: func(s *certificatesv1.CertificateSigningRequestSpec) {
				s.SignerName = certificatesv1.KubeAPIServerClientSignerName
			}, want: "signer is",
		},
		"not a node": {
			spec: func(s *certificatesv1.CertificateSigningRequestSpec) { s.Username = "alice" }, want: "is not a node",
		},
		"not in the nodes' group": {
			spec: func(s *certificatesv1.CertificateSigningRequestSpec) { s.Groups = []string{"system:authenticated"} }, want: "is not a node",
		},
		"client usage": {
			spec: func(s *certificatesv1.CertificateSigningRequestSpec) {
				s.Usages = append(s.Usages, certificatesv1.UsageClientAuth)
			}, want: "is not for server auth",
		},
		"no serving usage": {
			spec: func(s *certificatesv1.CertificateSigningRequestSpec) { s.Usages = s.Usages[:1] }, want: "is not for server auth",
		},
		"not PEM": {
			spec: func(s *certificatesv1.CertificateSigningRequestSpec) { s.Request = []byte("nothing") }, want: "not PEM",
		},
		"another node's name": {
			template: func(r *x509.CertificateRequest) { r.Subject.CommonName = "system:node:n2" }, want: "common name",
		},
		"other organization": {
			template: func(r *x509.CertificateRequest) { r.Subject.Organization = []string{"system:masters"} }, want: "organization",
		},
		"foreign address": {
			template: func(r *x509.CertificateRequest) { r.IPAddresses = append(r.IPAddresses, net.IPv4(10, 0, 0, 2)) }, want: "10.0.0.2",
		},
		"foreign name": {
			template: func(r *x509.CertificateRequest) { r.DNSNames = append(r.DNSNames, "kubernetes.default.svc") }, want: "kubernetes.default.svc",
		},
		"no address": {
			template: func(r *x509.CertificateRequest) { r.DNSNames, r.IPAddresses = nil, nil }, want: "names no address",
		},
		"e-mail address": {
			template: func(r *x509.CertificateRequest) { r.EmailAddresses = []string{"a@example.org"} }, want: "e-mail",
		},
		"URI": {
			template: func(r *x509.CertificateRequest) { r.URIs = []*url.URL{{Scheme: "https", Host: "example.org"}} }, want: "URIs",
		},
	}
}

func TestCheckServing(t *testing.T) {
	t.Parallel()
	for name, tc := range servingCases() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			template := servingTemplate()
			if tc.template != nil {
				tc.template(template)
			}
			request := servingRequest(t, template)
			if tc.spec != nil {
				tc.spec(&request.Spec)
			}
			addresses := []string{"10.0.0.1"}
			if tc.unknown {
				addresses = nil
			}
			err := kube.CheckServing(request, addresses)
			if tc.want == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, tc.want)
		})
	}
}

func TestCheckServingSignature(t *testing.T) {
	t.Parallel()
	request := servingRequest(t, servingTemplate())
	block, _ := pem.Decode(request.Spec.Request)
	block.Bytes[len(block.Bytes)-1] ^= 1
	request.Spec.Request = pem.EncodeToMemory(block)
	require.Error(t, kube.CheckServing(request, []string{"10.0.0.1"}))
}

func TestCheckClient(t *testing.T) {
	t.Parallel()
	tests := map[string]servingCase{
		"as a kubelet asks": {},
		"a serving certificate": {
			spec: func(s *certificatesv1.CertificateSigningRequestSpec) {
				s.SignerName = certificatesv1.KubeletServingSignerName
			}, want: "signer is",
		},
		"another token": {
			spec: func(s *certificatesv1.CertificateSigningRequestSpec) { s.Username = "system:bootstrap:ffffff" }, want: "does not bootstrap",
		},
		"a node": {
			spec: func(s *certificatesv1.CertificateSigningRequestSpec) { s.Username = nodeUser }, want: "does not bootstrap",
		},
		"for serving": {
			spec: func(s *certificatesv1.CertificateSigningRequestSpec) {
				s.Usages = []certificatesv1.KeyUsage{certificatesv1.UsageServerAuth}
			}, want: "is not for client auth",
		},
		"a stranger's node": {
			template: func(r *x509.CertificateRequest) { r.Subject.CommonName = "system:node:n9" }, want: "not that of a node of the lab",
		},
		"no node at all": {
			template: func(r *x509.CertificateRequest) { r.Subject.CommonName = "kubernetes-admin" }, want: "not that of a node of the lab",
		},
		"other organization": {
			template: func(r *x509.CertificateRequest) { r.Subject.Organization = []string{"system:masters"} }, want: "organization",
		},
		"with an address": {
			template: func(r *x509.CertificateRequest) { r.IPAddresses = []net.IP{net.IPv4(10, 0, 0, 1)} }, want: "names addresses",
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			template := &x509.CertificateRequest{Subject: pkix.Name{CommonName: nodeUser, Organization: []string{nodeGroup}}}
			if tc.template != nil {
				tc.template(template)
			}
			request := servingRequest(t, template)
			request.Spec.SignerName = certificatesv1.KubeAPIServerClientKubeletSignerName
			request.Spec.Username = kube.BootstrapUser("abcdef.0123456789abcdef")
			request.Spec.Usages = []certificatesv1.KeyUsage{certificatesv1.UsageClientAuth, certificatesv1.UsageDigitalSignature}
			if tc.spec != nil {
				tc.spec(&request.Spec)
			}
			err := kube.CheckClient(request, "system:bootstrap:abcdef", func(node string) bool { return node == "n1" })
			if tc.want == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, tc.want)
		})
	}
}
