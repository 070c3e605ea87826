// SPDX-License-Identifier: Apache-2.0

package pool

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	osnodev1 "github.com/cloudveneto/caas/osnode/api/v1"
)

const (
	// heldRetry is when a pool is looked at again that somebody else changes just now.
	heldRetry = 200 * time.Millisecond
	// recheck is how often a pool is looked at although nothing happened.
	recheck = 5 * time.Minute
)

// pass is one look at a pool.
type pass struct {
	*Pools
	pool    *osnodev1.OpenStackNodePool
	members []*member
	// status is what will be written at the end; the pool's own is overwritten by each patch.
	status *osnodev1.OpenStackNodePoolStatus
	now    time.Time
	// next is when to look again.
	next time.Duration
	// changed says that members is no longer true.
	changed bool
	// trouble is why the pool cannot have the nodes that it wants.
	trouble error
}

// Reconcile brings a pool to its size, replaces its old nodes, and lets idle ones go.
func (p *Pools) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	release, held := p.memory.hold(request.NamespacedName)
	if !held {
		return ctrl.Result{RequeueAfter: heldRetry}, nil
	}
	defer release()
	pool := &osnodev1.OpenStackNodePool{}
	if err := p.Client.Get(ctx, request.NamespacedName, pool); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if !pool.DeletionTimestamp.IsZero() {
		return ctrl.Result{}, nil // its nodes go with it
	}
	s := &pass{Pools: p, pool: pool, status: pool.Status.DeepCopy(), now: p.Clock(), next: recheck}
	err := s.run(ctx)
	if err == nil {
		err = s.finish(ctx)
	}
	if apierrors.IsConflict(err) {
		return ctrl.Result{RequeueAfter: heldRetry}, nil
	}
	if err != nil {
		return ctrl.Result{}, err
	}
	return ctrl.Result{RequeueAfter: s.next}, nil
}

func (s *pass) soon(d time.Duration) { s.next = min(s.next, max(d, time.Millisecond)) }

func (s *pass) run(ctx context.Context) error {
	if _, err := s.account(ctx, s.pool); err != nil {
		s.trouble = err
	}
	var err error
	if s.members, err = s.Pools.members(ctx, s.pool); err != nil {
		return err
	}
	if s.trouble == nil && autoscaled(s.pool) {
		if err := s.setReplicas(ctx, s.pool, desired(s.pool)); err != nil {
			return err
		}
	}
	for _, step := range []func(context.Context) error{s.follow, s.backOff, s.idle, s.replace, s.converge} {
		if err := step(ctx); err != nil {
			return err
		}
		if s.changed {
			s.soon(heldRetry) // the cache will have it by then, and an event may come before
			return nil
		}
	}
	return nil
}

// follow changes on the nodes what can be changed on them.
func (s *pass) follow(ctx context.Context) error {
	template := &s.pool.Spec.Template
	for _, m := range s.members {
		if m.osn.Spec.Policy == template.Policy && sameDuration(m.osn.Spec.DrainTimeout, template.DrainTimeout) {
			continue
		}
		before := m.osn.DeepCopy()
		m.osn.Spec.Policy, m.osn.Spec.DrainTimeout = template.Policy, template.DrainTimeout
		if err := s.Client.Patch(ctx, m.osn, client.MergeFrom(before)); client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("change node %q of pool %q: %w", m.osn.Name, s.pool.Name, err)
		}
	}
	return nil
}

func sameDuration(a, b *metav1.Duration) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Duration == b.Duration
}

// converge makes what is missing, or removes what is too much.
func (s *pass) converge(ctx context.Context) error {
	want := desired(s.pool) + s.surge()
	if len(s.members) == want || (s.trouble != nil && len(s.members) < want) {
		return nil
	}
	own, taken, err := s.fresh(ctx, s.pool)
	if err != nil {
		return err
	}
	s.changed = len(own) != len(s.members)
	switch {
	case s.changed: // the cache is behind: an event will come
		return nil
	case len(own) < want:
		s.changed = true
		flavor, _ := usableFlavor(s.pool, s.status.Backoff, metav1.NewTime(s.now))
		_, err := s.create(ctx, s.pool, taken, slices.Repeat([]string{flavor}, want-len(own)))
		if apierrors.IsForbidden(err) || apierrors.IsInvalid(err) {
			s.trouble, s.changed = err, false
			s.soon(time.Minute)
			return nil
		}
		return err
	default:
		return s.cut(ctx, len(own)-want)
	}
}

// cut removes some nodes because fewer are wanted: first those that nobody would miss.
func (s *pass) cut(ctx context.Context, count int) error {
	victims := slices.DeleteFunc(slices.Clone(s.members), (*member).protected)
	slices.SortStableFunc(victims, func(a, b *member) int {
		if c := s.worth(a) - s.worth(b); c != 0 {
			return c
		}
		return compareAge(b.osn, a.osn) // the newest first
	})
	for _, victim := range victims[:min(count, len(victims))] {
		s.changed = true
		if err := s.remove(ctx, s.pool, victim.osn, fmt.Sprintf("the pool has to have %d nodes", desired(s.pool))); err != nil {
			return err
		}
	}
	return nil
}

// worth orders nodes by what would be lost with them.
func (s *pass) worth(m *member) int {
	const notReady, ready, occupied = 3, 4, 10
	reason, _ := m.blocked()
	switch {
	case m.pods > 0:
		return occupied + m.pods
	case m.osn.Status.Phase == osnodev1.PhaseFailed || reason != "":
		return 0
	case m.outdated:
		return 1
	case m.ready() && driver(s.pool) == osnodev1.DriverBuiltin:
		return notReady - 1 // what comes, comes for pods that wait
	case m.ready():
		return ready
	default:
		return notReady
	}
}

// finish computes the status and writes it if it is another.
func (s *pass) finish(ctx context.Context) error {
	s.describe()
	before := s.pool.DeepCopy()
	s.status.DeepCopyInto(&s.pool.Status)
	if equality.Semantic.DeepEqual(&before.Status, &s.pool.Status) {
		return nil
	}
	return s.writeStatus(ctx, s.pool, before)
}

// ownerTrouble is the message for a pool without an owner; empty for any other trouble.
func (s *pass) ownerTrouble() string {
	if owner, ok := errors.AsType[*unknownOwnerError](s.trouble); ok {
		return owner.message
	}
	return ""
}

func (s *pass) event(kind, reason, action, note string, args ...any) {
	s.Recorder.Eventf(s.pool, nil, kind, reason, action, note, args...)
}

func (s *pass) warn(reason, action, note string, args ...any) {
	s.event(corev1.EventTypeWarning, reason, action, note, args...)
}
