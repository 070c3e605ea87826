// SPDX-License-Identifier: Apache-2.0

package interlink

import (
	"errors"
	"fmt"
	"net/http"
)

// HeaderRefusal marks, with the value "true", an error answer to /create that no
// retry can change: the pod as it is specified can never run there. Without
// the header every error of /create is worth a retry.
const HeaderRefusal = "InterLink-Refused"

// StatusError is an answer with another status code than 200.
type StatusError struct {
	// Operation is what was asked, for instance "create pod".
	Operation string
	Code      int
	// Message is the answer's body, shortened; it is meant for users.
	Message string
	// Refused is true when the far end said that no retry can help.
	Refused bool
}

func (e *StatusError) Error() string {
	if e.Message == "" {
		return fmt.Sprintf("%s: far end answered %d %s", e.Operation, e.Code, http.StatusText(e.Code))
	}
	return fmt.Sprintf("%s: far end answered %d: %s", e.Operation, e.Code, e.Message)
}

// IsRefused reports whether err says that the far end can never run the pod.
func IsRefused(err error) bool {
	var status *StatusError
	return errors.As(err, &status) && status.Refused
}

// IsNotFound reports whether the far end has no such route or object.
func IsNotFound(err error) bool {
	var status *StatusError
	return errors.As(err, &status) && status.Code == http.StatusNotFound
}

// IsConflict reports whether the far end cannot do this to the object as it is now.
func IsConflict(err error) bool {
	var status *StatusError
	return errors.As(err, &status) && status.Code == http.StatusConflict
}
