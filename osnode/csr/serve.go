// SPDX-License-Identifier: Apache-2.0

package csr

import (
	"net"
	"net/netip"
	"slices"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"

	osnodev1 "github.com/cloudveneto/caas/osnode/api/v1"
)

// decideServe is about the certificate that a kubelet shows to the API server. The node
// says itself which addresses it has, in its Node and in its request; only Nova's word
// about them counts.
func decideServe(request Request, facts Facts) Verdict {
	switch len(facts.OSNodes) {
	case 0:
		return withoutOSNode(facts)
	case 1:
	default:
		return *deny(ReasonNodeUnknown, "%d OpenStackNodes have node id %s", len(facts.OSNodes), request.NodeID)
	}
	osn := &facts.OSNodes[0]
	if osn.Status.NodeID != request.NodeID || request.NodeID == "" {
		return *deny(ReasonNodeUnknown, "the OpenStackNode's node id is %q, not %q", osn.Status.NodeID, request.NodeID)
	}
	for _, check := range []func(Request, Facts, *osnodev1.OpenStackNode) *Verdict{
		general, serveShape, ownNames, ownAddresses,
	} {
		if verdict := check(request, facts, osn); verdict != nil {
			return *verdict
		}
	}
	return Verdict{Action: Approve, Reason: ReasonExpected, Message: "node " + osn.Status.NodeID + " serves with its own name and addresses"}
}

// withoutOSNode leaves other machines of the cluster alone, but not those whose
// OpenStackNode is gone.
func withoutOSNode(facts Facts) Verdict {
	if facts.Node != nil && facts.Node.Labels[osnodev1.NodeLabelOSNode] != "" {
		return *deny(ReasonNodeGone, "the OpenStackNode of node %s is gone", facts.Node.Name)
	}
	return ignore("the node is not an OpenStackNode's")
}

func serveShape(request Request, _ Facts, osn *osnodev1.OpenStackNode) *Verdict {
	certificate := request.Certificate
	switch {
	case certificate.Subject.CommonName != nodeUser+osn.Status.NodeID:
		return deny(ReasonWrongName, "node %q asked for a certificate of %q", osn.Status.NodeID, certificate.Subject.CommonName)
	case !slices.Equal(certificate.Subject.Organization, []string{nodesGroup}):
		return deny(ReasonWrongOrganization, "the organization is %q, not %q", certificate.Subject.Organization, nodesGroup)
	case len(certificate.Subject.Names) != subjectNames:
		return deny(ReasonWrongSubject, "the subject has more than a common name and an organization")
	case len(certificate.EmailAddresses)+len(certificate.URIs) > 0:
		return deny(ReasonUnexpectedSAN, "a serving certificate has no e-mail addresses or URIs")
	case len(certificate.DNSNames)+len(certificate.IPAddresses) == 0:
		return deny(ReasonMissingSAN, "a serving certificate needs a name or an address")
	case !usagesAre(request.Usages, certificatesv1.UsageServerAuth):
		return deny(ReasonWrongUsages, "the usages %q are not those of a serving certificate", request.Usages)
	default:
		return nil
	}
}

func ownNames(request Request, _ Facts, osn *osnodev1.OpenStackNode) *Verdict {
	for _, name := range request.Certificate.DNSNames {
		if name != osn.Status.NodeID {
			return deny(ReasonForeignDNSName, "%q is not the name of node %q", name, osn.Status.NodeID)
		}
	}
	return nil
}

func ownAddresses(request Request, facts Facts, osn *osnodev1.OpenStackNode) *Verdict {
	if len(request.Certificate.IPAddresses) == 0 {
		return nil
	}
	own := addresses(osn)
	if len(own) == 0 {
		return patiently(request, facts, ReasonAddressesUnknown, "the addresses of the virtual machine are not known yet")
	}
	for _, asked := range request.Certificate.IPAddresses {
		if !slices.Contains(own, address(asked)) {
			return deny(ReasonForeignAddress, "%s is not an address that OpenStack gave to the virtual machine", asked)
		}
	}
	return nil
}

// addresses are those that the platform read from OpenStack.
func addresses(osn *osnodev1.OpenStackNode) []netip.Addr {
	var own []netip.Addr
	for _, entry := range osn.Status.Addresses {
		if entry.Type != corev1.NodeInternalIP && entry.Type != corev1.NodeExternalIP {
			continue
		}
		if parsed, err := netip.ParseAddr(entry.Address); err == nil {
			own = append(own, parsed.Unmap())
		}
	}
	return own
}

// address is the zero Addr, which nobody has, when the bytes are none.
func address(ip net.IP) netip.Addr {
	parsed, _ := netip.AddrFromSlice(ip)
	return parsed.Unmap()
}
