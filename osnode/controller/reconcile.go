// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"errors"
	"strconv"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/cloudveneto/caas/internal/logging"
	osnodev1 "github.com/cloudveneto/caas/osnode/api/v1"
	"github.com/cloudveneto/caas/osnode/cloud"
)

// conflictDelay lets the cache catch up with a write that was not in it.
const conflictDelay = 100 * time.Millisecond

// pass is one reconcile: the object as it is becoming, and what is known of its world.
type pass struct {
	request reconcile.Request
	// osn is worked on; base is what the API server has.
	osn, base *osnodev1.OpenStackNode
	now       time.Time
	settings  cloud.Settings
	account   cloud.Account
	// asked tells that a machine was asked for, so that its id is written whatever else
	// has been written since.
	asked bool
	// troubled tells that OpenStack did not answer.
	troubled bool
	// inCloud is how long this pass has waited for OpenStack.
	inCloud time.Duration
	// listing is OpenStack's last word about the project's machines.
	listing cloud.Listing
	events  []news
	// counts are done when the status has been written, so that a pass that is repeated
	// does not count twice.
	counts []func()
	after  time.Duration
	gone   bool
}

// flow tells whether a pass goes on after a phase.
type flow bool

const (
	goOn flow = true
	stop flow = false
)

// phase is a step of a pass. Its error is one of the API server; OpenStack's are made
// into conditions by the phase itself.
type phase func(ctx context.Context, p *pass) (flow, error)

// in asks for another pass, at the latest after d.
func (p *pass) in(d time.Duration) {
	d = max(d, time.Millisecond)
	if p.after == 0 || d < p.after {
		p.after = d
	}
}

// Reconcile is one pass.
func (r *Reconciler) Reconcile(ctx context.Context, request reconcile.Request) (reconcile.Result, error) {
	osn := &osnodev1.OpenStackNode{}
	if err := r.Client.Get(ctx, request.NamespacedName, osn); err != nil {
		r.transient.Forget(request)
		return reconcile.Result{}, client.IgnoreNotFound(err)
	}
	if r.outdated(osn) {
		return reconcile.Result{RequeueAfter: conflictDelay}, nil
	}
	p := &pass{request: request, osn: osn, base: osn.DeepCopy(), now: r.Clock()}
	err := r.run(ctx, p)
	if !p.gone {
		err = errors.Join(err, r.writeStatus(ctx, p))
		r.remember(p.osn.UID, func(m *memory) { m.version = version(p.base) })
	}
	if apierrors.IsConflict(err) || (apierrors.IsNotFound(err) && !osn.DeletionTimestamp.IsZero()) {
		return reconcile.Result{RequeueAfter: conflictDelay}, nil
	}
	if err != nil {
		return reconcile.Result{}, err
	}
	r.publish(p)
	if !p.troubled {
		r.transient.Forget(request)
	}
	return reconcile.Result{RequeueAfter: p.after}, nil
}

// outdated tells that the cache has not caught up with what this process has written
// itself: a pass on it would be in vain.
func (r *Reconciler) outdated(osn *osnodev1.OpenStackNode) bool {
	return version(osn) < r.remember(osn.UID, nil).version
}

// version is an object's resource version, which grows with each write; 0 if it cannot be told.
func version(osn *osnodev1.OpenStackNode) uint64 {
	number, err := strconv.ParseUint(osn.ResourceVersion, 10, 64)
	if err != nil {
		return 0
	}
	return number
}

func (r *Reconciler) run(ctx context.Context, p *pass) error {
	phases := []phase{r.identify, r.retry, r.create, r.observe, r.register, r.expire}
	if !p.osn.DeletionTimestamp.IsZero() {
		phases = []phase{r.finish}
	}
	for _, phase := range phases {
		next, err := phase(ctx, p)
		if err != nil || next == stop {
			return err
		}
	}
	return nil
}

// writeStatus brings the status to the API server, if anything of it has changed. The
// write fails if anybody has written since the object was read, or a pass on an old
// copy could take back a node id or an intent. Only the id of a machine that was just
// asked for is written in any case.
func (r *Reconciler) writeStatus(ctx context.Context, p *pass) error {
	summarize(p.osn, p.now)
	if equality.Semantic.DeepEqual(p.osn.Status, p.base.Status) {
		return nil
	}
	before := p.base.Status.Phase
	p.osn.Status.Updated = new(metav1.NewTime(p.now))
	patch := client.MergeFromWithOptions(p.base, client.MergeFromWithOptimisticLock{})
	if p.asked {
		patch = client.MergeFrom(p.base)
	}
	spec := p.osn.Spec
	if err := r.Client.Status().Patch(ctx, p.osn, patch); err != nil {
		return err
	}
	p.base = p.osn.DeepCopy()
	p.osn.Spec = spec
	if now := p.osn.Status.Phase; now != before {
		logging.From(ctx).InfoContext(ctx, "phase changed", "from", before, "to", now, "node", p.osn.Status.NodeID)
	}
	return nil
}

// patch changes the object itself, not its status. The pass goes on with what the API
// server answers, and with the status as it was becoming.
func (r *Reconciler) patch(ctx context.Context, p *pass, change func(*osnodev1.OpenStackNode)) error {
	wanted := p.base.DeepCopy()
	change(wanted)
	if equality.Semantic.DeepEqual(wanted, p.base) {
		return nil
	}
	patch := client.MergeFromWithOptions(p.base, client.MergeFromWithOptimisticLock{})
	if err := r.Client.Patch(ctx, wanted, patch); err != nil {
		return err
	}
	status := p.osn.Status
	p.base = wanted.DeepCopy()
	p.osn = wanted
	p.osn.Status = status
	return nil
}

// timed adds what a call of OpenStack takes to the pass's account.
func (r *Reconciler) timed(p *pass, call func() error) error {
	began := r.Clock()
	err := call()
	p.inCloud += r.Clock().Sub(began)
	return err
}
