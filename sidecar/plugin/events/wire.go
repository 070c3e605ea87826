// SPDX-License-Identifier: Apache-2.0

package events

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cloudveneto/caas/internal/interlink"
)

// wire is an event as origins are told it, but for whose pod it is. Components say
// when and how often in two ways: kubelets by timestamps and count, schedulers by
// eventTime and series.
func wire(event *corev1.Event) *interlink.PodEvent {
	first, last, count := event.EventTime, event.EventTime, event.Count
	if !event.FirstTimestamp.IsZero() {
		first = metav1.NewMicroTime(event.FirstTimestamp.Time)
	}
	if !event.LastTimestamp.IsZero() {
		last = metav1.NewMicroTime(event.LastTimestamp.Time)
	}
	if event.Series != nil {
		count = max(count, event.Series.Count)
		if last.Before(&event.Series.LastObservedTime) {
			last = event.Series.LastObservedTime
		}
	}
	if first.IsZero() {
		first = metav1.NewMicroTime(event.CreationTimestamp.Time)
	}
	if last.Before(&first) {
		last = first
	}
	component := event.ReportingController
	if component == "" {
		component = event.Source.Component
	}
	return &interlink.PodEvent{
		ID: string(event.UID), Type: event.Type, Reason: event.Reason, Message: interlink.Shorten(event.Message, interlink.MaxEventMessage),
		Action: event.Action, FieldPath: event.InvolvedObject.FieldPath, Count: max(count, 1), First: first, Last: last,
		Component: component,
	}
}
