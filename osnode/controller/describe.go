// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	osnodev1 "github.com/cloudveneto/caas/osnode/api/v1"
)

// Descriptions that users know.
const (
	textRunning  = "The node is running"
	textCreating = "The virtual machine is being created"
	textJoining  = "Waiting for the node to join"
	textSilent   = "The node is not responding"
	textStopped  = "The virtual machine is stopped"
	textDeleting = "The node is being deleted"
	textPending  = "The node is being prepared"
	textQuota    = "Waiting for quota: "
)

// Summary is the conditions in a few words.
type Summary struct {
	Phase       osnodev1.Phase
	Description string
	// Ready tells that the node takes pods, Reason why not.
	Ready  bool
	Reason string
}

// Summarize makes the phase and its description from the conditions, and from nothing
// else but that the object is being deleted.
func Summarize(conditions []metav1.Condition, deleting bool) Summary {
	if deleting {
		return Summary{osnodev1.PhaseDeleting, leaving(conditions), false, osnodev1.ReasonDeleting}
	}
	server := meta.FindStatusCondition(conditions, osnodev1.ConditionServerReady)
	if server == nil {
		return preparing(conditions)
	}
	switch server.Reason {
	case osnodev1.ReasonServerBuilding, osnodev1.ReasonUnavailable, osnodev1.ReasonThrottled, osnodev1.ReasonCredentialsInvalid:
		return Summary{osnodev1.PhaseCreating, textCreating, false, server.Reason}
	case osnodev1.ReasonServerStopped:
		return Summary{osnodev1.PhaseStopped, textStopped, false, server.Reason}
	case osnodev1.ReasonServerError, osnodev1.ReasonServerGone, osnodev1.ReasonTimeout:
		return Summary{osnodev1.PhaseFailed, server.Message, false, server.Reason}
	case osnodev1.ReasonServerActive, osnodev1.ReasonServerUnknown:
		return running(conditions, server.Status == metav1.ConditionTrue)
	default: // a machine that was given up
		if summary := preparing(conditions); summary.Description != textPending {
			return summary
		}
		return Summary{osnodev1.PhasePending, server.Message, false, server.Reason}
	}
}

// preparing is a node without a machine: the first thing that is missing is what it
// waits for.
func preparing(conditions []metav1.Condition) Summary {
	for _, kind := range []string{
		osnodev1.ConditionOwnerAuthorized, osnodev1.ConditionSpecResolved, osnodev1.ConditionQuotaAvailable,
	} {
		condition := meta.FindStatusCondition(conditions, kind)
		if condition == nil || condition.Status == metav1.ConditionTrue {
			continue
		}
		phase, text := osnodev1.PhasePending, condition.Message
		switch {
		case kind == osnodev1.ConditionQuotaAvailable && condition.Reason == osnodev1.ReasonQuotaExceeded:
			text = textQuota + text
		case kind == osnodev1.ConditionSpecResolved && condition.Status == metav1.ConditionFalse:
			phase = osnodev1.PhaseFailed
		}
		return Summary{phase, text, false, condition.Reason}
	}
	return Summary{osnodev1.PhasePending, textPending, false, osnodev1.ReasonPending}
}

// running is a node with a machine that runs, or of which OpenStack says nothing clear.
func running(conditions []metav1.Condition, active bool) Summary {
	ready := meta.FindStatusCondition(conditions, osnodev1.ConditionNodeReady)
	joined := meta.IsStatusConditionTrue(conditions, osnodev1.ConditionBootstrapTokenRevoked)
	switch {
	case ready == nil && active, ready != nil && !joined && ready.Status != metav1.ConditionTrue && ready.Reason == osnodev1.ReasonWaiting:
		return Summary{osnodev1.PhaseJoining, textJoining, false, osnodev1.ReasonWaiting}
	case ready == nil:
		return Summary{osnodev1.PhaseCreating, textCreating, false, osnodev1.ReasonServerUnknown}
	case ready.Status == metav1.ConditionTrue:
		return Summary{osnodev1.PhaseRunning, textRunning, true, osnodev1.ReasonReady}
	case ready.Reason == osnodev1.ReasonWaiting:
		return Summary{osnodev1.PhaseRunning, textRunning, false, osnodev1.ReasonNodeNotReady}
	case ready.Reason == osnodev1.ReasonTimeout:
		return Summary{osnodev1.PhaseFailed, ready.Message, false, ready.Reason}
	default:
		return Summary{osnodev1.PhaseNotReady, textSilent, false, ready.Reason}
	}
}

// leaving is the step that a deletion is at.
func leaving(conditions []metav1.Condition) string {
	server := meta.FindStatusCondition(conditions, osnodev1.ConditionServerReady)
	drained := meta.FindStatusCondition(conditions, osnodev1.ConditionDrained)
	switch {
	case server != nil && server.Reason == osnodev1.ReasonDeleting:
		return server.Message
	case drained != nil:
		return drained.Message
	default:
		return textDeleting
	}
}

// summarize writes what follows from the conditions into the status.
func summarize(osn *osnodev1.OpenStackNode, now time.Time) osnodev1.Phase {
	summary := Summarize(osn.Status.Conditions, !osn.DeletionTimestamp.IsZero())
	osn.Status.Phase, osn.Status.Description = summary.Phase, summary.Description
	osn.Status.ObservedGeneration = osn.Generation
	status := metav1.ConditionFalse
	if summary.Ready {
		status = metav1.ConditionTrue
	}
	meta.SetStatusCondition(&osn.Status.Conditions, metav1.Condition{
		Type: osnodev1.ConditionReady, Status: status, Reason: summary.Reason, Message: summary.Description,
		ObservedGeneration: osn.Generation, LastTransitionTime: metav1.NewTime(now),
	})
	return summary.Phase
}
