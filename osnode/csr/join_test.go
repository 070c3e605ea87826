// SPDX-License-Identifier: Apache-2.0

package csr_test

import (
	"bytes"
	"crypto/x509/pkix"
	"encoding/asn1"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	osnodev1 "github.com/cloudveneto/caas/osnode/api/v1"
	"github.com/cloudveneto/caas/osnode/csr"
	"github.com/cloudveneto/caas/osnode/node"
)

type decision struct {
	change func(*scene)
	action csr.Action
	reason string
}

func decide(t *testing.T, from func(testing.TB) *scene, tests map[string]decision) {
	t.Helper()
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := from(t)
			if tc.change != nil {
				tc.change(s)
			}
			verdict := csr.Decide(s.request(), s.facts)
			assert.Equal(t, tc.action, verdict.Action, verdict.Message)
			assert.Equal(t, tc.reason, verdict.Reason, verdict.Message)
			assert.NotEmpty(t, verdict.Message)
			assert.LessOrEqual(t, len(verdict.Message), 600, "fit for an Event")
		})
	}
}

func TestDecideJoinIdentity(t *testing.T) {
	t.Parallel()
	decide(t, joinScene, map[string]decision{
		"as the machine asks": {nil, csr.Approve, csr.ReasonExpected},
		"with key encipherment": {func(s *scene) {
			s.object.Spec.Usages = append(s.object.Spec.Usages, certificatesv1.UsageKeyEncipherment)
		}, csr.Approve, csr.ReasonExpected},
		"another signer": {func(s *scene) {
			s.object.Spec.SignerName = certificatesv1.KubeAPIServerClientSignerName
		}, csr.Ignore, csr.ReasonStranger},
		"a user": {func(s *scene) { s.object.Spec.Username = "alice" }, csr.Ignore, csr.ReasonStranger},
		"a renewal by the node itself": {func(s *scene) {
			s.object.Spec.Username, s.object.Spec.Groups = nodeName, []string{"system:nodes"}
		}, csr.Ignore, csr.ReasonStranger},
		"a token of kubeadm": {func(s *scene) {
			s.object.Spec.Groups = []string{"system:bootstrappers", "system:bootstrappers:kubeadm:default-node-token"}
		}, csr.Ignore, csr.ReasonStranger},
		"nobody has the token": {func(s *scene) { s.facts.OSNodes = nil }, csr.Deny, csr.ReasonUnknownToken},
		"two have the token": {func(s *scene) {
			s.facts.OSNodes = append(s.facts.OSNodes, osNode())
		}, csr.Deny, csr.ReasonAmbiguousToken},
		"the token was made for another": {func(s *scene) {
			s.object.Spec.Groups[2] = "system:bootstrappers:osn:other"
		}, csr.Deny, csr.ReasonForeignToken},
		"the token was made for nobody": {func(s *scene) {
			s.object.Spec.Groups = s.object.Spec.Groups[:2]
		}, csr.Deny, csr.ReasonForeignToken},
		"the token was made for two": {func(s *scene) {
			s.object.Spec.Groups = append(s.object.Spec.Groups, "system:bootstrappers:osn:other")
		}, csr.Deny, csr.ReasonForeignToken},
		"the label names another token": {func(s *scene) {
			s.osn().Labels[osnodev1.LabelSecret] = "bootstrap-token-000000"
		}, csr.Deny, csr.ReasonForeignToken},
		"an object without a UID": {func(s *scene) {
			s.osn().UID = ""
			s.object.Spec.Groups = s.object.Spec.Groups[:2]
		}, csr.Deny, csr.ReasonForeignToken},
		"being deleted": {func(s *scene) {
			s.osn().DeletionTimestamp = &metav1.Time{Time: now()}
		}, csr.Deny, csr.ReasonDeleting},
		"an hour old": {func(s *scene) {
			s.object.CreationTimestamp = metav1.NewTime(now().Add(-time.Hour))
		}, csr.Approve, csr.ReasonExpected},
		"more than an hour old": {func(s *scene) {
			s.object.CreationTimestamp = metav1.NewTime(now().Add(-time.Hour - time.Second))
		}, csr.Deny, csr.ReasonTooOld},
	})
}

func TestDecideJoinShape(t *testing.T) {
	t.Parallel()
	decide(t, joinScene, map[string]decision{
		"not PEM": {func(s *scene) {
			s.pem = func([]byte) []byte { return []byte("nothing") }
		}, csr.Deny, csr.ReasonMalformed},
		"two blocks": {func(s *scene) {
			s.pem = func(one []byte) []byte { return append(one, one...) }
		}, csr.Deny, csr.ReasonMalformed},
		"another block": {func(s *scene) {
			s.pem = func(one []byte) []byte {
				return bytes.ReplaceAll(one, []byte("CERTIFICATE REQUEST"), []byte("CERTIFICATE"))
			}
		}, csr.Deny, csr.ReasonMalformed},
		"another node": {func(s *scene) {
			s.template.Subject.CommonName = "system:node:osn-02-1696949605128"
		}, csr.Deny, csr.ReasonWrongName},
		"an administrator": {func(s *scene) { s.template.Subject.CommonName = "kubernetes-admin" }, csr.Deny, csr.ReasonWrongName},
		"a very long name": {func(s *scene) {
			s.template.Subject.CommonName = strings.Repeat("é", 5000)
		}, csr.Deny, csr.ReasonWrongName},
		"no node id yet": {func(s *scene) {
			s.osn().Status.NodeID, s.template.Subject.CommonName = "", "system:node:"
		}, csr.Deny, csr.ReasonWrongName},
		"no group": {func(s *scene) { s.template.Subject.Organization = nil }, csr.Deny, csr.ReasonWrongOrganization},
		"the administrators' group": {func(s *scene) {
			s.template.Subject.Organization = []string{"system:masters"}
		}, csr.Deny, csr.ReasonWrongOrganization},
		"a further group": {func(s *scene) {
			s.template.Subject.Organization = []string{"system:nodes", "system:masters"}
		}, csr.Deny, csr.ReasonWrongOrganization},
		"more in the subject": {func(s *scene) {
			s.template.Subject.OrganizationalUnit = []string{"x"}
		}, csr.Deny, csr.ReasonWrongSubject},
		"a UID in the subject": {func(s *scene) {
			s.template.Subject.ExtraNames = []pkix.AttributeTypeAndValue{{Type: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57683, 2}, Value: "x"}}
		}, csr.Deny, csr.ReasonWrongSubject},
		"a DNS name":        {func(s *scene) { s.template.DNSNames = []string{nodeID} }, csr.Deny, csr.ReasonUnexpectedSAN},
		"an address":        {func(s *scene) { s.template.IPAddresses = []net.IP{{10, 88, 16, 10}} }, csr.Deny, csr.ReasonUnexpectedSAN},
		"an e-mail address": {func(s *scene) { s.template.EmailAddresses = []string{"a@b"} }, csr.Deny, csr.ReasonUnexpectedSAN},
		"a URI":             {func(s *scene) { s.template.URIs = []*url.URL{{Scheme: "x", Host: "y"}} }, csr.Deny, csr.ReasonUnexpectedSAN},
		"no usages":         {func(s *scene) { s.object.Spec.Usages = nil }, csr.Deny, csr.ReasonWrongUsages},
		"not for clients": {func(s *scene) {
			s.object.Spec.Usages = []certificatesv1.KeyUsage{certificatesv1.UsageDigitalSignature}
		}, csr.Deny, csr.ReasonWrongUsages},
		"for servers too": {func(s *scene) {
			s.object.Spec.Usages = append(s.object.Spec.Usages, certificatesv1.UsageServerAuth)
		}, csr.Deny, csr.ReasonWrongUsages},
		"to sign": {func(s *scene) {
			s.object.Spec.Usages = append(s.object.Spec.Usages, certificatesv1.UsageCertSign)
		}, csr.Deny, csr.ReasonWrongUsages},
	})
}

func TestDecideJoinOnce(t *testing.T) {
	t.Parallel()
	decide(t, joinScene, map[string]decision{
		"the token was revoked": {func(s *scene) {
			s.osn().Status.Conditions = []metav1.Condition{{Type: osnodev1.ConditionBootstrapTokenRevoked, Status: metav1.ConditionTrue}}
		}, csr.Deny, csr.ReasonTokenRevoked},
		"approved before": {func(s *scene) {
			s.facts.Others = append(s.facts.Others, s.other(nodeName, "r0", certificatesv1.CertificateApproved))
		}, csr.Deny, csr.ReasonTokenUsed},
		"signed before, whatever the conditions": {func(s *scene) {
			other := s.other(nodeName, "r0", "")
			other.Status.Certificate = []byte("x")
			s.facts.Others = append(s.facts.Others, other)
		}, csr.Deny, csr.ReasonTokenUsed},
		"approved before, and unreadable": {func(s *scene) {
			other := s.other(nodeName, "r0", certificatesv1.CertificateApproved)
			other.Spec.Request = []byte("x")
			s.facts.Others = append(s.facts.Others, other)
		}, csr.Deny, csr.ReasonTokenUsed},
		"approved for an earlier node id": {func(s *scene) {
			s.facts.Others = append(s.facts.Others, s.other("system:node:osn-01-1600000000000", "r0", certificatesv1.CertificateApproved))
		}, csr.Approve, csr.ReasonExpected},
		"denied before": {func(s *scene) {
			s.facts.Others = append(s.facts.Others, s.other(nodeName, "r0", certificatesv1.CertificateDenied))
		}, csr.Approve, csr.ReasonExpected},
		"asked before": {func(s *scene) {
			s.facts.Others = append(s.facts.Others, s.other(nodeName, "r0", ""))
		}, csr.Approve, csr.ReasonExpected},
		"ten wait already":  {func(s *scene) { s.ahead(10, "") }, csr.Deny, csr.ReasonTooMany},
		"nine wait already": {func(s *scene) { s.ahead(9, "") }, csr.Approve, csr.ReasonExpected},
		"ten were denied":   {func(s *scene) { s.ahead(10, certificatesv1.CertificateDenied) }, csr.Approve, csr.ReasonExpected},
		"ten came later": {func(s *scene) {
			s.ahead(10, "")
			s.object.CreationTimestamp = metav1.NewTime(now().Add(-2 * time.Minute))
		}, csr.Approve, csr.ReasonExpected},
		"ten came in the same second, and are not before this": {func(s *scene) {
			s.ahead(10, "")
			for i := range s.facts.Others {
				s.facts.Others[i].CreationTimestamp = s.object.CreationTimestamp
				s.facts.Others[i].UID = "r2" + s.facts.Others[i].UID
			}
		}, csr.Approve, csr.ReasonExpected},
		"the Node is made for this": {func(s *scene) { s.facts.Node = s.preCreated("r1") }, csr.Approve, csr.ReasonExpected},
		"the Node is made for none": {func(s *scene) { s.facts.Node = s.preCreated("") }, csr.Approve, csr.ReasonExpected},
		"the Node is made for one that is gone": {func(s *scene) {
			s.facts.Node = s.preCreated("r0")
		}, csr.Deny, csr.ReasonTokenUsed},
		"the Node is made for one that is approved": {func(s *scene) {
			s.facts.Node = s.preCreated("r0")
			s.facts.Others = append(s.facts.Others, s.other("x", "r0", certificatesv1.CertificateApproved))
		}, csr.Deny, csr.ReasonTokenUsed},
		"the Node is made for one that was denied": {func(s *scene) {
			s.facts.Node = s.preCreated("r0")
			s.facts.Others = append(s.facts.Others, s.other(nodeName, "r0", certificatesv1.CertificateDenied))
		}, csr.Approve, csr.ReasonExpected},
		"the Node is made for one that is undecided": {func(s *scene) {
			s.facts.Node = s.preCreated("r0")
			s.facts.Others = append(s.facts.Others, s.other(nodeName, "r0", ""))
		}, csr.Wait, csr.ReasonTokenBusy},
	})
}

func TestDecideJoinState(t *testing.T) {
	t.Parallel()
	status := func(status string, age time.Duration) func(*scene) {
		return func(s *scene) {
			s.osn().Status.Server.Status = status
			s.object.CreationTimestamp = metav1.NewTime(now().Add(-age))
		}
	}
	decide(t, joinScene, map[string]decision{
		"building":            {status("BUILD", time.Second), csr.Wait, csr.ReasonServerNotActive},
		"building for long":   {status("BUILD", 3*time.Minute), csr.Deny, csr.ReasonServerNotActive},
		"booted again":        {status("REBOOT", time.Second), csr.Approve, csr.ReasonExpected},
		"stopped":             {status("SHUTOFF", time.Second), csr.Wait, csr.ReasonServerNotActive},
		"stopped and so on":   {status("SHUTOFF", 3*time.Minute), csr.Deny, csr.ReasonServerNotActive},
		"in error":            {status("ERROR", 3*time.Minute), csr.Deny, csr.ReasonServerNotActive},
		"deleted":             {status("DELETED", 3*time.Minute), csr.Deny, csr.ReasonServerNotActive},
		"no status":           {status("", 3*time.Minute), csr.Deny, csr.ReasonServerNotActive},
		"no machine yet":      {func(s *scene) { s.osn().Status.Server = nil }, csr.Wait, csr.ReasonServerNotActive},
		"no id yet":           {func(s *scene) { s.osn().Status.Server.ID = "" }, csr.Wait, csr.ReasonServerNotActive},
		"no provider id yet":  {func(s *scene) { s.osn().Status.ProviderID = "" }, csr.Wait, csr.ReasonServerNotActive},
		"another provider id": {func(s *scene) { s.osn().Status.ProviderID = "openstack://r/other" }, csr.Wait, csr.ReasonServerNotActive},
		"no owner":            {func(s *scene) { delete(s.osn().Labels, osnodev1.LabelUserID) }, csr.Wait, csr.ReasonServerNotActive},
		"a Node that is not ours": {func(s *scene) {
			s.facts.Node = s.preCreated("r1")
			delete(s.facts.Node.Labels, osnodev1.NodeLabelOSNode)
		}, csr.Deny, csr.ReasonNodeForeign},
		"a Node of another OpenStackNode": {func(s *scene) {
			s.facts.Node = s.preCreated("r1")
			s.facts.Node.Labels[osnodev1.NodeLabelOSNode] = "other"
		}, csr.Deny, csr.ReasonNodeForeign},
		"a Node of another name": {func(s *scene) {
			s.facts.Node = s.preCreated("r1")
			s.facts.Node.Name = "other"
		}, csr.Deny, csr.ReasonNodeForeign},
		"a Node that joined": {func(s *scene) {
			s.facts.Node = s.preCreated("r1")
			node.Joined(s.facts.Node)
		}, csr.Deny, csr.ReasonAlreadyJoined},
		"a Node that is Ready": {func(s *scene) {
			s.facts.Node = s.preCreated("r1")
			s.facts.Node.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}
		}, csr.Deny, csr.ReasonAlreadyJoined},
		"a Node that was never heard of": {func(s *scene) {
			s.facts.Node = s.preCreated("r1")
			s.facts.Node.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionUnknown}}
		}, csr.Approve, csr.ReasonExpected},
	})
}
