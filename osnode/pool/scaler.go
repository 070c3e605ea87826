// SPDX-License-Identifier: Apache-2.0

package pool

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cloudveneto/caas/internal/logging"
)

// passTimeout bounds one decision with all that it causes.
const passTimeout = 2 * time.Minute

// pendingPods wakes the scaler when a pod has been unschedulable for long enough.
type pendingPods struct{ *Pools }

func (p pendingPods) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	var pod corev1.Pod
	if err := p.Client.Get(ctx, request.NamespacedName, &pod); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	since, waits := waitsSince(&pod)
	if !waits {
		return ctrl.Result{}, nil
	}
	if left := since.Add(p.Timers.PendingAge).Sub(p.Clock()); left > 0 {
		return ctrl.Result{RequeueAfter: left}, nil
	}
	p.poke()
	return ctrl.Result{}, nil
}

// poke asks for a decision. It does not wait.
func (p *Pools) poke() {
	select {
	case p.pokes <- struct{}{}:
	default: // one is due already
	}
}

// waitsSince tells since when the scheduler has found no node for a pod; waits is false for
// all other pods. One that waits for others to be evicted has its node.
func waitsSince(pod *corev1.Pod) (since time.Time, waits bool) {
	if pod.Spec.NodeName != "" || !pod.DeletionTimestamp.IsZero() || pod.Status.NominatedNodeName != "" || !occupies(pod) {
		return time.Time{}, false
	}
	for _, condition := range pod.Status.Conditions {
		if condition.Type == corev1.PodScheduled && condition.Status == corev1.ConditionFalse && condition.Reason == corev1.PodReasonUnschedulable {
			return condition.LastTransitionTime.Time, true
		}
	}
	return time.Time{}, false
}

// Start makes decisions until ctx ends. It is the manager's to call, on the leader only.
func (p *Pools) Start(ctx context.Context) error {
	rescan := time.NewTicker(p.Timers.Rescan)
	defer rescan.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-rescan.C:
		case <-p.pokes:
			p.gather(ctx)
		}
		if err := p.decide(ctx); err != nil && ctx.Err() == nil {
			logging.From(ctx).ErrorContext(ctx, "could not decide about pods that wait", "error", err)
		}
	}
}

// NeedLeaderElection tells the manager that only one process may run Start.
func (p *Pools) NeedLeaderElection() bool { return true }

// gather waits until no more pods come, but not for ever.
func (p *Pools) gather(ctx context.Context) {
	most := time.NewTimer(p.Timers.BatchMost)
	defer most.Stop()
	idle := time.NewTimer(p.Timers.BatchIdle)
	defer idle.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-most.C:
			return
		case <-idle.C:
			return
		case <-p.pokes:
			idle.Reset(p.Timers.BatchIdle)
		}
	}
}

// decide looks at all pods that wait, and does what follows.
func (p *Pools) decide(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, passTimeout)
	defer cancel()
	view, err := p.look(ctx)
	if err != nil {
		return err
	}
	if len(view.pods) == 0 {
		p.tellPools(p.memory.decided(nil, nil))
		p.memory.keep(nil)
		return nil
	}
	result, err := p.plan(ctx, view)
	if err != nil {
		return err
	}
	p.apply(ctx, view, result)
	return nil
}
