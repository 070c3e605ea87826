// SPDX-License-Identifier: Apache-2.0

package pool

import (
	"fmt"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	osnodev1 "github.com/cloudveneto/caas/osnode/api/v1"
	"github.com/cloudveneto/caas/osnode/cloud"
	"github.com/cloudveneto/caas/osnode/pool/plan"
)

// Reasons of a pool's conditions that are not those of nodes.
const (
	reasonTooFew     = "TooFewNodes"
	reasonDisabled   = "Disabled"
	reasonExternal   = "External"
	reasonActive     = "Active"
	reasonNotLimited = "NotLimited"
	reasonAtMaximum  = "AtMaximum"
	reasonBackedOff  = "BackedOff"
)

// describe fills the status in.
func (s *pass) describe() {
	ready := 0
	for _, m := range s.members {
		if m.ready() {
			ready++
		}
	}
	s.status.Replicas = int32(len(s.members)) //nolint:gosec // at most maxReplicas and one
	s.status.ReadyReplicas = int32(ready)
	s.status.Selector = selector(s.pool).String()
	s.status.ObservedGeneration = s.pool.Generation
	s.readiness(ready)
	s.scaling()
}

func (s *pass) readiness(ready int) {
	want := desired(s.pool)
	switch {
	case s.ownerTrouble() != "":
		s.condition(osnodev1.ConditionPoolReady, false, osnodev1.ReasonOwnerUnknown, s.ownerTrouble())
	case s.trouble != nil:
		reason := string(cloud.ClassOf(s.trouble))
		s.condition(osnodev1.ConditionPoolReady, false, reason, s.trouble.Error())
	case ready < want:
		s.condition(osnodev1.ConditionPoolReady, false, reasonTooFew, fmt.Sprintf("%d of %d nodes are ready", ready, want))
	default:
		s.condition(osnodev1.ConditionPoolReady, true, osnodev1.ReasonReady, fmt.Sprintf("%d nodes are ready", ready))
	}
}

func (s *pass) scaling() {
	switch driver(s.pool) {
	case osnodev1.DriverExternalGRPC:
		s.condition(osnodev1.ConditionScalingActive, true, reasonExternal, "cluster-autoscaler decides about the size")
	case osnodev1.DriverBuiltin:
		s.condition(osnodev1.ConditionScalingActive, s.trouble == nil, reasonActive, "pods that wait make the pool grow")
	case osnodev1.DriverNone:
		s.condition(osnodev1.ConditionScalingActive, false, reasonDisabled, "the size is what spec.replicas says")
	}
	_, refusal := s.memory.about(keyOf(s.pool))
	if reason := limitReason(refusal.Reason); reason != "" {
		s.condition(osnodev1.ConditionScalingLimited, true, reason, refusal.Message)
		return
	}
	s.condition(osnodev1.ConditionScalingLimited, false, reasonNotLimited, "nothing keeps the pool from growing within its limits")
}

// limitReason is why a pool does not grow that would; empty if pods ask for nothing that it
// could have.
func limitReason(reason plan.Reason) string {
	return map[plan.Reason]string{
		plan.AtMaximum: reasonAtMaximum, plan.OutOfQuota: osnodev1.ReasonQuotaExceeded,
		plan.BackedOff: reasonBackedOff, plan.Unavailable: osnodev1.ReasonUnavailable,
	}[reason]
}

func (s *pass) condition(kind string, is bool, reason, message string) {
	status := metav1.ConditionFalse
	if is {
		status = metav1.ConditionTrue
	}
	meta.SetStatusCondition(&s.status.Conditions, metav1.Condition{
		Type: kind, Status: status, Reason: reason, Message: message, ObservedGeneration: s.pool.Generation,
	})
}
