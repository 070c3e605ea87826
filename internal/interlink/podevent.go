// SPDX-License-Identifier: Apache-2.0

package interlink

import (
	"unicode/utf8"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// PodEvent is an Event of the target cluster about one pod. The same ID with a
// higher count or a later time is the same event, seen again.
type PodEvent struct {
	// PodUID is the pod's UID at its origin.
	PodUID string `json:"podUID"`
	// ID is the event's identity at the far end.
	ID      string `json:"id"`
	Type    string `json:"type,omitempty"`
	Reason  string `json:"reason"`
	Message string `json:"message,omitempty"`
	// Action is what was done, for events that say so.
	Action string `json:"action,omitempty"`
	// FieldPath names the part of the pod, for instance spec.containers{main}.
	FieldPath string           `json:"fieldPath,omitempty"`
	Count     int32            `json:"count,omitempty"`
	First     metav1.MicroTime `json:"first"`
	Last      metav1.MicroTime `json:"last"`
	// Component is who said it, for instance kubelet.
	Component string `json:"component,omitempty"`
}

// MaxEventMessage is the longest message of an event in bytes, which is what the
// API server takes.
const MaxEventMessage = 1024

// Shorten cuts a text to a number of bytes without splitting a character.
func Shorten(text string, limit int) string {
	if len(text) <= limit {
		return text
	}
	for limit > 0 && !utf8.RuneStart(text[limit]) {
		limit--
	}
	return text[:limit]
}
