// SPDX-License-Identifier: Apache-2.0

package v1

// Types of an OpenStackNode's conditions.
const (
	// ConditionReady sums all up: the node takes pods.
	ConditionReady = "Ready"
	// ConditionOwnerAuthorized says that the platform may act for the owner.
	ConditionOwnerAuthorized = "OwnerAuthorized"
	// ConditionSpecResolved says that all names in the spec stand for something.
	ConditionSpecResolved = "SpecResolved"
	// ConditionQuotaAvailable says that the project has room for the machine.
	ConditionQuotaAvailable = "QuotaAvailable"
	// ConditionServerReady says that the virtual machine is ACTIVE.
	ConditionServerReady = "ServerReady"
	// ConditionNodeRegistered says that the node has its certificate.
	ConditionNodeRegistered = "NodeRegistered"
	// ConditionNodeReady is the Node's own condition.
	ConditionNodeReady = "NodeReady"
	// ConditionBootstrapTokenRevoked says that the token to join with is no longer valid.
	ConditionBootstrapTokenRevoked = "BootstrapTokenRevoked"
	// ConditionDrained says that no pods are left on a node that is being deleted.
	ConditionDrained = "Drained"
)

// Types of an OpenStackNodePool's conditions.
const (
	// ConditionPoolReady says that the pool has the nodes it wants.
	ConditionPoolReady = "Ready"
	// ConditionScalingActive says that pods that wait can make the pool grow.
	ConditionScalingActive = "ScalingActive"
	// ConditionScalingLimited says that the pool would grow, but for a limit or a quota.
	ConditionScalingLimited = "ScalingLimited"
)

// Reasons of conditions, and codes of LastError.
const (
	ReasonReady                  = "Ready"
	ReasonPending                = "Pending"
	ReasonWaiting                = "Waiting"
	ReasonDeleting               = "Deleting"
	ReasonOwnerUnknown           = "OwnerUnknown"
	ReasonNoTrust                = "NoTrust"
	ReasonTrusted                = "Trusted"
	ReasonServiceMode            = "ServiceMode"
	ReasonOwnerAuthorizationLost = "OwnerAuthorizationLost"
	ReasonCredentialsInvalid     = "CredentialsInvalid"
	ReasonResolved               = "Resolved"
	ReasonInvalidSpec            = "InvalidSpec"
	ReasonAmbiguousReference     = "AmbiguousReference"
	ReasonProviderUnknown        = "ProviderUnknown"
	ReasonQuotaAvailable         = "QuotaAvailable"
	ReasonQuotaExceeded          = "QuotaExceeded"
	ReasonNoValidHost            = "NoValidHost"
	ReasonServerBuilding         = "ServerBuilding"
	ReasonServerActive           = "ServerActive"
	ReasonServerStopped          = "ServerStopped"
	ReasonServerError            = "ServerError"
	ReasonServerGone             = "ServerGone"
	ReasonServerUnknown          = "ServerUnknown"
	ReasonTimeout                = "Timeout"
	ReasonThrottled              = "Throttled"
	ReasonUnavailable            = "Unavailable"
	ReasonRegistered             = "Registered"
	ReasonNotRegistered          = "NotRegistered"
	ReasonNodeReady              = "NodeReady"
	ReasonNodeNotReady           = "NodeNotReady"
	ReasonTokenValid             = "TokenValid"
	ReasonTokenRevoked           = "TokenRevoked"
	ReasonDraining               = "Draining"
	ReasonDrained                = "Drained"
	ReasonDrainSkipped           = "DrainSkipped"
	ReasonDrainTimeout           = "DrainTimeout"
	ReasonAbandoned              = "Abandoned"
	ReasonUserDataTooLarge       = "UserDataTooLarge" // more than Nova takes
)
