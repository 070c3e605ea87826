// SPDX-License-Identifier: Apache-2.0

package csr_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	osnodev1 "github.com/cloudveneto/caas/osnode/api/v1"
	"github.com/cloudveneto/caas/osnode/csr"
	"github.com/cloudveneto/caas/osnode/node"
)

const (
	nodeID   = "osn-01-1696949601872"
	nodeName = "system:node:" + nodeID
	token    = "mqkldv"
	uid      = types.UID("e29c8c4c-4f50-49ad-91bc-b6c491bcc42a")
	server   = "ac4a4470-4469-4ed7-8520-db9ea8c0b56d"
)

func now() time.Time { return time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC) }

// scene is a request and what surrounds it; a test changes one thing.
type scene struct {
	tb       testing.TB
	template x509.CertificateRequest
	object   certificatesv1.CertificateSigningRequest
	pem      func([]byte) []byte
	facts    csr.Facts
}

func (s *scene) osn() *osnodev1.OpenStackNode { return &s.facts.OSNodes[0] }

func osNode() osnodev1.OpenStackNode {
	return osnodev1.OpenStackNode{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "qst", Name: "osn-01", UID: uid,
			Labels: map[string]string{
				osnodev1.LabelUserID: "u1", osnodev1.LabelProjectID: "p1", osnodev1.LabelSecret: "bootstrap-token-" + token,
			},
		},
		Spec: osnodev1.OpenStackNodeSpec{Policy: osnodev1.PolicyShared},
		Status: osnodev1.OpenStackNodeStatus{
			NodeID: nodeID, ProviderID: node.ProviderID("regionOne", server),
			Server: &osnodev1.ServerStatus{ID: server, Status: "ACTIVE"},
			Addresses: []corev1.NodeAddress{
				{Type: corev1.NodeInternalIP, Address: "10.88.16.10"},
				{Type: corev1.NodeInternalIP, Address: "fd00::10"},
				{Type: corev1.NodeHostName, Address: "evil.example.org"},
				{Type: corev1.NodeExternalIP, Address: "not an address"},
			},
		},
	}
}

func joinScene(tb testing.TB) *scene {
	tb.Helper()
	return &scene{
		tb:       tb,
		template: x509.CertificateRequest{Subject: pkix.Name{CommonName: nodeName, Organization: []string{"system:nodes"}}},
		object: certificatesv1.CertificateSigningRequest{
			ObjectMeta: metav1.ObjectMeta{Name: "node-csr-1", UID: "r1", CreationTimestamp: metav1.NewTime(now().Add(-time.Second))},
			Spec: certificatesv1.CertificateSigningRequestSpec{
				SignerName: certificatesv1.KubeAPIServerClientKubeletSignerName,
				Username:   "system:bootstrap:" + token,
				Groups:     []string{"system:bootstrappers", "system:bootstrappers:osn", "system:bootstrappers:osn:" + string(uid), "system:authenticated"},
				Usages:     []certificatesv1.KeyUsage{certificatesv1.UsageDigitalSignature, certificatesv1.UsageClientAuth},
			},
		},
		facts: csr.Facts{
			OSNodes: []osnodev1.OpenStackNode{osNode()},
			Now:     now(), Limits: csr.Limits{MaxAge: time.Hour, Patience: 2 * time.Minute},
		},
	}
}

func serveScene(tb testing.TB) *scene {
	tb.Helper()
	s := joinScene(tb)
	s.template.DNSNames, s.template.IPAddresses = []string{nodeID}, []net.IP{net.ParseIP("10.88.16.10")}
	s.object.Spec.SignerName = certificatesv1.KubeletServingSignerName
	s.object.Spec.Username, s.object.Spec.Groups = nodeName, []string{"system:nodes", "system:authenticated"}
	s.object.Spec.Usages = []certificatesv1.KeyUsage{certificatesv1.UsageDigitalSignature, certificatesv1.UsageServerAuth}
	return s
}

// request encodes the template and reads the whole.
func (s *scene) request() csr.Request {
	s.tb.Helper()
	s.object.Spec.Request = encode(s.tb, s.template)
	if s.pem != nil {
		s.object.Spec.Request = s.pem(s.object.Spec.Request)
	}
	return csr.Read(&s.object)
}

func encode(tb testing.TB, template x509.CertificateRequest) []byte {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(tb, err)
	der, err := x509.CreateCertificateRequest(rand.Reader, &template, key)
	require.NoError(tb, err)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
}

// other is another request with the same token, for a name, with a condition if not empty.
func (s *scene) other(name string, requestUID types.UID, condition certificatesv1.RequestConditionType) certificatesv1.CertificateSigningRequest {
	s.tb.Helper()
	made := joinScene(s.tb)
	made.template.Subject.CommonName = name
	made.request()
	made.object.UID, made.object.Name = requestUID, "node-csr-"+string(requestUID)
	if condition != "" {
		made.object.Status.Conditions = []certificatesv1.CertificateSigningRequestCondition{{Type: condition, Status: corev1.ConditionTrue}}
	}
	return made.object
}

// ahead are older requests with the same token.
func (s *scene) ahead(count int, condition certificatesv1.RequestConditionType) {
	s.tb.Helper()
	for i := range count {
		other := s.other(nodeName, types.UID(fmt.Sprintf("a%d", i)), condition)
		other.CreationTimestamp = metav1.NewTime(now().Add(-time.Minute))
		s.facts.Others = append(s.facts.Others, other)
	}
}

// preCreated is the Node as it was made for a request.
func (s *scene) preCreated(claim types.UID) *corev1.Node {
	s.tb.Helper()
	made, err := node.For(s.osn(), nil)
	require.NoError(s.tb, err)
	if claim != "" {
		made.Annotations = map[string]string{csr.AnnotationRequest: string(claim)}
	}
	return made
}
