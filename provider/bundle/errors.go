// SPDX-License-Identifier: Apache-2.0

package bundle

import "fmt"

// MissingError says that an object which the pod cannot do without is not there (yet).
type MissingError struct {
	Kind      string
	Namespace string
	Name      string
	// Key is set when the object exists, but not this key in it.
	Key string
}

func (e *MissingError) Error() string {
	if e.Key != "" {
		return fmt.Sprintf("%s %s/%s has no key %q, which the pod needs", e.Kind, e.Namespace, e.Name, e.Key)
	}
	return fmt.Sprintf("%s %s/%s does not exist, and the pod needs it", e.Kind, e.Namespace, e.Name)
}

// RefusedError says that a pod references something that cannot be collected.
type RefusedError struct{ Message string }

func (e *RefusedError) Error() string { return e.Message }

func refused(format string, arguments ...any) error {
	return &RefusedError{Message: fmt.Sprintf(format, arguments...)}
}
