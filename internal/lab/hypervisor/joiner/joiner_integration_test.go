// SPDX-License-Identifier: Apache-2.0

//go:build integration

package joiner_test

import (
	"context"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/cloudveneto/caas/internal/lab/hypervisor"
	"github.com/cloudveneto/caas/internal/lab/hypervisor/joiner"
	"github.com/cloudveneto/caas/internal/lab/kube"
	"github.com/cloudveneto/caas/internal/lab/kubetest"
)

var shared = kubetest.NewShared(kubetest.Options{ControllerManager: true, APIServerArgs: []string{"--enable-bootstrap-token-auth=true"}})

func TestMain(m *testing.M) { shared.Main(m) }

// site is the cluster with an approver of the test's.
type site struct {
	config *rest.Config
	client *kubernetes.Clientset
	token  string
}

func newSite(t *testing.T) *site {
	t.Helper()
	cluster := shared.Cluster(t)
	s := &site{config: cluster.RESTConfig(), client: cluster.Client()}
	var err error
	s.token, err = kube.NewToken()
	require.NoError(t, err)
	require.NoError(t, kube.AllowBootstrap(t.Context(), s.client, s.token))
	return s
}

// approve answers the requests of this site's token and of nodes: those for the wrong name
// or with an address that is not on the list are denied.
func (s *site) approve(t *testing.T, nodes map[string]string) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan struct{})
	t.Cleanup(func() { cancel(); <-done })
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			s.approveAll(ctx, nodes)
			time.Sleep(30 * time.Millisecond)
		}
	}()
}

func (s *site) approveAll(ctx context.Context, nodes map[string]string) {
	requests := s.client.CertificatesV1().CertificateSigningRequests()
	all, err := requests.List(ctx, metav1.ListOptions{})
	if err != nil {
		return
	}
	for _, request := range all.Items {
		if len(request.Status.Conditions) > 0 {
			continue
		}
		block, _ := pem.Decode(request.Spec.Request)
		parsed, err := x509.ParseCertificateRequest(block.Bytes)
		if err != nil {
			continue
		}
		address, known := nodes[strings.TrimPrefix(parsed.Subject.CommonName, "system:node:")]
		switch request.Spec.Username {
		case kube.BootstrapUser(s.token):
		case parsed.Subject.CommonName:
			known = known && len(parsed.IPAddresses) == 1 && parsed.IPAddresses[0].String() == address
		default:
			continue // another test's
		}
		condition := certificatesv1.CertificateSigningRequestCondition{Type: certificatesv1.CertificateApproved, Status: corev1.ConditionTrue, Reason: "Test"}
		if !known {
			condition.Type, condition.Message = certificatesv1.CertificateDenied, "not this node"
		}
		request.Status.Conditions = append(request.Status.Conditions, condition)
		_, _ = requests.UpdateApproval(ctx, request.Name, &request, metav1.UpdateOptions{}) // tried again
	}
}

// server is one whose user data is of the shape that the platform's has.
func (s *site) server(node, address string) hypervisor.Server {
	kubeconfig := fmt.Sprintf(`apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: %q, certificate-authority: /etc/kubernetes/ca.crt}}]
users: [{name: u, user: {token: %q}}]
contexts: [{name: x, context: {cluster: c, user: u}}]
current-context: x
`, s.config.Host, s.token)
	userData := fmt.Sprintf(`Content-Type: multipart/mixed; boundary="b"
MIME-Version: 1.0

--b
Content-Type: text/cloud-config
Merge-Type: list(append)+dict(no_replace,recurse_list)+str()

#cloud-config
write_files:
- {path: /etc/kubernetes/ca.crt, encoding: b64, content: %s}
- {path: /etc/kubernetes/bootstrap-kubelet.conf, encoding: b64, permissions: "0600", content: %s}
--b
Content-Type: text/cloud-config
Merge-Type: list(append)+dict(no_replace,recurse_list)+str()

#cloud-config
write_files:
- path: /etc/kubernetes/kubelet.env
  content: |
    KUBELET_EXTRA_ARGS="--hostname-override=%s --v=2"
--b--
`, base64.StdEncoding.EncodeToString(s.config.CAData), base64.StdEncoding.EncodeToString([]byte(kubeconfig)), node)
	return hypervisor.Server{
		UUID: uuid.NewString(), Name: node, Hostname: node, UserData: []byte(userData),
		Flavor: hypervisor.Flavor{Name: "large", VCPUs: 4, RAM: 8192, Disk: 25},
		NICs:   []hypervisor.NIC{{MAC: "fa:16:3e:00:00:01", IPs: []netip.Prefix{netip.MustParsePrefix(address + "/20")}, Gateway: "10.88.16.1"}},
	}
}

func (s *site) createNode(t *testing.T, name string) {
	t.Helper()
	_, err := s.client.CoreV1().Nodes().Create(t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
	require.NoError(t, err)
}

func newJoiner(t *testing.T, options joiner.Options) *joiner.Joiner {
	t.Helper()
	j := joiner.New(joiner.Config{
		HeartBeat: 200 * time.Millisecond, Retry: 100 * time.Millisecond, Options: func(hypervisor.Server) joiner.Options { return options },
	})
	t.Cleanup(j.Close)
	return j
}

func awaitState(t *testing.T, j *joiner.Joiner, id string, state joiner.State) joiner.Status {
	t.Helper()
	var status joiner.Status
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		status, _ = j.Status(id)
		assert.Equal(c, state, status.State, "%v", status.Errors)
	}, 30*time.Second, 20*time.Millisecond)
	return status
}

func TestIntegrationJoin(t *testing.T) {
	s := newSite(t)
	s.approve(t, map[string]string{"good-1": "10.88.16.10"})
	j := newJoiner(t, joiner.Options{})
	server := s.server("good-1", "10.88.16.10")
	require.NoError(t, j.Spawn(t.Context(), server))
	awaitState(t, j, server.UUID, joiner.Waiting)
	_, err := s.client.CoreV1().Nodes().Get(t.Context(), "good-1", metav1.GetOptions{})
	require.True(t, apierrors.IsNotFound(err), "it does not make its Node itself")

	s.createNode(t, "good-1")
	awaitState(t, j, server.UUID, joiner.Ready)
	require.Eventually(t, func() bool { status, _ := j.Status(server.UUID); return status.Serving }, 20*time.Second, 20*time.Millisecond)
	node, err := s.client.CoreV1().Nodes().Get(t.Context(), "good-1", metav1.GetOptions{})
	require.NoError(t, err)
	assert.Equal(t, int64(4), node.Status.Capacity.Cpu().Value())
	assert.Equal(t, int64(8)<<30, node.Status.Capacity.Memory().Value())
	assert.Contains(t, node.Status.Addresses, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: "10.88.16.10"})
	ready := slices.ContainsFunc(node.Status.Conditions, func(c corev1.NodeCondition) bool {
		return c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue
	})
	assert.True(t, ready)

	first := renewed(t, s.client, "good-1")
	require.Eventually(t, func() bool { return renewed(t, s.client, "good-1").After(first) }, 10*time.Second, 50*time.Millisecond)
	require.NoError(t, j.PowerOff(t.Context(), server.UUID))
	last := renewed(t, s.client, "good-1")
	time.Sleep(500 * time.Millisecond)
	assert.Equal(t, last, renewed(t, s.client, "good-1"), "no heart-beat when it is off")

	before, _ := j.Status(server.UUID)
	require.NoError(t, j.PowerOn(t.Context(), server.UUID))
	after := awaitState(t, j, server.UUID, joiner.Ready)
	client := len(before.Requests) - 1 // the other was for serving
	assert.Equal(t, before.Requests[:client], after.Requests[:client], "its certificate is still on its disk")
	console, err := j.Console(t.Context(), server.UUID)
	require.NoError(t, err)
	assert.Contains(t, string(console), "Ready")
	require.NoError(t, j.Destroy(t.Context(), server.UUID))
	assert.Empty(t, j.Servers())
	require.ErrorIs(t, j.PowerOn(t.Context(), server.UUID), hypervisor.ErrNotFound)
}

func renewed(t *testing.T, client kubernetes.Interface, name string) time.Time {
	t.Helper()
	lease, err := client.CoordinationV1().Leases(corev1.NamespaceNodeLease).Get(t.Context(), name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return time.Time{}
	}
	require.NoError(t, err)
	return lease.Spec.RenewTime.Time
}

func TestIntegrationHostile(t *testing.T) {
	s := newSite(t)
	s.approve(t, map[string]string{"own-1": "10.88.16.11", "own-2": "10.88.16.12"})
	t.Run("another node's name", func(t *testing.T) {
		j := newJoiner(t, joiner.Options{ClientName: "system:node:victim"})
		server := s.server("own-1", "10.88.16.11")
		require.NoError(t, j.Spawn(t.Context(), server))
		status := awaitState(t, j, server.UUID, joiner.Refused)
		assert.Contains(t, status.Errors["client"], "not this node")
		require.Len(t, status.Requests, 1)
		request, err := s.client.CertificatesV1().CertificateSigningRequests().Get(t.Context(), status.Requests[0], metav1.GetOptions{})
		require.NoError(t, err)
		assert.Equal(t, kube.BootstrapUser(s.token), request.Spec.Username)
		assert.Empty(t, request.Status.Certificate)
	})
	t.Run("another's address and a second certificate", func(t *testing.T) {
		j := newJoiner(t, joiner.Options{Again: true, ServingIPs: []net.IP{net.ParseIP("10.88.0.1")}})
		server := s.server("own-2", "10.88.16.12")
		s.createNode(t, "own-2")
		require.NoError(t, j.Spawn(t.Context(), server))
		awaitState(t, j, server.UUID, joiner.Ready)
		require.EventuallyWithT(t, func(c *assert.CollectT) {
			status, _ := j.Status(server.UUID)
			assert.Contains(c, status.Errors["serving"], "not this node")
			assert.Len(c, status.Requests, 3, "two clients' and one for serving")
		}, 20*time.Second, 20*time.Millisecond)
		status, _ := j.Status(server.UUID)
		assert.False(t, status.Serving)
	})
	t.Run("a token that is not valid", func(t *testing.T) {
		other := *s
		other.token = "aaaaaa.0123456789abcdef"
		j := newJoiner(t, joiner.Options{})
		server := other.server("own-3", "10.88.16.13")
		require.NoError(t, j.Spawn(t.Context(), server))
		require.EventuallyWithT(t, func(c *assert.CollectT) {
			status, _ := j.Status(server.UUID)
			assert.Contains(c, status.Errors["client"], "nauthorized")
		}, 20*time.Second, 20*time.Millisecond)
	})
}

func TestIntegrationManyAtOnce(t *testing.T) {
	const count = 100
	s := newSite(t)
	nodes := map[string]string{}
	for i := range count {
		name := fmt.Sprintf("many-%d", i)
		nodes[name] = fmt.Sprintf("10.88.17.%d", i)
		s.createNode(t, name)
	}
	s.approve(t, nodes)
	j := newJoiner(t, joiner.Options{})
	began := time.Now()
	for name, address := range nodes {
		require.NoError(t, j.Spawn(t.Context(), s.server(name, address)))
	}
	for _, id := range j.Servers() {
		awaitState(t, j, id, joiner.Ready)
	}
	t.Logf("%d nodes Ready after %s", count, time.Since(began))
}
