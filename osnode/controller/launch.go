// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"cmp"
	"context"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cloudveneto/caas/internal/logging"
	osnodev1 "github.com/cloudveneto/caas/osnode/api/v1"
	"github.com/cloudveneto/caas/osnode/cloud"
)

const (
	taskDeleting = "deleting"
	tagPrefix    = "osn-"
)

// settle looks for a machine that an earlier pass, maybe of a process that is no more,
// may have asked for. There is none for certain only when the request is so old that
// OpenStack's lists would have it.
func (r *Reconciler) settle(ctx context.Context, p *pass) (flow, error) {
	intent := p.osn.Status.Intent
	if intent == nil {
		return goOn, nil
	}
	if next := r.adopt(ctx, p); next == stop {
		return stop, nil
	}
	if left := r.settled(p).Sub(p.now); left > 0 {
		p.in(min(left, r.Timers.PollSlow))
		return stop, nil
	}
	return goOn, nil
}

// settled is when OpenStack's lists have the machine that was asked for, if there is one. A request whose end this process
// has not seen, since it was another's, may have been under way for as long as one can be.
func (r *Reconciler) settled(p *pass) time.Time {
	at, ended := p.osn.Status.Intent.At.Time, r.remember(p.osn.UID, nil).asked
	if ended.Before(at) {
		return at.Add(r.Timers.Request + r.Timers.Settle)
	}
	return ended.Add(r.Timers.Settle)
}

// launch asks for a machine: it writes that it will, makes sure that nobody has, and
// then asks once. Nothing after the request can fail but the writing of its result,
// which settle makes up for.
func (r *Reconciler) launch(ctx context.Context, p *pass) (flow, error) {
	data, err := r.userData(ctx, p)
	if err != nil {
		if cloud.ClassOf(err) == cloud.Unclassified {
			err = &cloud.Error{Class: cloud.InvalidSpec, Message: err.Error(), Err: err}
		}
		r.refuse(p, osnodev1.ConditionSpecResolved, err)
		return stop, nil
	}
	attempt, first := int32(1), p.osn.Status.Intent == nil
	if !first {
		attempt += p.osn.Status.Intent.Attempt
	}
	p.osn.Status.Intent = &osnodev1.Intent{At: metav1.NewMicroTime(r.Clock()), Attempt: attempt}
	p.reset(osnodev1.ConditionServerReady, metav1.ConditionFalse, osnodev1.ReasonServerBuilding, "The virtual machine has been asked for")
	p.tell(eventServerCreating, "CreateServer", "Asking OpenStack for a virtual machine of the flavor %s", p.osn.Spec.Flavor)
	if err := r.writeStatus(ctx, p); err != nil {
		return stop, err
	}
	defer func() { r.remember(p.osn.UID, func(m *memory) { m.asked = r.Clock() }) }()
	if first {
		if next := r.adopt(ctx, p); next == stop {
			return stop, nil
		}
	}
	r.remember(p.osn.UID, func(m *memory) { m.overhead += r.Clock().Sub(p.now) - p.inCloud })
	server, err := r.Cloud.Create(ctx, p.account, r.serverRequest(p, data))
	if err != nil {
		r.notCreated(p, err)
		return stop, nil
	}
	p.asked = true
	p.see(server)
	r.metrics.servers.WithLabelValues("created").Inc()
	p.tell(eventServerCreated, "CreateServer", "Created the virtual machine %s in the project %s", server.ID, p.account.ProjectName)
	logging.From(ctx).InfoContext(ctx, "server created", "server", server.ID, "attempt", attempt)
	p.in(r.Timers.PollCreating)
	return stop, nil
}

// notCreated keeps the intent if the machine may exist in spite of the refusal. From now on
// it has time to appear: the request may have been under way for longer than that.
func (r *Reconciler) notCreated(p *pass, err error) {
	if ConsequenceOf(cloud.ClassOf(err), r.Timers).Transient {
		p.osn.Status.Intent.At = metav1.NewMicroTime(r.Clock())
		r.trouble(p, osnodev1.ConditionServerReady, err)
		return
	}
	p.osn.Status.Intent = nil
	p.drop(osnodev1.ConditionServerReady)
	r.refuse(p, osnodev1.ConditionSpecResolved, err)
}

func (r *Reconciler) userData(ctx context.Context, p *pass) ([]byte, error) {
	token, err := r.bootstrapToken(ctx, p)
	if err != nil {
		return nil, &cloud.Error{Class: cloud.Unavailable, Message: "The bootstrap token cannot be read", Err: err}
	}
	return r.UserData(p.osn, token)
}

func (r *Reconciler) serverRequest(p *pass, data []byte) cloud.Request {
	resolved := p.osn.Status.Resolved
	return cloud.Request{
		Name:   p.osn.Name,
		Wanted: wanted(p.osn, p.settings),
		Resolved: cloud.Resolved{
			Flavor: cloud.Flavor{
				ID: resolved.FlavorID, Name: p.osn.Spec.Flavor, VCPUs: int(resolved.VCPUs),
				MemoryMiB: int(resolved.MemoryMiB), GPUs: int(resolved.GPUs), GPU: resolved.GPU,
			},
			ImageID: resolved.ImageID, NetworkIDs: resolved.NetworkIDs, SecurityGroupIDs: resolved.SecurityGroupIDs,
		},
		Metadata: map[string]string{
			osnodev1.MetaUID:       string(p.osn.UID),
			osnodev1.MetaCluster:   r.Cluster,
			osnodev1.MetaNamespace: p.osn.Namespace,
			osnodev1.MetaName:      p.osn.Name,
			osnodev1.MetaNodeID:    p.osn.Status.NodeID,
			osnodev1.MetaOwner:     p.account.UserID,
		},
		Tags:     []string{tagPrefix + r.Cluster},
		UserData: data,
	}
}

// adopt takes a machine that was made for this object and is not recorded. It stops the
// pass if there is one, or if that cannot be known.
func (r *Reconciler) adopt(ctx context.Context, p *pass) flow {
	var servers []cloud.Server
	err := r.timed(p, func() (err error) {
		servers, err = r.Cloud.Find(ctx, p.account.Project(), p.osn.Name, string(p.osn.UID))
		return err
	})
	if err != nil {
		r.trouble(p, osnodev1.ConditionServerReady, err)
		return stop
	}
	p.answered()
	best, found := keeper(r.ofThis(p, servers), "")
	if !found {
		return goOn
	}
	p.asked = true
	p.see(best)
	if !has(p.osn, osnodev1.ConditionServerReady, osnodev1.ReasonServerBuilding) {
		p.set(osnodev1.ConditionServerReady, metav1.ConditionFalse, osnodev1.ReasonServerBuilding, "The virtual machine has been found")
	}
	r.metrics.servers.WithLabelValues("adopted").Inc()
	p.tell(eventServerAdopted, "AdoptServer", "Found the virtual machine %s that was made for this node", best.ID)
	logging.From(ctx).InfoContext(ctx, "server adopted", "server", best.ID)
	p.in(conflictDelay)
	return stop
}

// ours are the servers that carry the cluster, the UID and the owner, and are in the
// project. Only they are ever touched. That they are the owner's indeed, or the
// platform's, is what the Cloud makes sure of.
func (r *Reconciler) ours(p *pass, servers []cloud.Server) []cloud.Server {
	return slices.DeleteFunc(slices.Clone(servers), func(s cloud.Server) bool {
		return s.Metadata[osnodev1.MetaCluster] != r.Cluster || s.Metadata[osnodev1.MetaUID] != string(p.osn.UID) ||
			s.Metadata[osnodev1.MetaOwner] != p.account.UserID || s.ProjectID != p.account.ProjectID || s.Status.Gone()
	})
}

// ofThis are those of ours that were made for the present node id, and are not on their
// way out.
func (r *Reconciler) ofThis(p *pass, servers []cloud.Server) []cloud.Server {
	return slices.DeleteFunc(r.ours(p, servers), func(s cloud.Server) bool {
		return s.Metadata[osnodev1.MetaNodeID] != p.osn.Status.NodeID || s.TaskState == taskDeleting
	})
}

// keeper is the one of several machines that stays: the recorded one, or the oldest of
// those that run, or of those that may yet.
func keeper(servers []cloud.Server, recorded string) (cloud.Server, bool) {
	if len(servers) == 0 {
		return cloud.Server{}, false
	}
	return slices.MinFunc(servers, func(a, b cloud.Server) int {
		return cmp.Or(
			cmp.Compare(rank(a, recorded), rank(b, recorded)), a.Created.Compare(b.Created), cmp.Compare(a.ID, b.ID))
	}), true
}

func rank(server cloud.Server, recorded string) int {
	switch {
	case server.ID == recorded:
		return 0
	case server.Status.Running():
		return 1
	case server.Status != cloud.StatusError:
		return 2
	default:
		return 3
	}
}
