// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	osnodev1 "github.com/cloudveneto/caas/osnode/api/v1"
)

// Reasons of Events that are no condition's.
const (
	eventServerCreating     = "ServerCreating"
	eventServerCreated      = "ServerCreated"
	eventServerAdopted      = "ServerAdopted"
	eventServerDeleting     = "ServerDeleting"
	eventServerDeleted      = "ServerDeleted"
	eventServerRecreating   = "ServerRecreating"
	eventDuplicateServer    = "DuplicateServer"
	eventLeftoversRemoved   = "LeftoversRemoved"
	eventNodeJoined         = "NodeJoined"
	eventNodeRecreated      = "NodeRecreated"
	eventOutage             = "OpenStackUnreachable"
	eventExpired            = "Expired"
	eventIdle               = "Idle"
	eventTryAnother         = "TryAnotherFlavor"
	eventDeletionIncomplete = "DeletionIncomplete"
)

// noteLimit is how long the API server lets an Event's note be.
const noteLimit = 1024

type news struct{ kind, reason, action, note string }

// tell notes an Event, warn one about a problem. They are published when the status that
// they go with has been written, so a pass that is repeated does not repeat them.
func (p *pass) tell(reason, action, format string, args ...any) {
	p.events = append(p.events, news{corev1.EventTypeNormal, reason, action, fmt.Sprintf(format, args...)})
}

func (p *pass) warn(reason, action, note string) {
	p.events = append(p.events, news{corev1.EventTypeWarning, reason, action, note})
}

// publish does what may be done once only.
func (r *Reconciler) publish(p *pass) {
	for _, e := range p.events {
		r.Recorder.Eventf(p.osn, nil, e.kind, e.reason, e.action, "%s", e.note[:min(len(e.note), noteLimit)])
	}
	for _, count := range p.counts {
		count()
	}
	p.events, p.counts = nil, nil
}

func find(osn *osnodev1.OpenStackNode, kind string) *metav1.Condition {
	return meta.FindStatusCondition(osn.Status.Conditions, kind)
}

func isTrue(osn *osnodev1.OpenStackNode, kind string) bool {
	return meta.IsStatusConditionTrue(osn.Status.Conditions, kind)
}

// has tells that a condition has one of the reasons.
func has(osn *osnodev1.OpenStackNode, kind string, reasons ...string) bool {
	condition := find(osn, kind)
	return condition != nil && slices.Contains(reasons, condition.Reason)
}

// set sets a condition. Its time changes with its status; that is the one that counts.
func (p *pass) set(kind string, status metav1.ConditionStatus, reason, message string) {
	meta.SetStatusCondition(&p.osn.Status.Conditions, metav1.Condition{
		Type: kind, Status: status, Reason: reason, Message: message,
		ObservedGeneration: p.osn.Generation, LastTransitionTime: metav1.NewTime(p.now),
	})
}

// reset makes a condition's time now, whatever its status was.
func (p *pass) reset(kind string, status metav1.ConditionStatus, reason, message string) {
	p.drop(kind)
	p.set(kind, status, reason, message)
}

func (p *pass) drop(kinds ...string) {
	for _, kind := range kinds {
		meta.RemoveStatusCondition(&p.osn.Status.Conditions, kind)
	}
}
