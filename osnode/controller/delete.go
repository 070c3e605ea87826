// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"github.com/cloudveneto/caas/internal/logging"
	osnodev1 "github.com/cloudveneto/caas/osnode/api/v1"
	"github.com/cloudveneto/caas/osnode/cloud"
)

const annotated = "true"

// finish takes an object apart that is being deleted, in the order that leaves nothing
// behind: first nothing new can join, then the pods go, the machine, its Node, and at
// last the finalizer.
func (r *Reconciler) finish(ctx context.Context, p *pass) (flow, error) {
	if !controllerutil.ContainsFinalizer(p.osn, osnodev1.Finalizer) {
		p.gone = true
		r.forget(p.osn.UID)
		return stop, nil
	}
	r.turns.drop(p.osn.UID)
	settings, err := r.Cloud.Settings(r.provider(p.osn))
	if err == nil {
		r.fill(&p.osn.Spec, settings)
	}
	p.account = account(p.osn)
	for _, phase := range []phase{r.disarm, r.drain, r.detach, r.deleteServer, r.release} {
		next, err := phase(ctx, p)
		if err != nil || next == stop {
			return stop, err
		}
	}
	return stop, nil
}

// disarm sees to it that a machine that is booting cannot join any more.
func (r *Reconciler) disarm(ctx context.Context, p *pass) (flow, error) {
	return goOn, r.revoke(ctx, p)
}

// deleteServer goes on when no machine of this object is left. One whose request may
// still be on its way is waited for.
func (r *Reconciler) deleteServer(ctx context.Context, p *pass) (flow, error) {
	if p.osn.Status.Server == nil && p.osn.Status.Intent == nil {
		return goOn, nil
	}
	next, err := r.removeServers(ctx, p)
	if err == nil {
		p.answered()
		if next == stop && r.abandons(p) && r.overdue(p) {
			return r.abandon(ctx, p, "the virtual machine does not go")
		}
		return next, nil
	}
	if r.abandons(p) {
		return r.abandon(ctx, p, err.Error())
	}
	if last := p.osn.Status.LastError; last == nil || last.Code != string(cloud.ClassOf(err)) {
		p.warn(eventDeletionIncomplete, "DeleteServer", "The virtual machine cannot be deleted yet: "+err.Error())
	}
	r.trouble(p, "", err)
	return stop, nil
}

// removeServers goes by the project's list, which all nodes share, and asks for this object's
// machines by name only where the list cannot know: before a creation has settled.
func (r *Reconciler) removeServers(ctx context.Context, p *pass) (flow, error) {
	listing, err := r.Cloud.List(ctx, p.account.Project(), r.Timers.AgeCreating)
	if err != nil {
		return stop, err
	}
	left := r.ours(p, listing.Servers)
	if deletionAsked(p) {
		since := find(p.osn, osnodev1.ConditionServerReady).LastTransitionTime.Time
		waiting := len(left) > 0 && p.now.Sub(since) < r.patience(left)
		if waiting || len(left) == 0 && listing.At.Before(since.Add(time.Second)) { // a condition's time has no fractions
			p.in(r.Timers.PollCreating)
			return stop, nil
		}
	}
	if len(left) == 0 {
		if left, err = r.unlisted(ctx, p, listing.At); err != nil {
			return stop, err
		}
	}
	if len(left) > 0 {
		return stop, r.deleteAll(ctx, p, left)
	}
	if wait := r.unsettled(p); wait > 0 && !deletionAsked(p) {
		p.in(min(wait, r.Timers.PollCreating))
		return stop, nil
	}
	return r.sweep(ctx, p)
}

// unsettled is for how long still a machine may appear that was asked for.
func (r *Reconciler) unsettled(p *pass) time.Duration {
	if p.osn.Status.Intent == nil {
		return 0
	}
	return max(r.settled(p).Sub(p.now), 0)
}

// patience is how long a deletion may have no effect. Nova makes an error of one that it could
// not end, and does not try again by itself.
func (r *Reconciler) patience(left []cloud.Server) time.Duration {
	if slices.ContainsFunc(left, func(s cloud.Server) bool { return s.Status == cloud.StatusError && s.TaskState == "" }) {
		return r.Timers.DeleteAgain / 4
	}
	return r.Timers.DeleteAgain
}

func deletionAsked(p *pass) bool {
	return has(p.osn, osnodev1.ConditionServerReady, osnodev1.ReasonDeleting)
}

// unlisted asks OpenStack now for machines of this object that a list of that time may not
// have: such as were asked for shortly before it, or after it, and the recorded one.
func (r *Reconciler) unlisted(ctx context.Context, p *pass, listed time.Time) ([]cloud.Server, error) {
	var servers []cloud.Server
	if intent := p.osn.Status.Intent; intent != nil && listed.Before(r.settled(p)) {
		found, err := r.Cloud.Find(ctx, p.account.Project(), p.osn.Name, string(p.osn.UID))
		if err != nil {
			return nil, err
		}
		servers = r.ours(p, found)
	}
	recorded := p.osn.Status.Server
	if recorded == nil || slices.ContainsFunc(servers, func(s cloud.Server) bool { return s.ID == recorded.ID }) {
		return servers, nil
	}
	server, err := r.Cloud.Server(ctx, p.account.Project(), recorded.ID)
	if cloud.Is(err, cloud.NotFound) {
		return servers, nil
	}
	if err != nil {
		return nil, err
	}
	if server.Metadata == nil { // its cell is down: Nova cannot say more than that it is there
		return append(servers, server), nil
	}
	return append(servers, r.ours(p, []cloud.Server{server})...), nil
}

// deleteAll asks for the end of the machines that are not ending already, or of all when
// that has been for too long. That one is refused keeps nobody from asking for the others'.
func (r *Reconciler) deleteAll(ctx context.Context, p *pass, servers []cloud.Server) error {
	p.in(r.Timers.PollCreating)
	again := deletionAsked(p) && p.now.Sub(find(p.osn, osnodev1.ConditionServerReady).LastTransitionTime.Time) >= r.patience(servers)
	var asked []string
	var refused error
	for _, server := range servers {
		if server.TaskState == taskDeleting && !again {
			continue
		}
		err := r.Cloud.Delete(ctx, p.account.Project(), server.ID)
		switch {
		case err == nil:
			asked = append(asked, server.ID)
		case refused == nil:
			refused = err
		}
	}
	if refused != nil {
		return refused
	}
	switch {
	case again:
		p.reset(osnodev1.ConditionServerReady, metav1.ConditionFalse, osnodev1.ReasonDeleting, "The virtual machine is still being deleted")
	case !deletionAsked(p):
		p.reset(osnodev1.ConditionServerReady, metav1.ConditionFalse, osnodev1.ReasonDeleting, "The virtual machine is being deleted")
		if len(asked) > 0 {
			p.tell(eventServerDeleting, "DeleteServer", "Deleting the virtual machine %s", strings.Join(asked, ", "))
			logging.From(ctx).InfoContext(ctx, "servers deleted", "servers", asked)
			p.in(conflictDelay * 10)
		}
	}
	return nil
}

// sweep removes what the machine left. What it does is done before the object goes.
func (r *Reconciler) sweep(ctx context.Context, p *pass) (flow, error) {
	removed, err := r.Cloud.Sweep(ctx, p.account.Project(), string(p.osn.UID))
	if err != nil {
		return stop, err
	}
	if len(removed) > 0 {
		p.tell(eventLeftoversRemoved, "DeleteServer", "Removed what the virtual machine left: %s", strings.Join(removed, ", "))
	}
	if p.osn.Status.Server != nil {
		p.tell(eventServerDeleted, "DeleteServer", "The virtual machine %s is gone", p.osn.Status.Server.ID)
		r.metrics.servers.WithLabelValues("deleted").Inc()
	}
	return goOn, nil
}

// release deletes the Node, the certificate requests, and lets the object go.
func (r *Reconciler) release(ctx context.Context, p *pass) (flow, error) {
	if err := r.deleteNode(ctx, p); err != nil {
		return stop, err
	}
	if err := r.deleteRequests(ctx, p); err != nil {
		return stop, err
	}
	// What the cache has of the object from now on is old: news of the deleted Node must not
	// have all of this done once more. The object's departure makes it be forgotten.
	r.remember(p.osn.UID, func(m *memory) { m.version = math.MaxUint64 })
	err := r.patch(ctx, p, func(osn *osnodev1.OpenStackNode) {
		controllerutil.RemoveFinalizer(osn, osnodev1.Finalizer)
	})
	switch {
	case apierrors.IsNotFound(err):
		r.forget(p.osn.UID)
	case err != nil || len(p.osn.Finalizers) > 0:
		r.remember(p.osn.UID, func(m *memory) { m.version = version(p.base) }) // it stays for now
	}
	if client.IgnoreNotFound(err) != nil {
		return stop, err
	}
	p.gone = true
	logging.From(ctx).InfoContext(ctx, "node deleted", "node", p.osn.Status.NodeID)
	return stop, nil
}

// deleteRequests deletes what the machine asked certificates with, so that a token of
// the same name is not taken for one that was used.
func (r *Reconciler) deleteRequests(ctx context.Context, p *pass) error {
	if p.osn.Status.NodeID == "" {
		return nil
	}
	requests := &certificatesv1.CertificateSigningRequestList{}
	if err := r.Client.List(ctx, requests); err != nil {
		return fmt.Errorf("list certificate requests: %w", err)
	}
	users := []string{
		"system:node:" + p.osn.Status.NodeID,
		"system:bootstrap:" + strings.TrimPrefix(p.osn.Labels[osnodev1.LabelSecret], tokenPrefix),
	}
	for i := range requests.Items {
		if slices.Contains(users, requests.Items[i].Spec.Username) {
			if err := deleteExactly(ctx, r.Client, &requests.Items[i]); err != nil {
				return err
			}
		}
	}
	return nil
}

// deleteExactly deletes this object, and no other that may have got its name since. It
// is no error that it is gone.
func deleteExactly(ctx context.Context, c client.Client, object client.Object) error {
	uid := object.GetUID()
	err := c.Delete(ctx, object, client.Preconditions{UID: &uid})
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("delete %s: %w", object.GetName(), err)
	}
	return nil
}
