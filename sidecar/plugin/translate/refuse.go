// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"fmt"
	"strings"
)

// Problem is one reason why a pod cannot run in the target cluster.
type Problem struct {
	// Field is the path in the pod, for instance spec.hostNetwork.
	Field string
	// Value is what the pod asks for; it never holds the content of a Secret.
	Value string
	// Rule says what forbids it.
	Rule string
	// Remedy says what the user or the site can do.
	Remedy string
}

func (p Problem) String() string {
	text := p.Field
	if p.Value != "" {
		text += fmt.Sprintf(" = %q", p.Value)
	}
	text += ": " + p.Rule
	if p.Remedy != "" {
		text += "; " + p.Remedy
	}
	return text
}

// RefusalError says that a pod can never run as it is specified. It holds every
// problem, so that a user corrects them in one go.
type RefusalError struct {
	Problems []Problem
}

func (r *RefusalError) Error() string {
	lines := make([]string, 0, len(r.Problems))
	for _, problem := range r.Problems {
		lines = append(lines, problem.String())
	}
	return "pod refused: " + strings.Join(lines, " | ")
}

// MissingError says that the request lacks objects which the pod needs. Unlike a
// RefusalError it may go away: the objects can appear at the origin.
type MissingError struct {
	// Objects are named as "ConfigMap ns/name (spec.volumes[cfg])".
	Objects []string
}

func (m *MissingError) Error() string {
	return "objects were not supplied with the pod and are not optional: " + strings.Join(m.Objects, ", ")
}
