// SPDX-License-Identifier: Apache-2.0

//go:build integration

package osnode_test

import (
	"context"
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

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/config"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	osnodev1 "github.com/cloudveneto/caas/osnode/api/v1"
	"github.com/cloudveneto/caas/osnode/csr"
	"github.com/cloudveneto/caas/osnode/node"
)

const (
	tokenSecret = "0123456789abcdef"
	address     = "10.88.16.10"
	region      = "regionOne"
)

// approver runs the approver with the controller's own rights until the test ends.
func (s *site) approver() {
	s.t.Helper()
	skip := true // several tests run one after the other
	mgr, err := ctrl.NewManager(s.controllerConfig(), ctrl.Options{
		Scheme:     testScheme(s.t),
		Metrics:    metricsserver.Options{BindAddress: "0"},
		Controller: config.Controller{SkipNameValidation: &skip},
	})
	require.NoError(s.t, err)
	made, err := csr.New(csr.Config{
		Client: mgr.GetClient(), Reader: mgr.GetAPIReader(), Recorder: mgr.GetEventRecorder("osnode-controller"),
		Recheck: 100 * time.Millisecond,
	})
	require.NoError(s.t, err)
	ctx, cancel := context.WithCancel(s.t.Context())
	require.NoError(s.t, made.SetupWithManager(ctx, mgr))
	done := make(chan error, 1)
	go func() { done <- mgr.Start(ctx) }()
	s.t.Cleanup(func() {
		cancel()
		assert.NoError(s.t, <-done)
	})
}

// machine is an OpenStackNode whose virtual machine is ACTIVE and has its token.
type machine struct {
	*site
	osn   *osnodev1.OpenStackNode
	token string
}

// machine makes what the controller has made when a virtual machine boots. The token's id
// is six characters.
func (s *site) machine(namespace, name, token string) *machine {
	s.t.Helper()
	ctx := s.t.Context()
	osn := newNode(namespace, name)
	osn.Labels = map[string]string{
		osnodev1.LabelUserID: userID, osnodev1.LabelUserName: "zangrand-at-infn.it",
		osnodev1.LabelProjectID: projectID, osnodev1.LabelProjectName: "QST",
		osnodev1.LabelSecret: "bootstrap-token-" + token,
	}
	osn.Spec.Region, osn.Spec.AvailabilityZone = region, "nova"
	require.NoError(s.t, s.admin.Create(ctx, osn))
	before := osn.DeepCopy()
	server := "ac4a4470-4469-4ed7-8520-" + fmt.Sprintf("%012x", token)
	now := metav1.Now()
	osn.Status = osnodev1.OpenStackNodeStatus{
		NodeID:     fmt.Sprintf("%s-%d", name, time.Now().UnixMilli()),
		ProviderID: node.ProviderID(region, server),
		Server:     &osnodev1.ServerStatus{ID: server, Name: name, Status: "ACTIVE", IPv4: address, Created: &now},
		Addresses:  []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: address}},
	}
	require.NoError(s.t, s.admin.Status().Patch(ctx, osn, client.MergeFrom(before)))
	m := &machine{site: s, osn: osn, token: token}
	m.secret(time.Now().Add(time.Hour))
	return m
}

// secret makes the token valid, as the controller does.
func (m *machine) secret(until time.Time) {
	m.t.Helper()
	require.NoError(m.t, m.client(m.controllerConfig()).Create(m.t.Context(), &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceSystem, Name: "bootstrap-token-" + m.token},
		Type:       corev1.SecretTypeBootstrapToken,
		StringData: map[string]string{
			"token-id": m.token, "token-secret": tokenSecret, "usage-bootstrap-authentication": "true",
			"auth-extra-groups": csr.BootstrapGroup + "," + csr.BootstrapGroup + ":" + string(m.osn.UID),
			"expiration":        until.UTC().Format(time.RFC3339),
		},
	}))
}

// joining has nothing but the token.
func (m *machine) joining() client.Client {
	m.t.Helper()
	config := rest.AnonymousClientConfig(m.RESTConfig())
	config.BearerToken = m.token + "." + tokenSecret
	return m.client(config)
}

// request is what a kubelet asks for.
type request struct {
	key      *ecdsa.PrivateKey
	template x509.CertificateRequest
	signer   string
	usages   []certificatesv1.KeyUsage
}

func clientRequest(t *testing.T, nodeID string) *request {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	return &request{
		key:      key,
		template: x509.CertificateRequest{Subject: pkix.Name{CommonName: "system:node:" + nodeID, Organization: []string{"system:nodes"}}},
		signer:   certificatesv1.KubeAPIServerClientKubeletSignerName,
		usages:   []certificatesv1.KeyUsage{certificatesv1.UsageDigitalSignature, certificatesv1.UsageClientAuth},
	}
}

func servingRequest(t *testing.T, nodeID string, addresses ...string) *request {
	t.Helper()
	asked := clientRequest(t, nodeID)
	asked.template.DNSNames = []string{nodeID}
	for _, text := range addresses {
		asked.template.IPAddresses = append(asked.template.IPAddresses, net.ParseIP(text))
	}
	asked.signer = certificatesv1.KubeletServingSignerName
	asked.usages = []certificatesv1.KeyUsage{certificatesv1.UsageDigitalSignature, certificatesv1.UsageServerAuth}
	return asked
}

func (r *request) object(t *testing.T) *certificatesv1.CertificateSigningRequest {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &r.template, r.key)
	require.NoError(t, err)
	return &certificatesv1.CertificateSigningRequest{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "node-csr-"},
		Spec: certificatesv1.CertificateSigningRequestSpec{
			SignerName: r.signer, Usages: r.usages,
			Request: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}),
		},
	}
}

// certificate is a client with what was signed for the request.
func (s *site) certificate(asked *request, signed []byte) client.Client {
	s.t.Helper()
	der, err := x509.MarshalECPrivateKey(asked.key)
	require.NoError(s.t, err)
	config := rest.AnonymousClientConfig(s.RESTConfig())
	config.CertData, config.KeyData = signed, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})
	return s.client(config)
}

// ask posts a request.
func (s *site) ask(as client.Client, asked *request) string {
	s.t.Helper()
	object := asked.object(s.t)
	require.NoError(s.t, as.Create(s.t.Context(), object))
	return object.Name
}

// signed waits until a request is approved and signed.
func (s *site) signed(name string) []byte {
	s.t.Helper()
	var object certificatesv1.CertificateSigningRequest
	require.EventuallyWithT(s.t, func(c *assert.CollectT) {
		require.NoError(c, s.admin.Get(s.t.Context(), types.NamespacedName{Name: name}, &object))
		require.NotEmpty(c, object.Status.Certificate, "%v", object.Status.Conditions)
	}, soon, tick)
	return object.Status.Certificate
}

// denied waits until a request is denied and tells why.
func (s *site) denied(name string) string {
	s.t.Helper()
	var reason string
	require.EventuallyWithT(s.t, func(c *assert.CollectT) {
		var object certificatesv1.CertificateSigningRequest
		require.NoError(c, s.admin.Get(s.t.Context(), types.NamespacedName{Name: name}, &object))
		require.NotEmpty(c, object.Status.Conditions)
		require.Equal(c, certificatesv1.CertificateDenied, object.Status.Conditions[0].Type)
		reason = object.Status.Conditions[0].Reason
	}, soon, tick)
	return reason
}

// join does what the kubelet does, and makes its Node Ready.
func (m *machine) join() client.Client {
	m.t.Helper()
	asked := clientRequest(m.t, m.osn.Status.NodeID)
	kubelet := m.certificate(asked, m.signed(m.ask(m.joining(), asked)))
	m.heartbeat(kubelet)
	return kubelet
}

func (m *machine) heartbeat(kubelet client.Client) {
	m.t.Helper()
	current := m.current()
	ready := current.DeepCopy()
	ready.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue, LastHeartbeatTime: metav1.Now()}}
	require.NoError(m.t, kubelet.Status().Patch(m.t.Context(), ready, client.MergeFrom(current)))
}

func (m *machine) current() *corev1.Node {
	m.t.Helper()
	current := &corev1.Node{}
	require.NoError(m.t, m.admin.Get(m.t.Context(), types.NamespacedName{Name: m.osn.Status.NodeID}, current))
	return current
}

// event waits for an Event on the OpenStackNode.
func (m *machine) event(reason string) {
	m.t.Helper()
	require.EventuallyWithT(m.t, func(c *assert.CollectT) {
		var list corev1.EventList
		require.NoError(c, m.admin.List(m.t.Context(), &list, client.InNamespace(m.osn.Namespace)))
		var reasons []string
		for _, event := range list.Items {
			if event.InvolvedObject.UID == m.osn.UID {
				reasons = append(reasons, event.Reason)
			}
		}
		assert.Contains(c, reasons, reason)
	}, soon, tick)
}
