// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"math/rand/v2"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	osnodev1 "github.com/cloudveneto/caas/osnode/api/v1"
	"github.com/cloudveneto/caas/osnode/cloud"
)

// jitter is how much of a back-off is left to chance, so that nodes that failed together
// do not try again together.
const jitter = 0.1

// Consequence is what follows from a class of refusals.
type Consequence struct {
	// Condition is the one that is not true because of it; empty if that depends on what
	// was being done.
	Condition string
	// First and Most bound the back-off, which doubles.
	First, Most time.Duration
	// Transient tells that the refusal says nothing about the object: no phase changes.
	Transient bool
}

// ConsequenceOf is what follows from a class of refusals.
func ConsequenceOf(class cloud.Class, timers Timers) Consequence {
	switch class {
	case cloud.QuotaExceeded:
		return Consequence{Condition: osnodev1.ConditionQuotaAvailable, First: timers.QuotaFirst, Most: timers.QuotaMost}
	case cloud.NoValidHost, cloud.ServerError:
		return Consequence{Condition: osnodev1.ConditionServerReady, First: timers.HostFirst, Most: timers.HostMost}
	case cloud.InvalidSpec, cloud.AmbiguousReference, cloud.NotFound, cloud.ProviderUnknown, cloud.UserDataTooLarge:
		return Consequence{Condition: osnodev1.ConditionSpecResolved, First: timers.Recheck, Most: timers.Recheck}
	case cloud.NoTrust, cloud.OwnerAuthorizationLost:
		return Consequence{
			Condition: osnodev1.ConditionOwnerAuthorized, First: timers.Authorization, Most: timers.Authorization,
		}
	case cloud.CredentialsInvalid, cloud.Throttled, cloud.Unavailable, cloud.Unclassified:
		return Consequence{First: timers.RetryFirst, Most: timers.RetryMost, Transient: true}
	default:
		return Consequence{First: timers.RetryFirst, Most: timers.RetryMost, Transient: true}
	}
}

// Delay is the back-off after so many refusals in a row.
func (c Consequence) Delay(count int32) time.Duration {
	delay := c.First
	for range count - 1 {
		if delay *= 2; delay >= c.Most {
			return c.Most
		}
	}
	return min(delay, c.Most)
}

// refuse makes a refusal into a condition, or into nothing but another try later. The
// stage is the condition that was being worked on.
func (r *Reconciler) refuse(p *pass, stage string, err error) {
	class := cloud.ClassOf(err)
	consequence := ConsequenceOf(class, r.Timers)
	if consequence.Transient {
		r.trouble(p, stage, err)
		return
	}
	r.metrics.refusals.WithLabelValues(string(class)).Inc()
	if class == cloud.NotFound {
		class = cloud.InvalidSpec
	}
	p.refused(class, err.Error())
	p.set(consequence.Condition, metav1.ConditionFalse, string(class), err.Error())
	p.in(spread(consequence.Delay(p.osn.Status.LastError.Count)))
}

// trouble is OpenStack not answering: what is known stays as it is, and a stage of which
// nothing is known yet says why.
func (r *Reconciler) trouble(p *pass, stage string, err error) {
	class := cloud.ClassOf(err)
	r.metrics.refusals.WithLabelValues(string(class)).Inc()
	p.troubled = true
	p.in(spread(max(r.transient.When(p.request), cloud.RetryAfter(err))))
	if last := p.osn.Status.LastError; last == nil || last.Code != string(class) {
		p.osn.Status.LastError = &osnodev1.LastError{
			Code: string(class), Message: err.Error(), At: metav1.NewTime(p.now), Count: 1,
		}
		p.warn(eventOutage, "CallOpenStack", err.Error())
	}
	if stage == "" {
		return
	}
	if known := find(p.osn, stage); known == nil || known.Status == metav1.ConditionUnknown {
		p.set(stage, metav1.ConditionUnknown, string(class), err.Error())
	}
}

// refused counts a refusal. People are told when it is a new one, not each time.
func (p *pass) refused(class cloud.Class, message string) {
	last := p.osn.Status.LastError
	if last == nil || last.Code != string(class) {
		last = &osnodev1.LastError{Code: string(class)}
		p.warn(string(class), "CreateServer", message)
	}
	p.osn.Status.LastError = &osnodev1.LastError{
		Code: string(class), Message: message, At: metav1.NewTime(p.now), Count: last.Count + 1,
	}
}

// backOff is how long nothing is tried because of the last refusal.
func (r *Reconciler) backOff(p *pass) time.Duration {
	last := p.osn.Status.LastError
	if last == nil || ConsequenceOf(cloud.Class(last.Code), r.Timers).Transient {
		return 0
	}
	woken := false
	r.remember(p.osn.UID, func(m *memory) { woken, m.woken = m.woken, false })
	if woken || p.osn.Generation != p.osn.Status.ObservedGeneration {
		return 0
	}
	delay := ConsequenceOf(cloud.Class(last.Code), r.Timers).Delay(last.Count)
	return last.At.Add(delay).Sub(p.now)
}

// answered forgets that OpenStack did not answer.
func (p *pass) answered() {
	last := p.osn.Status.LastError
	if last != nil && ConsequenceOf(cloud.Class(last.Code), Timers{}).Transient {
		p.osn.Status.LastError = nil
	}
}

func spread(delay time.Duration) time.Duration {
	return delay + time.Duration(rand.Float64()*jitter*float64(delay)) //nolint:gosec // spreads load, guards nothing
}
