// SPDX-License-Identifier: Apache-2.0

//go:build integration

package osnode_test

import (
	"context"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	osnodev1 "github.com/cloudveneto/caas/osnode/api/v1"
	"github.com/cloudveneto/caas/osnode/csr"
	"github.com/cloudveneto/caas/osnode/node"
)

// The owner of a virtual machine is root on it: all that its kubelet's identity can try.
func TestIntegrationHostileNode(t *testing.T) {
	s := newSite(t)
	s.approver()
	namespace := s.namespace("hostile", map[string]string{osnodev1.LabelProjectID: projectID})
	m := s.machine(namespace, "osn-01", "hosta1")
	other := s.machine(namespace, "osn-02", "hostb1")
	kubelet := m.join()
	other.join()
	self := func(ctx context.Context, change func(*corev1.Node)) error {
		current := m.current()
		changed := current.DeepCopy()
		change(changed)
		return kubelet.Patch(ctx, changed, client.MergeFrom(current))
	}

	t.Run("the Node is as it should be", func(t *testing.T) {
		current := m.current()
		assert.True(t, node.BelongsTo(current, m.osn))
		assert.True(t, node.Waiting(current))
		assert.Equal(t, m.osn.Status.ProviderID, current.Spec.ProviderID)
		assert.Equal(t, "p-"+projectID, current.Labels[osnodev1.NodeLabelPool])
		assert.Equal(t, m.osn.Status.NodeID, current.Labels[corev1.LabelHostname])
		m.event("CertificateApproved")
	})
	tests := map[string]struct {
		try  func(ctx context.Context) error
		want func(error) bool
	}{
		"1 T5 relabel the policy for people": {func(ctx context.Context) error {
			return self(ctx, func(n *corev1.Node) { n.Labels[osnodev1.LabelPolicy] = "private" })
		}, apierrors.IsForbidden},
		"1 T5 add a label of the platform": {func(ctx context.Context) error {
			return self(ctx, func(n *corev1.Node) { n.Labels["osn.infn.it/new"] = "x" })
		}, apierrors.IsForbidden},
		"1 T5 remove a label of the platform": {func(ctx context.Context) error {
			return self(ctx, func(n *corev1.Node) { delete(n.Labels, osnodev1.LabelUserID) })
		}, apierrors.IsForbidden},
		"1 relabel by the status": {func(ctx context.Context) error {
			current := m.current()
			changed := current.DeepCopy()
			changed.Labels[osnodev1.LabelPolicy] = "private"
			return kubelet.Status().Patch(ctx, changed, client.MergeFrom(current))
		}, apierrors.IsForbidden},
		"1 forget which request it was made for": {func(ctx context.Context) error {
			return self(ctx, func(n *corev1.Node) { delete(n.Annotations, csr.AnnotationRequest) })
		}, apierrors.IsForbidden},
		"1 take another host name": {func(ctx context.Context) error {
			return self(ctx, func(n *corev1.Node) { n.Labels[corev1.LabelHostname] = other.osn.Status.NodeID })
		}, apierrors.IsForbidden},
		"2 change a protected label": {func(ctx context.Context) error {
			return self(ctx, func(n *corev1.Node) { n.Labels[osnodev1.NodeLabelPolicy] = "private" })
		}, apierrors.IsForbidden},
		"2 change the pool": {func(ctx context.Context) error {
			return self(ctx, func(n *corev1.Node) { n.Labels[osnodev1.NodeLabelPool] = "p-other" })
		}, apierrors.IsForbidden},
		"3 T5 remove a taint": {func(ctx context.Context) error {
			return self(ctx, func(n *corev1.Node) { n.Spec.Taints = n.Spec.Taints[:1] })
		}, apierrors.IsForbidden},
		"4 delete itself": {func(ctx context.Context) error {
			return kubelet.Delete(ctx, m.current())
		}, apierrors.IsForbidden},
		"5 change the provider id": {func(ctx context.Context) error {
			return self(ctx, func(n *corev1.Node) { n.Spec.ProviderID = "openstack://regionOne/other" })
		}, apierrors.IsInvalid},
		"change another Node": {func(ctx context.Context) error {
			current := other.current()
			changed := current.DeepCopy()
			changed.Labels["x"] = "y"
			return kubelet.Patch(ctx, changed, client.MergeFrom(current))
		}, apierrors.IsForbidden},
		"8 register with a protected label": {func(ctx context.Context) error {
			return kubelet.Create(ctx, bareNode(m.osn.Status.NodeID, map[string]string{osnodev1.NodeLabelPool: "u-alice"}))
		}, apierrors.IsForbidden},
		"13 register what exists": {func(ctx context.Context) error {
			return kubelet.Create(ctx, bareNode(m.osn.Status.NodeID, nil))
		}, apierrors.IsForbidden},
		"a mirror pod in somebody's Service": {func(ctx context.Context) error {
			return kubelet.Create(ctx, mirrorPod(m, namespace))
		}, apierrors.IsForbidden},
		"all Secrets": {func(ctx context.Context) error {
			return kubelet.List(ctx, &corev1.SecretList{})
		}, apierrors.IsForbidden},
		"a certificate of another node": {func(ctx context.Context) error {
			return kubelet.Create(ctx, clientRequest(t, other.osn.Status.NodeID).object(t))
		}, apierrors.IsForbidden},
		"an allowed label": {func(ctx context.Context) error {
			return self(ctx, func(n *corev1.Node) { n.Labels["example.org/mine"] = "x" })
		}, func(err error) bool { return err == nil }},
		"12 the zone, which the kubelet may set": {func(ctx context.Context) error {
			return self(ctx, func(n *corev1.Node) { n.Labels[corev1.LabelTopologyZone] = "zone-2" })
		}, func(err error) bool { return err == nil }},
		// Kubernetes believes a kubelet's word about its addresses, so nothing here does.
		"6 a foreign address": {func(ctx context.Context) error {
			current := m.current()
			changed := current.DeepCopy()
			changed.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "8.8.8.8"}}
			return kubelet.Status().Patch(ctx, changed, client.MergeFrom(current))
		}, func(err error) bool { return err == nil }},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			err := tc.try(t.Context())
			assert.True(t, tc.want(err), "%v", err)
			if strings.HasPrefix(name, "1 ") || strings.HasPrefix(name, "13 ") || strings.HasPrefix(name, "a mirror pod") {
				assert.ErrorContains(t, err, "ValidatingAdmissionPolicy 'osnode-", "Kubernetes itself allows it")
			}
		})
	}
	t.Run("T4 serving certificates", func(t *testing.T) { servingDrills(t, m, other, kubelet) })
	t.Run("7 T6 come back when the Node is gone", func(t *testing.T) {
		require.NoError(t, s.admin.Delete(t.Context(), m.current()))
		for name, labels := range map[string]map[string]string{"bare": nil, "private": {osnodev1.LabelPolicy: "private"}} {
			err := kubelet.Create(t.Context(), bareNode(m.osn.Status.NodeID, labels))
			assert.True(t, apierrors.IsForbidden(err), "%s: %v", name, err)
			assert.ErrorContains(t, err, "ValidatingAdmissionPolicy 'osnode-node-registration'", "Kubernetes itself allows it")
		}
	})
}

// servingDrills are T4: what may be in a serving certificate is what Nova says.
func servingDrills(t *testing.T, m, other *machine, kubelet client.Client) {
	nodeID := m.osn.Status.NodeID
	s := m.site
	tests := map[string]struct {
		change func(*request)
		want   string
	}{
		"its own":         {nil, ""},
		"again, to renew": {nil, ""},
		"a foreign address": {func(r *request) {
			r.template.IPAddresses = servingRequest(t, nodeID, address, "8.8.8.8").template.IPAddresses
		}, csr.ReasonForeignAddress},
		"a foreign name": {func(r *request) { r.template.DNSNames = []string{nodeID, other.osn.Status.NodeID} }, csr.ReasonForeignDNSName},
		"the API's name": {func(r *request) { r.template.DNSNames = []string{"kubernetes.default.svc"} }, csr.ReasonForeignDNSName},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			asked := servingRequest(t, nodeID, address)
			if tc.change != nil {
				tc.change(asked)
			}
			name := s.ask(kubelet, asked)
			if tc.want == "" {
				assert.NotEmpty(t, s.signed(name))
				return
			}
			assert.Equal(t, tc.want, s.denied(name))
			m.event(tc.want)
		})
	}
	t.Run("with a URI", func(t *testing.T) {
		asked := servingRequest(t, nodeID, address)
		asked.template.URIs = []*url.URL{{Scheme: "spiffe", Host: "x"}}
		assert.Equal(t, csr.ReasonUnexpectedSAN, s.denied(s.ask(kubelet, asked)))
	})
}

func bareNode(name string, labels map[string]string) *corev1.Node {
	return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}}
}

func mirrorPod(m *machine, namespace string) *corev1.Pod {
	current := m.current()
	owner := *metav1.NewControllerRef(current, corev1.SchemeGroupVersion.WithKind("Node"))
	owner.BlockOwnerDeletion = nil
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: namespace, Name: "web-" + current.Name, Labels: map[string]string{"app": "web"},
			Annotations:     map[string]string{corev1.MirrorPodAnnotationKey: "x"},
			OwnerReferences: []metav1.OwnerReference{owner},
		},
		Spec: corev1.PodSpec{NodeName: current.Name, Containers: []corev1.Container{{Name: "main", Image: "example.org/image"}}},
	}
}

// Other machines of the cluster are none of this project's business.
func TestIntegrationBareMetal(t *testing.T) {
	s := newSite(t)
	s.approver()
	const name = "worker-7"
	kubelet := s.node(name)
	require.NoError(t, kubelet.Create(t.Context(), bareNode(name, map[string]string{"example.org/rack": "4"})))
	t.Cleanup(func() { _ = s.admin.Delete(context.WithoutCancel(t.Context()), bareNode(name, nil)) })
	current := &corev1.Node{}
	require.NoError(t, kubelet.Get(t.Context(), types.NamespacedName{Name: name}, current))

	t.Run("it may have static pods", func(t *testing.T) {
		m := &machine{site: s, osn: &osnodev1.OpenStackNode{Status: osnodev1.OpenStackNodeStatus{NodeID: name}}}
		assert.NoError(t, kubelet.Create(t.Context(), mirrorPod(m, metav1.NamespaceSystem)))
	})
	t.Run("it cannot pretend to be an OpenStackNode", func(t *testing.T) {
		changed := current.DeepCopy()
		changed.Labels[osnodev1.LabelUserID] = userID
		assert.True(t, apierrors.IsForbidden(kubelet.Patch(t.Context(), changed, client.MergeFrom(current))))
	})
	t.Run("the controller leaves it alone", func(t *testing.T) {
		controller := s.client(s.controllerConfig())
		changed := current.DeepCopy()
		changed.Spec.Unschedulable = true
		assert.True(t, apierrors.IsForbidden(controller.Patch(t.Context(), changed, client.MergeFrom(current))))
		assert.True(t, apierrors.IsForbidden(controller.Delete(t.Context(), current.DeepCopy())))
	})
	t.Run("its certificates are not decided here", func(t *testing.T) {
		serving := s.ask(kubelet, servingRequest(t, name, "192.0.2.7"))
		namespace := s.namespace("bare-metal", map[string]string{osnodev1.LabelProjectID: projectID})
		s.machine(namespace, "osn-01", "metal1").join() // decided later, so the other was looked at
		var object certificatesv1.CertificateSigningRequest
		require.NoError(t, s.admin.Get(t.Context(), types.NamespacedName{Name: serving}, &object))
		assert.Empty(t, object.Status.Conditions)
	})
}

// What somebody can do who has got hold of a bootstrap token.
func TestIntegrationStolenToken(t *testing.T) {
	s := newSite(t)
	s.approver()
	namespace := s.namespace("tokens", map[string]string{osnodev1.LabelProjectID: projectID})
	m := s.machine(namespace, "osn-01", "tokena")
	victim := s.machine(namespace, "osn-02", "tokenb")
	thief := m.joining()

	t.Run("9 T2 another node's name", func(t *testing.T) {
		assert.Equal(t, csr.ReasonWrongName, s.denied(s.ask(thief, clientRequest(t, victim.osn.Status.NodeID))))
		m.event(csr.ReasonWrongName)
	})
	t.Run("the administrators' group", func(t *testing.T) {
		asked := clientRequest(t, m.osn.Status.NodeID)
		asked.template.Subject.Organization = []string{"system:masters"}
		assert.Equal(t, csr.ReasonWrongOrganization, s.denied(s.ask(thief, asked)))
	})
	t.Run("another signer", func(t *testing.T) {
		for _, signer := range []string{certificatesv1.KubeAPIServerClientSignerName, certificatesv1.KubeletServingSignerName} {
			asked := clientRequest(t, m.osn.Status.NodeID)
			asked.signer = signer
			assert.True(t, apierrors.IsForbidden(thief.Create(t.Context(), asked.object(t))), signer)
		}
	})
	t.Run("other usages", func(t *testing.T) {
		asked := clientRequest(t, m.osn.Status.NodeID)
		asked.usages = append(asked.usages, certificatesv1.UsageServerAuth)
		assert.True(t, apierrors.IsForbidden(thief.Create(t.Context(), asked.object(t))))
	})
	t.Run("10 nothing else", func(t *testing.T) {
		assert.True(t, apierrors.IsForbidden(thief.List(t.Context(), &corev1.NodeList{})))
		assert.True(t, apierrors.IsForbidden(thief.List(t.Context(), &corev1.SecretList{})))
		assert.True(t, apierrors.IsForbidden(thief.List(t.Context(), &osnodev1.OpenStackNodeList{})))
		assert.True(t, apierrors.IsForbidden(thief.Create(t.Context(), bareNode(m.osn.Status.NodeID, nil))))
	})
	t.Run("T3 a second certificate", func(t *testing.T) {
		m.join()
		assert.Equal(t, csr.ReasonTokenUsed, s.denied(s.ask(thief, clientRequest(t, m.osn.Status.NodeID))))
		m.event(csr.ReasonTokenUsed)
	})
	t.Run("two at once", func(t *testing.T) {
		racer := s.machine(namespace, "osn-03", "tokenc")
		names := []string{
			s.ask(racer.joining(), clientRequest(t, racer.osn.Status.NodeID)),
			s.ask(racer.joining(), clientRequest(t, racer.osn.Status.NodeID)),
		}
		require.EventuallyWithT(t, func(c *assert.CollectT) {
			got := map[certificatesv1.RequestConditionType]int{}
			for _, name := range names {
				var object certificatesv1.CertificateSigningRequest
				require.NoError(c, s.admin.Get(t.Context(), types.NamespacedName{Name: name}, &object))
				for _, condition := range object.Status.Conditions {
					got[condition.Type]++
				}
			}
			assert.Equal(c, map[certificatesv1.RequestConditionType]int{certificatesv1.CertificateApproved: 1, certificatesv1.CertificateDenied: 1}, got)
		}, soon, tick)
	})
	t.Run("after the node is gone", func(t *testing.T) {
		gone := s.machine(namespace, "osn-04", "tokend")
		require.NoError(t, s.admin.Delete(t.Context(), gone.osn))
		assert.Equal(t, csr.ReasonUnknownToken, s.denied(s.ask(gone.joining(), clientRequest(t, gone.osn.Status.NodeID))))
	})
	t.Run("a token of kubeadm's kind is not decided here", func(t *testing.T) {
		foreign := &machine{site: s, osn: m.osn, token: "kubead"}
		require.NoError(t, s.admin.Create(t.Context(), &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceSystem, Name: "bootstrap-token-kubead"},
			Type:       corev1.SecretTypeBootstrapToken,
			StringData: map[string]string{
				"token-id": "kubead", "token-secret": tokenSecret, "usage-bootstrap-authentication": "true",
				"auth-extra-groups": "system:bootstrappers:kubeadm:default-node-token",
			},
		}))
		err := foreign.joining().Create(t.Context(), clientRequest(t, "worker-8").object(t))
		assert.True(t, apierrors.IsForbidden(err), "it has no rights here: %v", err)
	})
}

// T1 and 11: a token that has expired, or whose Secret is gone, is worth nothing.
func TestIntegrationTokenEnds(t *testing.T) {
	s := newSite(t)
	namespace := s.namespace("token-ends", map[string]string{osnodev1.LabelProjectID: projectID})
	m := s.machine(namespace, "osn-01", "tokene")
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceSystem, Name: "bootstrap-token-tokene"}}
	require.NoError(t, s.client(s.controllerConfig()).Delete(t.Context(), secret))
	refused := func() bool {
		return apierrors.IsUnauthorized(m.joining().Create(t.Context(), clientRequest(t, m.osn.Status.NodeID).object(t)))
	}
	require.Eventually(t, refused, time.Minute, tick)
	m.secret(time.Now().Add(-time.Minute))
	assert.True(t, refused(), "expired before the machine has booted")
}
