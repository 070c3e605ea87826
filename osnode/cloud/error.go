// SPDX-License-Identifier: Apache-2.0

package cloud

import (
	"errors"
	"time"
)

// Class is a kind of refusal; what follows from it is the controllers' business.
type Class string

// The classes. Their values are also the reasons of conditions.
const (
	// QuotaExceeded: the project has no room; more may come at any time.
	QuotaExceeded Class = "QuotaExceeded"
	// NoValidHost: no compute host takes the machine now.
	NoValidHost Class = "NoValidHost"
	// InvalidSpec: something that the spec names does not exist, or does not fit.
	InvalidSpec Class = "InvalidSpec"
	// AmbiguousReference: a name stands for several things.
	AmbiguousReference Class = "AmbiguousReference"
	// NoTrust: the owner has not authorised the platform, or no longer.
	NoTrust Class = "NoTrust"
	// OwnerAuthorizationLost: OpenStack does not let the platform act for the owner: the
	// trust, the role or the user is gone.
	OwnerAuthorizationLost Class = "OwnerAuthorizationLost"
	// CredentialsInvalid: the platform's own credentials are refused, also after a new
	// login.
	CredentialsInvalid Class = "CredentialsInvalid"
	// NotFound: what was asked about is not there.
	NotFound Class = "NotFound"
	// Throttled: OpenStack asks to wait.
	Throttled Class = "Throttled"
	// Unavailable: OpenStack does not answer, or not sensibly. Whether a request was carried
	// out is not known.
	Unavailable Class = "Unavailable"
	// ProviderUnknown: the configuration has no such provider or region.
	ProviderUnknown Class = "ProviderUnknown"
	// UserDataTooLarge: more than Nova takes.
	UserDataTooLarge Class = "UserDataTooLarge"
	// ServerError: Nova gave a machine up for another reason than those above.
	ServerError Class = "ServerError"
	// Unclassified: anything else.
	Unclassified Class = "Unclassified"
)

// Error is a refusal. Its message is fit for users: it says what, and has no secrets.
type Error struct {
	Class   Class
	Message string
	// RetryAfter is how long OpenStack asks to wait; 0 if it does not say.
	RetryAfter time.Duration
	Err        error
}

func (e *Error) Error() string { return e.Message }

func (e *Error) Unwrap() error { return e.Err }

// ClassOf is the class of an error, Unclassified if it has none, and empty for nil.
func ClassOf(err error) Class {
	if err == nil {
		return ""
	}
	if refusal, ok := errors.AsType[*Error](err); ok {
		return refusal.Class
	}
	return Unclassified
}

// Is tells whether an error is of a class.
func Is(err error, class Class) bool { return ClassOf(err) == class }

// RetryAfter is how long OpenStack asked to wait; 0 if it did not say.
func RetryAfter(err error) time.Duration {
	if refusal, ok := errors.AsType[*Error](err); ok {
		return refusal.RetryAfter
	}
	return 0
}
