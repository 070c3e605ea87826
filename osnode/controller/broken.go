// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cloudveneto/caas/internal/logging"
	osnodev1 "github.com/cloudveneto/caas/osnode/api/v1"
	"github.com/cloudveneto/caas/osnode/cloud"
)

// maxAttempts is how many machines in a row may end in error before people have to look.
const maxAttempts = 5

// Fault is the class of what Nova says about a machine that it could not make, and its
// own words.
func Fault(fault *cloud.Fault) (class cloud.Class, message string) {
	if fault == nil || fault.Message == "" {
		return cloud.ServerError, "OpenStack could not make the virtual machine, and does not say why"
	}
	return fault.Class(), fault.Message
}

// condemned tells that the recorded machine is to go, for another one or for none.
func condemned(osn *osnodev1.OpenStackNode) bool {
	return osn.Status.Server != nil && has(osn, osnodev1.ConditionServerReady,
		osnodev1.ReasonNoValidHost, osnodev1.ReasonQuotaExceeded, osnodev1.ReasonWaiting)
}

// condemn gives up a machine that never ran, and has the reason for it as its condition:
// that is what the next pass, which has it deleted, knows it by. Without it a new process
// would find a machine that somebody has deleted.
func (r *Reconciler) condemn(ctx context.Context, p *pass, id string, class cloud.Class, message string) (flow, error) {
	p.refused(class, message)
	reason, count := string(class), p.osn.Status.LastError.Count
	if class == cloud.ServerError {
		reason = osnodev1.ReasonWaiting
	}
	if class == cloud.QuotaExceeded {
		p.set(osnodev1.ConditionQuotaAvailable, metav1.ConditionFalse, reason, message)
	}
	if class == cloud.NoValidHost && count == maxAttempts {
		p.warn(eventTryAnother, "CreateServer", fmt.Sprintf(
			"OpenStack had no host for the flavor %s %d times: try another flavor or availability zone", p.osn.Spec.Flavor, count))
	}
	p.reset(osnodev1.ConditionServerReady, metav1.ConditionFalse, reason, message)
	logging.From(ctx).InfoContext(ctx, "server given up", "server", id, "class", class, "attempt", count)
	p.in(conflictDelay)
	return stop, nil
}

// clear has a condemned machine deleted, waits until it is gone, and asks again if it stays.
// With one that is replaced go all that were made beside it: they would fill the project.
func (r *Reconciler) clear(ctx context.Context, p *pass, servers []cloud.Server, server cloud.Server) (flow, error) {
	if isTrue(p.osn, osnodev1.ConditionBootstrapTokenRevoked) {
		if err := r.reap(ctx, p, servers, server); err != nil {
			r.trouble(p, "", err)
		}
	}
	if !server.Status.Gone() {
		p.see(server)
		since := find(p.osn, osnodev1.ConditionServerReady)
		first := r.remember(p.osn.UID, nil).deleting != server.ID
		if server.TaskState != taskDeleting && (first || p.now.Sub(since.LastTransitionTime.Time) > r.Timers.DeleteAgain) {
			if err := r.Cloud.Delete(ctx, p.account.Project(), server.ID); err != nil {
				r.trouble(p, "", err)
				return stop, nil
			}
			r.remember(p.osn.UID, func(m *memory) { m.deleting = server.ID })
			p.reset(since.Type, since.Status, since.Reason, since.Message)
		}
		p.in(r.Timers.PollCreating)
		return stop, nil
	}
	r.metrics.servers.WithLabelValues("deleted").Inc()
	// A machine that ran, or whose token was revoked, is replaced by a node of its own: late lists that still have it
	// must not make it be taken for the new one.
	if p.osn.Status.ProviderID != "" || isTrue(p.osn, osnodev1.ConditionBootstrapTokenRevoked) {
		r.renew(p)
	}
	p.osn.Status.Server, p.osn.Status.Addresses = nil, nil
	if last := p.osn.Status.LastError; last != nil && last.Code == string(cloud.ServerError) && last.Count >= maxAttempts {
		p.set(osnodev1.ConditionServerReady, metav1.ConditionFalse, osnodev1.ReasonServerError, last.Message)
		return stop, nil
	}
	p.in(conflictDelay)
	return stop, nil
}

// broken is a machine that has run and is in error. It may have what its owner needs, so
// it stays; a host that comes back brings it back.
func (r *Reconciler) broken(ctx context.Context, p *pass, server cloud.Server) (flow, error) {
	_, message := Fault(server.Fault)
	if !has(p.osn, osnodev1.ConditionServerReady, osnodev1.ReasonServerError) {
		p.refused(cloud.ServerError, message)
	}
	p.set(osnodev1.ConditionServerReady, metav1.ConditionFalse, osnodev1.ReasonServerError, message)
	if p.osn.Spec.RepairPolicy == osnodev1.RepairRecreate {
		return stop, r.replace(ctx, p, message)
	}
	return goOn, nil
}

// vanished is a machine that OpenStack does not know any more. As long as its node
// answers, that is not believed.
func (r *Reconciler) vanished(ctx context.Context, p *pass) (flow, error) {
	current, err := r.lookUp(ctx, p)
	if err != nil {
		return stop, err
	}
	if ready, _ := readiness(current); ready {
		p.set(osnodev1.ConditionServerReady, metav1.ConditionUnknown, osnodev1.ReasonServerUnknown,
			"OpenStack does not know the virtual machine, but the node is ready")
		p.in(r.Timers.PollSlow)
		return goOn, nil
	}
	const message = "The virtual machine is gone: it was deleted in OpenStack"
	if !has(p.osn, osnodev1.ConditionServerReady, osnodev1.ReasonServerGone) {
		p.warn(osnodev1.ReasonServerGone, "ObserveServer", message)
	}
	p.osn.Status.Server.Status = string(cloud.StatusDeleted)
	p.set(osnodev1.ConditionServerReady, metav1.ConditionFalse, osnodev1.ReasonServerGone, message)
	if err := r.removeNode(ctx, p); err != nil {
		return stop, err
	}
	if p.osn.Spec.RepairPolicy == osnodev1.RepairRecreate {
		return stop, r.replace(ctx, p, message)
	}
	p.in(r.Timers.PollRunning)
	return stop, nil
}

// replace condemns the machine, to have another one made with a node id of its own: the
// certificates of the old one must not be good for the new one.
func (r *Reconciler) replace(ctx context.Context, p *pass, why string) error {
	if err := r.removeNode(ctx, p); err != nil {
		return err
	}
	p.tell(eventServerRecreating, "RecreateServer", "Making another virtual machine: %s", why)
	p.osn.Status.LastError = nil
	p.reset(osnodev1.ConditionServerReady, metav1.ConditionFalse, osnodev1.ReasonWaiting, "Waiting for the old virtual machine to be gone")
	p.in(conflictDelay)
	return nil
}

// renew makes the status that of a node that has not been made yet.
func (r *Reconciler) renew(p *pass) {
	p.osn.Status.NodeID = r.newNodeID(p)
	p.osn.Status.ProviderID, p.osn.Status.Intent = "", nil
	p.drop(osnodev1.ConditionServerReady, osnodev1.ConditionBootstrapTokenRevoked,
		osnodev1.ConditionNodeRegistered, osnodev1.ConditionNodeReady)
}

// removeNode takes away all by which a machine could be, or become, a node.
func (r *Reconciler) removeNode(ctx context.Context, p *pass) error {
	if err := r.revoke(ctx, p); err != nil {
		return err
	}
	if err := r.deleteNode(ctx, p); err != nil {
		return err
	}
	if find(p.osn, osnodev1.ConditionNodeReady) != nil {
		p.set(osnodev1.ConditionNodeReady, metav1.ConditionFalse, osnodev1.ReasonNodeNotReady, "The node has no virtual machine")
	}
	return r.deleteRequests(ctx, p)
}

// retry does what a person asks for by an annotation: a node that has failed begins
// again. The annotation goes when that has been written.
func (r *Reconciler) retry(ctx context.Context, p *pass) (flow, error) {
	if p.osn.Annotations[osnodev1.AnnotationRetry] == "" {
		return goOn, nil
	}
	switch phase := summarize(p.osn, p.now); {
	case phase != osnodev1.PhaseFailed && phase != osnodev1.PhasePending:
	case p.osn.Status.Server != nil && !condemned(p.osn):
		if err := r.replace(ctx, p, "somebody asked for it"); err != nil || p.troubled {
			return stop, err
		}
	default:
		p.osn.Status.LastError = nil
		if has(p.osn, osnodev1.ConditionServerReady, osnodev1.ReasonServerError) {
			p.drop(osnodev1.ConditionServerReady)
		}
	}
	if err := r.writeStatus(ctx, p); err != nil {
		return stop, err
	}
	err := r.patch(ctx, p, func(osn *osnodev1.OpenStackNode) { delete(osn.Annotations, osnodev1.AnnotationRetry) })
	r.fill(&p.osn.Spec, p.settings)
	return goOn, err
}

// deleteNode deletes the Node if it is this object's.
func (r *Reconciler) deleteNode(ctx context.Context, p *pass) error {
	current, err := r.lookUp(ctx, p)
	if err != nil || current == nil || !mine(current, p.osn) {
		return err
	}
	return deleteExactly(ctx, r.Client, current)
}

// mine tells that a Node is the object's: by its label, or, if a kubelet made it without,
// by its name, which has the time of the object's making in it.
func mine(current *corev1.Node, osn *osnodev1.OpenStackNode) bool {
	owner := current.Labels[osnodev1.NodeLabelOSNode]
	return owner == string(osn.UID) || (owner == "" && current.Name == osn.Status.NodeID)
}
