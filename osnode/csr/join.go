// SPDX-License-Identifier: Apache-2.0

package csr

import (
	"cmp"
	"slices"
	"strings"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/types"

	osnodev1 "github.com/cloudveneto/caas/osnode/api/v1"
	"github.com/cloudveneto/caas/osnode/cloud"
	"github.com/cloudveneto/caas/osnode/node"
)

// AnnotationRequest is, on a Node, the UID of the request that the Node was made for. It
// is written before the request is approved, and makes a token good for one certificate
// also when the approved request has been collected, or when two are decided at once.
const AnnotationRequest = "osn.infn.it/certificate-request"

// subjectNames is how many attributes a kubelet's subject has: common name and organization.
const subjectNames = 2

// mostUndecided is how many requests with one token may wait: each is looked at again and again.
const mostUndecided = 10

// decideJoin is about the first certificate of a machine. Who asks has the token, and
// nothing else is certain about them.
func decideJoin(request Request, facts Facts) Verdict {
	osn, verdict := tokenOwner(request, facts)
	if verdict != nil {
		return *verdict
	}
	for _, check := range []func(Request, Facts, *osnodev1.OpenStackNode) *Verdict{
		general, joinShape, fewWait, tokenUnused, serverRuns, nodeFree,
	} {
		if verdict := check(request, facts, osn); verdict != nil {
			return *verdict
		}
	}
	return Verdict{Action: Approve, Reason: ReasonExpected, Message: "the machine of OpenStackNode " + osn.Namespace + "/" + osn.Name + " joins"}
}

func tokenOwner(request Request, facts Facts) (*osnodev1.OpenStackNode, *Verdict) {
	switch len(facts.OSNodes) {
	case 0:
		return nil, deny(ReasonUnknownToken, "no OpenStackNode has bootstrap token %s", request.Token)
	case 1:
	default:
		return nil, deny(ReasonAmbiguousToken, "%d OpenStackNodes have bootstrap token %s", len(facts.OSNodes), request.Token)
	}
	osn := &facts.OSNodes[0]
	if osn.Labels[osnodev1.LabelSecret] != tokenSecret+request.Token || osn.UID == "" || osn.UID != request.owner() {
		return nil, deny(ReasonForeignToken, "bootstrap token %s was not made for OpenStackNode %s/%s", request.Token, osn.Namespace, osn.Name)
	}
	return osn, nil
}

func joinShape(request Request, _ Facts, osn *osnodev1.OpenStackNode) *Verdict {
	certificate := request.Certificate
	switch {
	case osn.Status.NodeID == "" || certificate.Subject.CommonName != nodeUser+osn.Status.NodeID:
		return deny(ReasonWrongName, "a certificate for %q was asked for with the token of node %q", certificate.Subject.CommonName, osn.Status.NodeID)
	case !slices.Equal(certificate.Subject.Organization, []string{nodesGroup}):
		return deny(ReasonWrongOrganization, "the organization is %q, not %q", certificate.Subject.Organization, nodesGroup)
	case len(certificate.Subject.Names) != subjectNames:
		return deny(ReasonWrongSubject, "the subject has more than a common name and an organization")
	case len(certificate.DNSNames)+len(certificate.IPAddresses)+len(certificate.EmailAddresses)+len(certificate.URIs) > 0:
		return deny(ReasonUnexpectedSAN, "a client certificate has no subject alternative names")
	case !usagesAre(request.Usages, certificatesv1.UsageClientAuth):
		return deny(ReasonWrongUsages, "the usages %q are not those of a client certificate", request.Usages)
	default:
		return nil
	}
}

// usagesAre tells that usages are those of TLS, and purpose is among them.
func usagesAre(usages []certificatesv1.KeyUsage, purpose certificatesv1.KeyUsage) bool {
	allowed := []certificatesv1.KeyUsage{certificatesv1.UsageDigitalSignature, certificatesv1.UsageKeyEncipherment, purpose}
	foreign := func(usage certificatesv1.KeyUsage) bool { return !slices.Contains(allowed, usage) }
	return slices.Contains(usages, purpose) && !slices.ContainsFunc(usages, foreign)
}

// tokenUnused looks at what was approved before for the same name. A node that is made
// anew has another name, and may have the same token.
func tokenUnused(request Request, facts Facts, osn *osnodev1.OpenStackNode) *Verdict {
	if meta.IsStatusConditionTrue(osn.Status.Conditions, osnodev1.ConditionBootstrapTokenRevoked) {
		return deny(ReasonTokenRevoked, "the bootstrap token has been revoked")
	}
	for i := range facts.Others {
		other := &facts.Others[i]
		if other.UID == request.UID || !approved(other) {
			continue
		}
		certificate, err := parse(other.Spec.Request)
		if err != nil || certificate.Subject.CommonName == nodeUser+osn.Status.NodeID {
			return deny(ReasonTokenUsed, "the bootstrap token was used already, for request %s", other.Name)
		}
	}
	return claimed(request, facts)
}

// fewWait denies what is beyond the oldest requests that wait.
func fewWait(request Request, facts Facts, _ *osnodev1.OpenStackNode) *Verdict {
	before := 0
	for i := range facts.Others {
		if other := &facts.Others[i]; !decided(other) && precedes(other, request) {
			before++
		}
	}
	if before < mostUndecided {
		return nil
	}
	return deny(ReasonTooMany, "%d requests with the same bootstrap token wait already", before)
}

// precedes tells that another request is older. Times have whole seconds, so the UID decides where they are the same.
func precedes(other *certificatesv1.CertificateSigningRequest, request Request) bool {
	return cmp.Or(other.CreationTimestamp.Compare(request.Created), cmp.Compare(other.UID, request.UID)) < 0
}

// claimed judges by the request that the Node was made for, if that is another.
func claimed(request Request, facts Facts) *Verdict {
	if facts.Node == nil {
		return nil
	}
	claim := types.UID(facts.Node.Annotations[AnnotationRequest])
	if claim == "" || claim == request.UID {
		return nil
	}
	index := slices.IndexFunc(facts.Others, func(other certificatesv1.CertificateSigningRequest) bool { return other.UID == claim })
	switch {
	case index < 0 || approved(&facts.Others[index]):
		return deny(ReasonTokenUsed, "the bootstrap token was used already, for another request")
	case decided(&facts.Others[index]):
		return nil // denied after all, and the claim is void
	default:
		return &Verdict{Action: Wait, Reason: ReasonTokenBusy, Message: "request " + facts.Others[index].Name + " with the same token is being decided"}
	}
}

func serverRuns(request Request, facts Facts, osn *osnodev1.OpenStackNode) *Verdict {
	server := osn.Status.Server
	switch {
	case server == nil || server.ID == "" || osn.Status.ProviderID == "":
		return patiently(request, facts, ReasonServerNotActive, "the OpenStackNode has no virtual machine yet")
	case !strings.HasSuffix(osn.Status.ProviderID, "/"+server.ID):
		return patiently(request, facts, ReasonServerNotActive, "the OpenStackNode is getting another virtual machine")
	case !cloud.Status(server.Status).Running():
		return patiently(request, facts, ReasonServerNotActive, "the virtual machine is %s, and a machine that does not run cannot ask", server.Status)
	}
	if _, err := node.For(osn, nil); err != nil {
		return patiently(request, facts, ReasonServerNotActive, "%v", err)
	}
	return nil
}

// nodeFree wants that there is no Node of that name, or that it was made here and has
// never been Ready. The taint tells: a kubelet cannot remove it.
func nodeFree(_ Request, facts Facts, osn *osnodev1.OpenStackNode) *Verdict {
	current := facts.Node
	switch {
	case current == nil:
		return nil
	case current.Name != osn.Status.NodeID || !node.BelongsTo(current, osn):
		return deny(ReasonNodeForeign, "a Node of that name exists that was not made for the OpenStackNode")
	case !node.Waiting(current) || ready(current):
		return deny(ReasonAlreadyJoined, "the Node has joined already")
	default:
		return nil
	}
}

func ready(current *corev1.Node) bool {
	return slices.ContainsFunc(current.Status.Conditions, func(c corev1.NodeCondition) bool {
		return c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue
	})
}
