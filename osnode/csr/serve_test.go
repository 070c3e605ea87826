// SPDX-License-Identifier: Apache-2.0

package csr_test

import (
	"net"
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	osnodev1 "github.com/cloudveneto/caas/osnode/api/v1"
	"github.com/cloudveneto/caas/osnode/csr"
)

func ips(addresses ...string) func(*scene) {
	return func(s *scene) {
		s.template.IPAddresses = nil
		for _, address := range addresses {
			s.template.IPAddresses = append(s.template.IPAddresses, net.ParseIP(address))
		}
	}
}

func names(dns ...string) func(*scene) {
	return func(s *scene) { s.template.DNSNames = dns }
}

func TestDecideServe(t *testing.T) {
	t.Parallel()
	decide(t, serveScene, map[string]decision{
		"as the kubelet asks":     {nil, csr.Approve, csr.ReasonExpected},
		"both addresses":          {ips("10.88.16.10", "fd00::10"), csr.Approve, csr.ReasonExpected},
		"only the name":           {ips(), csr.Approve, csr.ReasonExpected},
		"only the address":        {names(), csr.Approve, csr.ReasonExpected},
		"neither":                 {func(s *scene) { names()(s); ips()(s) }, csr.Deny, csr.ReasonMissingSAN},
		"a foreign address":       {ips("10.88.16.10", "10.88.16.11"), csr.Deny, csr.ReasonForeignAddress},
		"the API's address":       {ips("10.96.0.1"), csr.Deny, csr.ReasonForeignAddress},
		"loopback":                {ips("127.0.0.1"), csr.Deny, csr.ReasonForeignAddress},
		"a foreign name":          {names(nodeID, "kubernetes.default.svc"), csr.Deny, csr.ReasonForeignDNSName},
		"a wildcard":              {names("*"), csr.Deny, csr.ReasonForeignDNSName},
		"an address as name":      {names("10.88.16.11"), csr.Deny, csr.ReasonForeignDNSName},
		"a host name of Nova":     {names("evil.example.org"), csr.Deny, csr.ReasonForeignDNSName},
		"addresses not known yet": {func(s *scene) { s.osn().Status.Addresses = nil }, csr.Wait, csr.ReasonAddressesUnknown},
		"addresses not known at all": {func(s *scene) {
			s.osn().Status.Addresses = nil
			s.object.CreationTimestamp = metav1.NewTime(now().Add(-time.Hour))
		}, csr.Deny, csr.ReasonAddressesUnknown},
		"an e-mail address": {func(s *scene) { s.template.EmailAddresses = []string{"a@b"} }, csr.Deny, csr.ReasonUnexpectedSAN},
		"a URI":             {func(s *scene) { s.template.URIs = []*url.URL{{Scheme: "x", Host: "y"}} }, csr.Deny, csr.ReasonUnexpectedSAN},
		"another node's name": {func(s *scene) {
			s.template.Subject.CommonName = "system:node:osn-02-1696949605128"
		}, csr.Deny, csr.ReasonWrongName},
		"another group": {func(s *scene) {
			s.template.Subject.Organization = []string{"system:masters"}
		}, csr.Deny, csr.ReasonWrongOrganization},
		"more in the subject": {func(s *scene) { s.template.Subject.Locality = []string{"x"} }, csr.Deny, csr.ReasonWrongSubject},
		"for clients": {func(s *scene) {
			s.object.Spec.Usages = append(s.object.Spec.Usages, certificatesv1.UsageClientAuth)
		}, csr.Deny, csr.ReasonWrongUsages},
		"not for servers": {func(s *scene) {
			s.object.Spec.Usages = []certificatesv1.KeyUsage{certificatesv1.UsageDigitalSignature}
		}, csr.Deny, csr.ReasonWrongUsages},
		"malformed": {func(s *scene) {
			s.pem = func([]byte) []byte { return nil }
		}, csr.Deny, csr.ReasonMalformed},
		"being deleted": {func(s *scene) { s.osn().DeletionTimestamp = &metav1.Time{Time: now()} }, csr.Deny, csr.ReasonDeleting},
		"old": {func(s *scene) {
			s.object.CreationTimestamp = metav1.NewTime(now().Add(-2 * time.Hour))
		}, csr.Deny, csr.ReasonTooOld},
		"another machine's": {func(s *scene) { s.facts.OSNodes = nil }, csr.Ignore, csr.ReasonStranger},
		"another machine's, with a Node": {func(s *scene) {
			s.facts.OSNodes, s.facts.Node = nil, &corev1.Node{}
		}, csr.Ignore, csr.ReasonStranger},
		"the object is gone": {func(s *scene) {
			s.facts.Node = s.preCreated("")
			s.facts.OSNodes = nil
		}, csr.Deny, csr.ReasonNodeGone},
		"two of that id": {func(s *scene) {
			s.facts.OSNodes = append(s.facts.OSNodes, osNode())
		}, csr.Deny, csr.ReasonNodeUnknown},
		"the cache was behind": {func(s *scene) { s.osn().Status.NodeID = "osn-01-1700000000000" }, csr.Deny, csr.ReasonNodeUnknown},
		"not in the nodes' group": {func(s *scene) {
			s.object.Spec.Groups = []string{"system:authenticated"}
		}, csr.Ignore, csr.ReasonStranger},
		"by a token": {func(s *scene) {
			s.object.Spec.Username, s.object.Spec.Groups = "system:bootstrap:"+token, []string{"system:bootstrappers:osn"}
		}, csr.Ignore, csr.ReasonStranger},
	})
}

// FuzzDecide never panics, and approves nothing but what names the node and nobody else.
func FuzzDecide(f *testing.F) {
	join, serve := joinScene(f), serveScene(f)
	join.request()
	serve.request()
	f.Add(join.object.Spec.Request, true)
	f.Add(serve.object.Spec.Request, false)
	f.Add([]byte("-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n"), true)
	f.Add([]byte(nil), false)
	f.Fuzz(func(t *testing.T, encoded []byte, joins bool) {
		s := serveScene(t)
		if joins {
			s = joinScene(t)
		}
		s.object.Spec.Request = encoded
		request := csr.Read(&s.object)
		verdict := csr.Decide(request, s.facts)
		if request.Certificate == nil {
			assert.Equal(t, csr.ReasonMalformed, verdict.Reason)
			assert.Error(t, request.Malformed)
		}
		if verdict.Action != csr.Approve {
			assert.Equal(t, csr.Deny, verdict.Action)
			return
		}
		certificate := request.Certificate
		assert.Equal(t, nodeName, certificate.Subject.CommonName)
		assert.Equal(t, []string{"system:nodes"}, certificate.Subject.Organization)
		assert.Len(t, certificate.Subject.Names, 2)
		for _, name := range certificate.DNSNames {
			assert.Equal(t, nodeID, name)
		}
		for _, ip := range certificate.IPAddresses {
			assert.Contains(t, []string{"10.88.16.10", "fd00::10"}, ip.String())
		}
		assert.Equal(t, joins, len(certificate.DNSNames)+len(certificate.IPAddresses) == 0)
	})
}

func TestIndexes(t *testing.T) {
	t.Parallel()
	osn := osNode()
	var found []string
	for _, key := range csr.Indexes() {
		found = append(found, key(&osn)...)
		assert.Empty(t, key(&osnodev1.OpenStackNode{}))
		assert.Empty(t, key(&corev1.Node{}))
	}
	assert.ElementsMatch(t, []string{"bootstrap-token-" + token, nodeID}, found)
}

func TestNewNeedsItsParts(t *testing.T) {
	t.Parallel()
	_, err := csr.New(csr.Config{})
	assert.ErrorContains(t, err, "client, reader and recorder are required")
}
