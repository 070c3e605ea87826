// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/cloudveneto/caas/internal/logging"
	osnodev1 "github.com/cloudveneto/caas/osnode/api/v1"
	"github.com/cloudveneto/caas/osnode/cloud"
	"github.com/cloudveneto/caas/osnode/node"
)

// observe takes what OpenStack says about the machine into the status. When OpenStack
// says nothing, nothing changes, and the Node is still looked after.
func (r *Reconciler) observe(ctx context.Context, p *pass) (flow, error) {
	age := r.Timers.AgeCreating
	if isTrue(p.osn, osnodev1.ConditionServerReady) {
		age = r.Timers.AgeRunning
	}
	listing, err := r.Cloud.List(ctx, p.account.Project(), age)
	if err != nil {
		r.trouble(p, "", err)
		return goOn, nil
	}
	p.answered()
	p.listing = listing
	if isTrue(p.osn, osnodev1.ConditionBootstrapTokenRevoked) {
		p.in(r.Timers.PollRunning)
	} else {
		p.in(r.pollCreating(p))
	}
	server, there := r.pick(p, listing.Servers)
	if !there {
		if server, err = r.confirm(ctx, p, listing.At); err != nil {
			r.trouble(p, "", err)
			return goOn, nil
		}
		if server == nil {
			return goOn, nil
		}
	}
	if condemned(p.osn) {
		return r.clear(ctx, p, listing.Servers, *server)
	}
	if server.Status.Gone() {
		return r.vanished(ctx, p)
	}
	return r.examine(ctx, p, listing.Servers, server)
}

// examine looks at the machine that there is, and at others that should not be there.
func (r *Reconciler) examine(ctx context.Context, p *pass, servers []cloud.Server, server *cloud.Server) (flow, error) {
	p.see(*server)
	double := slices.ContainsFunc(r.ofThis(p, servers), func(s cloud.Server) bool { return s.ID != server.ID })
	if double && !isTrue(p.osn, osnodev1.ConditionBootstrapTokenRevoked) {
		// Both have the one token, and which of the two has used it nobody can tell. This is
		// written before either is deleted, or a new process would not know that there were two.
		return stop, r.replace(ctx, p, "two were made for the same node before it had joined")
	}
	if err := r.reap(ctx, p, servers, *server); err != nil {
		r.trouble(p, "", err)
	}
	server, err := r.explained(ctx, p, server)
	if err != nil {
		r.trouble(p, "", err)
		return goOn, nil
	}
	return r.judge(ctx, p, *server)
}

// explained asks for a machine in error by itself to learn why: lists do not always say.
func (r *Reconciler) explained(ctx context.Context, p *pass, listed *cloud.Server) (*cloud.Server, error) {
	if listed.Status != cloud.StatusError || listed.Fault != nil {
		return listed, nil
	}
	fresh, err := r.Cloud.Server(ctx, p.account.Project(), listed.ID)
	if cloud.Is(err, cloud.NotFound) {
		return listed, nil // it is going, and the next list says so
	}
	if err != nil {
		return nil, err
	}
	return &fresh, nil
}

func (r *Reconciler) pollCreating(p *pass) time.Duration {
	if intent := p.osn.Status.Intent; intent != nil && p.now.Sub(intent.At.Time) > r.Timers.SlowAfter {
		return r.Timers.PollSlow
	}
	return r.Timers.PollCreating
}

// pick finds the recorded machine, or another one that was made for the same node.
func (r *Reconciler) pick(p *pass, servers []cloud.Server) (*cloud.Server, bool) {
	recorded := p.osn.Status.Server.ID
	if i := slices.IndexFunc(servers, func(s cloud.Server) bool { return s.ID == recorded }); i >= 0 && !servers[i].Status.Gone() {
		return &servers[i], true
	}
	if condemned(p.osn) {
		return nil, false
	}
	if best, found := keeper(r.ofThis(p, servers), recorded); found {
		return &best, true
	}
	return nil, false
}

// confirm asks for a machine that a list did not have. Nil is "cannot be told yet"; a
// machine that is gone for certain has the status that says so.
func (r *Reconciler) confirm(ctx context.Context, p *pass, listed time.Time) (*cloud.Server, error) {
	if intent := p.osn.Status.Intent; intent != nil {
		if settled := r.settled(p); listed.Before(settled) || p.now.Before(settled) {
			return nil, nil
		}
	}
	server, err := r.Cloud.Server(ctx, p.account.Project(), p.osn.Status.Server.ID)
	if cloud.Is(err, cloud.NotFound) {
		return &cloud.Server{ID: p.osn.Status.Server.ID, Status: cloud.StatusDeleted}, nil
	}
	if err != nil {
		return nil, err
	}
	return &server, nil
}

// see records a machine as Nova describes it. What a reply leaves out stays.
func (p *pass) see(server cloud.Server) {
	status := p.osn.Status.Server
	if status == nil || status.ID != server.ID {
		status = &osnodev1.ServerStatus{ID: server.ID, Name: p.osn.Name, Status: string(cloud.StatusBuild), Created: new(metav1.NewTime(p.now))}
		p.osn.Status.Server = status
	}
	if server.Name != "" {
		status.Name = server.Name
	}
	if server.Status != "" {
		status.Status = string(server.Status)
	}
	if !server.Created.IsZero() {
		status.Created = new(metav1.NewTime(server.Created.Truncate(time.Second)))
	}
	if !server.Updated.IsZero() {
		status.Updated = new(metav1.NewTime(server.Updated.Truncate(time.Second)))
	}
	var addresses []corev1.NodeAddress
	for _, address := range server.Addresses {
		kind := corev1.NodeInternalIP
		if address.Floating {
			kind = corev1.NodeExternalIP
		} else if address.IP.Is4() && !slices.ContainsFunc(addresses, isIPv4) {
			status.IPv4 = address.IP.String()
		}
		addresses = append(addresses, corev1.NodeAddress{Type: kind, Address: address.IP.String()})
	}
	if len(addresses) > 0 {
		p.osn.Status.Addresses = addresses
	}
}

func isIPv4(address corev1.NodeAddress) bool {
	return address.Type == corev1.NodeInternalIP && !strings.Contains(address.Address, ":")
}

// judge makes the machine's status into the condition.
func (r *Reconciler) judge(ctx context.Context, p *pass, server cloud.Server) (flow, error) {
	switch status := server.Status; {
	case status.Building():
		return r.building(ctx, p, server)
	case status == cloud.StatusError && p.osn.Status.ProviderID == "":
		class, message := Fault(server.Fault)
		return r.condemn(ctx, p, server.ID, class, message)
	case status == cloud.StatusError:
		return r.broken(ctx, p, server)
	case status.Stopped():
		p.started(r, server)
		p.set(osnodev1.ConditionServerReady, metav1.ConditionFalse, osnodev1.ReasonServerStopped,
			fmt.Sprintf("The virtual machine is stopped: its status is %s", status))
	case status.Running():
		p.started(r, server)
		p.set(osnodev1.ConditionServerReady, metav1.ConditionTrue, osnodev1.ReasonServerActive,
			fmt.Sprintf("The virtual machine's status is %s", status))
	default:
		p.set(osnodev1.ConditionServerReady, metav1.ConditionUnknown, osnodev1.ReasonServerUnknown,
			fmt.Sprintf("The virtual machine's status is %s", status))
	}
	return goOn, nil
}

// started is the first sight of a machine that runs: it has its addresses, and will not
// be replaced any more without being asked for.
func (p *pass) started(r *Reconciler, server cloud.Server) {
	p.osn.Status.LastError = nil
	id := node.ProviderID(p.account.Region, server.ID)
	if p.osn.Status.ProviderID == id {
		return
	}
	p.osn.Status.ProviderID = id
	if at := server.Updated; at.After(server.Created) {
		// Not counted is the time in which OpenStack was being asked, and has not answered.
		unasked := min(max(p.listing.At.Sub(at), 0), p.listing.Idle)
		unread := max(p.now.Sub(p.listing.At.Add(p.listing.Took)), 0)
		r.remember(p.osn.UID, func(m *memory) { m.overhead, m.started = m.overhead+unasked+unread, p.now })
	}
}

func (r *Reconciler) building(ctx context.Context, p *pass, server cloud.Server) (flow, error) {
	began := server.Created
	if intent := p.osn.Status.Intent; intent != nil && intent.At.After(began) {
		began = intent.At.Time
	}
	if p.osn.Status.ProviderID == "" && p.now.Sub(began) > r.Timers.Create {
		return r.condemn(ctx, p, server.ID, cloud.ServerError,
			fmt.Sprintf("The virtual machine was not ready after %s", r.Timers.Create))
	}
	p.set(osnodev1.ConditionServerReady, metav1.ConditionFalse, osnodev1.ReasonServerBuilding, "OpenStack is making the virtual machine")
	return goOn, r.extend(ctx, p)
}

// reap deletes one machine that a lost answer has left behind.
func (r *Reconciler) reap(ctx context.Context, p *pass, servers []cloud.Server, kept cloud.Server) error {
	for _, server := range r.ours(p, servers) {
		if server.ID == kept.ID || server.TaskState == taskDeleting {
			continue
		}
		if err := r.Cloud.Delete(ctx, p.account.Project(), server.ID); err != nil {
			return err
		}
		r.metrics.servers.WithLabelValues("reaped").Inc()
		logging.From(ctx).WarnContext(ctx, "duplicate server deleted", "server", server.ID, "kept", kept.ID)
		p.warn(eventDuplicateServer, "DeleteServer", fmt.Sprintf(
			"Deleted the virtual machine %s: %s was made for the same node", server.ID, kept.ID))
		p.in(r.Timers.PollCreating)
		return nil
	}
	return nil
}

// lookUp reads the Node from the cache, if there is one.
func (r *Reconciler) lookUp(ctx context.Context, p *pass) (*corev1.Node, error) {
	current := &corev1.Node{}
	if p.osn.Status.NodeID == "" {
		return nil, nil
	}
	err := r.Client.Get(ctx, types.NamespacedName{Name: p.osn.Status.NodeID}, current)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("get node: %w", err)
	}
	return current, nil
}

// readiness is a Node's own word, and since when.
func readiness(current *corev1.Node) (ready bool, since time.Time) {
	if current == nil {
		return false, time.Time{}
	}
	for _, condition := range current.Status.Conditions {
		if condition.Type == corev1.NodeReady {
			return condition.Status == corev1.ConditionTrue, condition.LastTransitionTime.Time
		}
	}
	return false, time.Time{}
}
