// SPDX-License-Identifier: Apache-2.0

package authz

// Outcome is what a decision comes to.
type Outcome int

const (
	// Deny ends the request.
	Deny Outcome = iota
	// NoOpinion leaves the request to RBAC.
	NoOpinion
	// Ask means that the verdict depends on an object that the facts do not tell of.
	Ask
)

func (o Outcome) String() string {
	switch o {
	case NoOpinion:
		return "noOpinion"
	case Ask:
		return "ask"
	case Deny:
	}
	return "deny"
}

// Reason classifies verdicts, for metrics and tests.
type Reason string

// The reasons.
const (
	ReasonNonResource Reason = "nonResource" // a URL that is no object
	ReasonSystem      Reason = "system"      // the user is no tenant
	ReasonAllowed     Reason = "allowed"     // nothing of others is touched
	ReasonOwner       Reason = "owner"       // the object is the caller's
	ReasonShared      Reason = "shared"      // the object is shared in the project
	ReasonManager     Reason = "manager"     // the caller manages the project
	ReasonAdmission   Reason = "admission"   // admission decides: it sees the object

	ReasonNotReady    Reason = "notReady"
	ReasonStranger    Reason = "stranger"    // neither tenant nor system
	ReasonNobody      Reason = "nobody"      // a ServiceAccount without an owner
	ReasonVerb        Reason = "verb"        // not for tenants
	ReasonCluster     Reason = "cluster"     // cluster-scoped and not on the list
	ReasonProject     Reason = "project"     // not a namespace of the caller's project
	ReasonResource    Reason = "resource"    // not a kind for tenants
	ReasonSubresource Reason = "subresource" // not for tenants, or not on this kind
	ReasonSelector    Reason = "selector"    // a collection without the owner's selector
	ReasonMalformed   Reason = "malformed"
	ReasonNotYours    Reason = "notYours"    // of somebody else, or nothing
	ReasonLimited     Reason = "limited"     // the user asks for unknown names too often
	ReasonUnavailable Reason = "unavailable" // cannot tell
)

// Verdict is a decision.
type Verdict struct {
	Outcome Outcome
	Reason  Reason
	// Text is a sentence for the user, of denials only. It begins with "mt: ".
	Text string
	// Key is what to ask for, and User on whose account, when the outcome is Ask.
	Key  Key
	User string
}

func pass(reason Reason) Verdict { return Verdict{Outcome: NoOpinion, Reason: reason} }

func deny(reason Reason, text string) Verdict {
	return Verdict{Outcome: Deny, Reason: reason, Text: "mt: " + text}
}

// notYours is one answer for what belongs to others and for what does not exist: which of the two it is concerns nobody.
func notYours() Verdict { return deny(ReasonNotYours, "not found or not yours") }
