// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cloudveneto/caas/internal/logging"
	osnodev1 "github.com/cloudveneto/caas/osnode/api/v1"
	"github.com/cloudveneto/caas/osnode/node"
)

// register looks after the Node, which is made when the machine gets its certificate.
func (r *Reconciler) register(ctx context.Context, p *pass) (flow, error) {
	current, err := r.lookUp(ctx, p)
	if err != nil {
		return stop, err
	}
	if current == nil {
		return r.unregistered(ctx, p)
	}
	if !isTrue(p.osn, osnodev1.ConditionNodeRegistered) {
		p.tell(eventNodeJoined, "RegisterNode", "The virtual machine has joined the cluster as the node %s", current.Name)
	}
	p.set(osnodev1.ConditionNodeRegistered, metav1.ConditionTrue, osnodev1.ReasonRegistered, "The node has its certificate")
	pool, err := r.pool(ctx, p)
	if err != nil {
		return stop, err
	}
	ready, since := readiness(current)
	before := current.DeepCopy()
	changed := node.Repair(current, p.osn, pool)
	joined := ready && isTrue(p.osn, osnodev1.ConditionServerReady)
	if joined {
		changed = node.Joined(current) || changed
	}
	if changed {
		patch := client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})
		if err := r.Client.Patch(ctx, current, patch); err != nil {
			return stop, err
		}
		logging.From(ctx).DebugContext(ctx, "node repaired", "node", current.Name, "joined", joined)
	}
	if joined {
		return goOn, r.joined(ctx, p, since)
	}
	return goOn, r.waiting(ctx, p, ready, since)
}

// unregistered is a machine without a Node: it is on its way, or somebody has deleted
// the Node. Its kubelet may not make another one, so that is done here.
func (r *Reconciler) unregistered(ctx context.Context, p *pass) (flow, error) {
	active := isTrue(p.osn, osnodev1.ConditionServerReady)
	if !isTrue(p.osn, osnodev1.ConditionNodeRegistered) || !active {
		if !isTrue(p.osn, osnodev1.ConditionNodeRegistered) {
			p.set(osnodev1.ConditionNodeRegistered, metav1.ConditionFalse, osnodev1.ReasonNotRegistered,
				"The virtual machine has not asked for its certificate")
		}
		return goOn, r.waiting(ctx, p, false, time.Time{})
	}
	pool, err := r.pool(ctx, p)
	if err != nil {
		return stop, err
	}
	made, err := node.For(p.osn, pool)
	if err != nil {
		return stop, err
	}
	if err := r.Client.Create(ctx, made); err != nil && !apierrors.IsAlreadyExists(err) {
		return stop, fmt.Errorf("make node again: %w", err)
	}
	p.warn(eventNodeRecreated, "RegisterNode", "The node had been deleted, and was made again")
	return goOn, r.waiting(ctx, p, false, p.now)
}

// pool is the pool that made the object; nil if there is none, or no more.
func (r *Reconciler) pool(ctx context.Context, p *pass) (*osnodev1.OpenStackNodePool, error) {
	name := p.osn.Labels[osnodev1.LabelPool]
	if name == "" {
		return nil, nil
	}
	pool := &osnodev1.OpenStackNodePool{}
	err := r.Client.Get(ctx, types.NamespacedName{Namespace: p.osn.Namespace, Name: name}, pool)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("get pool: %w", err)
	}
	return pool, nil
}

// joined is a node that takes pods.
func (r *Reconciler) joined(ctx context.Context, p *pass, since time.Time) error {
	if err := r.revoke(ctx, p); err != nil {
		return err
	}
	if !isTrue(p.osn, osnodev1.ConditionNodeReady) {
		p.tell(osnodev1.ReasonNodeReady, "JoinNode", "The node %s takes pods", p.osn.Status.NodeID)
	}
	p.set(osnodev1.ConditionNodeReady, metav1.ConditionTrue, osnodev1.ReasonNodeReady, "The node is ready")
	if p.osn.Status.Created == nil {
		p.osn.Status.Created = new(metav1.NewTime(p.now))
		p.counts = append(p.counts, func() { r.firstReady(p, since) })
	}
	p.in(r.Timers.PollRunning)
	return nil
}

func (r *Reconciler) firstReady(p *pass, since time.Time) {
	own := r.remember(p.osn.UID, func(m *memory) {
		if m.started.After(since) { // time that counts already
			since = m.started
		}
		m.overhead += max(p.now.Sub(since), 0)
	})
	r.metrics.timeToReady.Observe(p.now.Sub(p.osn.CreationTimestamp.Time).Seconds())
	if own.complete {
		r.metrics.overhead.Observe(own.overhead.Seconds())
		r.metrics.queued.Observe(own.queued.Seconds())
	}
}

// waiting is a node that does not take pods, yet or for the moment.
func (r *Reconciler) waiting(ctx context.Context, p *pass, ready bool, since time.Time) error {
	revoked := isTrue(p.osn, osnodev1.ConditionBootstrapTokenRevoked)
	switch {
	case ready: // the node answers, and the machine's own state is the problem
		p.set(osnodev1.ConditionNodeReady, metav1.ConditionTrue, osnodev1.ReasonNodeReady, "The node is ready")
	case !revoked:
		return r.joining(ctx, p)
	default:
		r.silent(p, since)
	}
	return nil
}

// joining is a node that has never been ready. A machine that was stopped gets its time
// again when it is started.
func (r *Reconciler) joining(ctx context.Context, p *pass) error {
	server := find(p.osn, osnodev1.ConditionServerReady)
	if server == nil || server.Status != metav1.ConditionTrue {
		p.set(osnodev1.ConditionNodeReady, metav1.ConditionFalse, osnodev1.ReasonWaiting, "The virtual machine does not run yet")
		return r.extend(ctx, p)
	}
	if left := server.LastTransitionTime.Add(r.Timers.Join).Sub(p.now); left > 0 {
		p.set(osnodev1.ConditionNodeReady, metav1.ConditionFalse, osnodev1.ReasonWaiting, "Waiting for the node to join")
		p.in(left)
		return r.extend(ctx, p)
	}
	message := fmt.Sprintf("The node has not joined the cluster %s after its virtual machine started: see the machine's console log",
		r.Timers.Join)
	if !has(p.osn, osnodev1.ConditionNodeReady, osnodev1.ReasonTimeout) {
		p.warn(osnodev1.ReasonTimeout, "JoinNode", message)
	}
	p.set(osnodev1.ConditionNodeReady, metav1.ConditionFalse, osnodev1.ReasonTimeout, message)
	p.in(r.Timers.PollRunning)
	if p.osn.Spec.RepairPolicy == osnodev1.RepairRecreate {
		return r.replace(ctx, p, message)
	}
	return nil
}

// silent is a node that was ready once. It is given a while before people are told.
func (r *Reconciler) silent(p *pass, since time.Time) {
	if since.IsZero() {
		if known := find(p.osn, osnodev1.ConditionNodeReady); known != nil && known.Status == metav1.ConditionFalse {
			since = known.LastTransitionTime.Time
		} else {
			since = p.now
		}
	}
	if left := since.Add(r.Timers.NotReadyGrace).Sub(p.now); left > 0 {
		p.set(osnodev1.ConditionNodeReady, metav1.ConditionFalse, osnodev1.ReasonWaiting, "The node has stopped responding")
		p.in(left)
		return
	}
	if !has(p.osn, osnodev1.ConditionNodeReady, osnodev1.ReasonNodeNotReady) && isTrue(p.osn, osnodev1.ConditionServerReady) {
		p.warn(osnodev1.ReasonNodeNotReady, "ObserveNode", "The node is not responding")
	}
	p.set(osnodev1.ConditionNodeReady, metav1.ConditionFalse, osnodev1.ReasonNodeNotReady, "The node is not responding")
}
