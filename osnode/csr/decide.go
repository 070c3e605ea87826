// SPDX-License-Identifier: Apache-2.0

package csr

import (
	"fmt"
	"strings"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"

	osnodev1 "github.com/cloudveneto/caas/osnode/api/v1"
)

// Action is what to do about a request.
type Action string

// The actions.
const (
	// Ignore leaves the request to others.
	Ignore Action = "ignore"
	// Wait looks at it again soon: something that makes it right may still come.
	Wait    Action = "wait"
	Approve Action = "approve"
	Deny    Action = "deny"
)

// Reasons of verdicts; those of denials are also the reasons of Events.
const (
	ReasonStranger          = "Stranger"
	ReasonExpected          = "Expected"
	ReasonUnknownToken      = "UnknownToken"
	ReasonAmbiguousToken    = "AmbiguousToken"
	ReasonForeignToken      = "ForeignToken"
	ReasonTokenUsed         = "TokenUsed"
	ReasonTokenRevoked      = "TokenRevoked"
	ReasonTokenBusy         = "TokenBusy"
	ReasonTooMany           = "TooManyRequests"
	ReasonTooOld            = "RequestTooOld"
	ReasonMalformed         = "MalformedRequest"
	ReasonWrongName         = "WrongName"
	ReasonWrongOrganization = "WrongOrganization"
	ReasonWrongSubject      = "WrongSubject"
	ReasonWrongUsages       = "WrongUsages"
	ReasonUnexpectedSAN     = "UnexpectedSubjectAlternativeName"
	ReasonMissingSAN        = "MissingSubjectAlternativeName"
	ReasonForeignDNSName    = "ForeignDNSName"
	ReasonForeignAddress    = "ForeignAddress"
	ReasonAddressesUnknown  = "AddressesUnknown"
	ReasonDeleting          = "NodeDeleting"
	ReasonNodeGone          = "OpenStackNodeGone"
	ReasonNodeUnknown       = "NodeUnknown"
	ReasonServerNotActive   = "ServerNotActive"
	ReasonNodeForeign       = "NodeExists"
	ReasonAlreadyJoined     = "NodeAlreadyJoined"
)

// Verdict is a decision; Message is a sentence for people, without secrets.
type Verdict struct {
	Action          Action
	Reason, Message string
}

// Facts are what a decision depends on besides the request.
type Facts struct {
	// OSNodes are the OpenStackNodes whose token a Join was made with, by the label that
	// names its Secret, or whose node id a Serve was made for.
	OSNodes []osnodev1.OpenStackNode
	// Node is the Node with the name of the OpenStackNode's node id; nil if there is none.
	Node *corev1.Node
	// Others are all other requests that were made with the same token, decided or not. For
	// a Serve they are not needed.
	Others []certificatesv1.CertificateSigningRequest
	// Began is when this process took the requests up: what came before has waited for nobody's word.
	Began  time.Time
	Now    time.Time
	Limits Limits
}

// Limits bound how old a request may be.
type Limits struct {
	// MaxAge is when it is too old to be what it pretends to be.
	MaxAge time.Duration
	// Patience is how long it may wait for Nova's word about the machine, while somebody is there to hear it.
	Patience time.Duration
}

// Decide decides about a request.
func Decide(request Request, facts Facts) Verdict {
	switch request.Kind {
	case Join:
		return decideJoin(request, facts)
	case Serve:
		return decideServe(request, facts)
	case Stranger:
	}
	return ignore("the request is not about an OpenStackNode")
}

// Subject is the OpenStackNode that a request is about, for its Events; nil if there is
// none. A token that was made for one node says nothing about another.
func (f Facts) subject(request Request) *osnodev1.OpenStackNode {
	if len(f.OSNodes) != 1 || request.Kind == Join && f.OSNodes[0].UID != request.owner() {
		return nil
	}
	return &f.OSNodes[0]
}

// waited is for how long a request has waited while this process could have decided.
func (f Facts) waited(request Request) time.Duration {
	if f.Began.After(request.Created) {
		return f.Now.Sub(f.Began)
	}
	return f.Now.Sub(request.Created)
}

// general are the checks that do not depend on the kind. It is nil when they pass.
func general(request Request, facts Facts, osn *osnodev1.OpenStackNode) *Verdict {
	switch age := facts.Now.Sub(request.Created); {
	case !osn.DeletionTimestamp.IsZero():
		return deny(ReasonDeleting, "the OpenStackNode is being deleted")
	case age > facts.Limits.MaxAge:
		return deny(ReasonTooOld, "the request is older than %s", facts.Limits.MaxAge)
	case request.Certificate == nil:
		return deny(ReasonMalformed, "%v", request.Malformed)
	default:
		return nil
	}
}

// patiently waits, and denies when that took too long.
func patiently(request Request, facts Facts, reason, format string, args ...any) *Verdict {
	verdict := deny(reason, format, args...)
	if facts.waited(request) <= facts.Limits.Patience {
		verdict.Action = Wait
	}
	return verdict
}

func deny(reason, format string, args ...any) *Verdict {
	return &Verdict{Action: Deny, Reason: reason, Message: short(fmt.Sprintf(format, args...))}
}

// short makes a text that quotes a request fit for an Event, which has a limit.
func short(text string) string {
	const limit = 500
	if len(text) <= limit {
		return text
	}
	return strings.ToValidUTF8(text[:limit], "") + "…"
}

func ignore(message string) Verdict {
	return Verdict{Action: Ignore, Reason: ReasonStranger, Message: message}
}
