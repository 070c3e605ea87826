// SPDX-License-Identifier: Apache-2.0

package provider

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/record"

	"github.com/cloudveneto/caas/internal/interlink"
)

// Reasons of the events that users see; some are reasons of pod statuses as well.
const (
	EventRefused            = "Refused"
	EventMissingObject      = "MissingObject"
	EventRemoteCreateFailed = "RemoteCreateFailed"
	EventRemoteUpdateFailed = "RemoteUpdateFailed"
	EventRemotePodLost      = "RemotePodLost"
	EventRemotePodDeleted   = "RemotePodDeleted"
	EventEphemeralRefused   = "EphemeralContainerRefused"
	EventEphemeralFailed    = "EphemeralContainerFailed"
)

// tell sends a warning about a pod, once per text.
func (p *Provider) tell(e *entry, reason, message string) {
	text := reason + ": " + message
	fresh := false
	p.table.change(e.uid, func(e *entry) {
		fresh = e.said != text
		e.said = text
	})
	if fresh && e.present {
		p.cfg.Recorder.Event(e.pod, corev1.EventTypeWarning, reason, message)
	}
}

// applyPodEvent has an event of the far end written at the origin, for a pod that
// the origin has.
func (p *Provider) applyPodEvent(event *interlink.PodEvent) {
	e, ok := p.table.view(types.UID(event.PodUID))
	if ok && e.present && !e.orphan {
		p.mirror.Take(e.pod, *event)
	}
}

// quietRecorder drops the library's events: one API request per pod and step, for
// what kubectl shows anyway.
type quietRecorder struct{ record.EventRecorder }

func noise(reason string) bool { return strings.HasPrefix(reason, "Provider") }

// Event records an event unless it is one of the library's.
func (r quietRecorder) Event(object runtime.Object, kind, reason, message string) {
	if !noise(reason) {
		r.EventRecorder.Event(object, kind, reason, message)
	}
}

// Eventf records an event unless it is one of the library's.
func (r quietRecorder) Eventf(object runtime.Object, kind, reason, format string, arguments ...any) {
	if !noise(reason) {
		r.EventRecorder.Eventf(object, kind, reason, format, arguments...)
	}
}

// AnnotatedEventf records an event unless it is one of the library's.
func (r quietRecorder) AnnotatedEventf(object runtime.Object, annotations map[string]string, kind, reason, format string, arguments ...any) {
	if !noise(reason) {
		r.EventRecorder.AnnotatedEventf(object, annotations, kind, reason, format, arguments...)
	}
}
