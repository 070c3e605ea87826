// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"encoding/json"
	"fmt"
)

// maxReport bounds the report annotation; all annotations of an object together
// must stay below 256 KiB.
const maxReport = 16 << 10

// Action says what became of a field.
type Action string

const (
	// ActionMapped says that the field has another value in the target cluster.
	ActionMapped Action = "mapped"
	// ActionDropped says that the field has no meaning in the target cluster and is left out.
	ActionDropped Action = "dropped"
)

// Change is one difference between the pod of the origin and the created one.
type Change struct {
	Action Action `json:"action"`
	Field  string `json:"field"`
	Detail string `json:"detail,omitempty"`
}

// Report lists what differs between the pod of the origin and the created one.
type Report []Change

// Annotation encodes the report, shortened at its end when it is too long.
func (r Report) Annotation() string {
	kept := r
	for {
		encoded, err := json.Marshal(kept)
		if err != nil {
			return "[]"
		}
		if len(encoded) <= maxReport {
			return string(encoded)
		}
		kept = append(kept[:len(kept)/2:len(kept)/2], Change{
			Action: ActionDropped, Field: "report", Detail: fmt.Sprintf("shortened, %d changes in all", len(r)),
		})
	}
}
