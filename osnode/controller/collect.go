// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cloudveneto/caas/internal/logging"
	osnodev1 "github.com/cloudveneto/caas/osnode/api/v1"
	"github.com/cloudveneto/caas/osnode/cloud"
)

// Collector deletes what no OpenStackNode accounts for any more: machines, Nodes and
// token Secrets that a crash, a force or a second controller has left. It deletes
// nothing that is young, nothing whose object the API server itself still has, and
// nothing at all when suddenly there are no objects: an API server that was restored
// from an old copy looks like that.
type Collector struct {
	r *Reconciler
	// emptySince is when there was first no object at all.
	emptySince time.Time
	// left are the UIDs of machines that were deleted, to sweep after them.
	left map[types.UID]cloud.Account
}

// Collector makes the Reconciler's Collector.
func (r *Reconciler) Collector() *Collector {
	return &Collector{r: r, left: map[types.UID]cloud.Account{}}
}

// NeedLeaderElection implements manager.LeaderElectionRunnable.
func (*Collector) NeedLeaderElection() bool { return true }

// Start collects until ctx ends. The manager calls it when its caches are complete.
func (c *Collector) Start(ctx context.Context) error {
	ticker := time.NewTicker(c.r.Timers.Collect)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		if err := c.Collect(ctx); err != nil && ctx.Err() == nil {
			logging.From(ctx).ErrorContext(ctx, "orphans not all collected", "error", err)
		}
	}
}

// Collect looks for orphans once. It MUST NOT be called at the same time twice.
func (c *Collector) Collect(ctx context.Context) error {
	list := &osnodev1.OpenStackNodeList{}
	if err := c.r.Client.List(ctx, list); err != nil {
		return fmt.Errorf("list OpenStackNodes: %w", err)
	}
	now := c.r.Clock()
	if len(list.Items) > 0 {
		c.emptySince = time.Time{}
	} else if c.emptySince.IsZero() {
		c.emptySince = now
	}
	if len(list.Items) == 0 && now.Sub(c.emptySince) < c.r.Timers.EmptyGrace {
		logging.From(ctx).DebugContext(ctx, "no orphans collected: there is no node at all", "since", c.emptySince)
		return nil
	}
	known := make(map[types.UID]*osnodev1.OpenStackNode, len(list.Items))
	for i := range list.Items {
		known[list.Items[i].UID] = &list.Items[i]
	}
	return errors.Join(c.servers(ctx, known, now), c.nodes(ctx, known, now), c.secrets(ctx, known, now))
}

// orphaned asks the API server itself whether an object is gone. The cache has said so.
func (c *Collector) orphaned(ctx context.Context, uid types.UID, namespace, name string) (bool, error) {
	if uid == "" || namespace == "" || name == "" {
		return false, nil // not fully marked as ours
	}
	osn := &osnodev1.OpenStackNode{}
	err := c.r.Reader.Get(ctx, types.NamespacedName{Namespace: namespace, Name: name}, osn)
	if apierrors.IsNotFound(err) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("get OpenStackNode %s/%s: %w", namespace, name, err)
	}
	return osn.UID != uid, nil
}

func (c *Collector) old(now time.Time, born time.Time) bool {
	return !born.IsZero() && now.Sub(born) >= c.r.Timers.OrphanAge
}

// servers goes through all projects. One that does not answer keeps no other waiting.
func (c *Collector) servers(ctx context.Context, known map[types.UID]*osnodev1.OpenStackNode, now time.Time) error {
	var errs []error
	accounts, err := c.r.Cloud.Accounts(ctx)
	if err != nil {
		errs = append(errs, fmt.Errorf("list projects: %w", err)) // those of other providers are there all the same
	}
	for uid, account := range c.left {
		if _, err := c.r.Cloud.Sweep(ctx, account, string(uid)); err != nil {
			errs = append(errs, err)
			continue
		}
		delete(c.left, uid)
	}
	for _, account := range accounts {
		listing, err := c.r.Cloud.List(ctx, account, c.r.Timers.AgeCreating)
		if err != nil {
			errs = append(errs, fmt.Errorf("project %s: %w", account.ProjectID, err))
			continue
		}
		for i := range listing.Servers {
			errs = append(errs, c.server(ctx, account, &listing.Servers[i], known, now))
		}
	}
	return errors.Join(errs...)
}

func (c *Collector) server(
	ctx context.Context, account cloud.Account, server *cloud.Server, known map[types.UID]*osnodev1.OpenStackNode, now time.Time,
) error {
	uid := types.UID(server.Metadata[osnodev1.MetaUID])
	if server.Metadata[osnodev1.MetaCluster] != c.r.Cluster || server.ProjectID != account.ProjectID ||
		server.Metadata[osnodev1.MetaOwner] == "" || known[uid] != nil || server.Status.Gone() || server.TaskState == taskDeleting || !c.old(now, server.Created) {
		return nil
	}
	orphan, err := c.orphaned(ctx, uid, server.Metadata[osnodev1.MetaNamespace], server.Metadata[osnodev1.MetaName])
	if err != nil || !orphan {
		return err
	}
	if err := c.r.Cloud.Delete(ctx, account, server.ID); err != nil {
		return fmt.Errorf("delete orphan server %s: %w", server.ID, err)
	}
	c.left[uid] = account
	c.note(ctx, "server", server.ID)
	return nil
}

// nodes deletes Nodes that carry our protected label and have no object, or whose object
// has another Node now. Nodes without the label are nobody's business here.
func (c *Collector) nodes(ctx context.Context, known map[types.UID]*osnodev1.OpenStackNode, now time.Time) error {
	list := &corev1.NodeList{}
	if err := c.r.Client.List(ctx, list, client.HasLabels{osnodev1.NodeLabelOSNode}); err != nil {
		return fmt.Errorf("list nodes: %w", err)
	}
	var errs []error
	for i := range list.Items {
		current := &list.Items[i]
		uid := types.UID(current.Labels[osnodev1.NodeLabelOSNode])
		if !c.old(now, current.CreationTimestamp.Time) {
			continue
		}
		orphan, err := false, error(nil)
		if osn := known[uid]; osn != nil {
			orphan = osn.Status.NodeID != "" && osn.Status.NodeID != current.Name && !readyIn(current)
		} else {
			orphan, err = c.orphaned(ctx, uid, current.Labels[osnodev1.NodeLabelNamespace], current.Labels[osnodev1.NodeLabelName])
		}
		if err == nil && orphan {
			if err = deleteExactly(ctx, c.r.Client, current); err == nil {
				c.note(ctx, "node", current.Name)
			}
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (c *Collector) secrets(ctx context.Context, known map[types.UID]*osnodev1.OpenStackNode, now time.Time) error {
	list := &corev1.SecretList{}
	err := c.r.Reader.List(ctx, list, client.InNamespace(metav1.NamespaceSystem), client.HasLabels{labelUID})
	if err != nil {
		return fmt.Errorf("list token Secrets: %w", err)
	}
	var errs []error
	for i := range list.Items {
		secret := &list.Items[i]
		uid := types.UID(secret.Labels[labelUID])
		if known[uid] != nil || secret.Type != corev1.SecretTypeBootstrapToken || !c.old(now, secret.CreationTimestamp.Time) {
			continue
		}
		orphan, err := c.orphaned(ctx, uid, secret.Labels[labelNamespace], secret.Labels[labelName])
		if err == nil && orphan {
			if err = deleteExactly(ctx, c.r.Client, secret); err == nil {
				c.note(ctx, "token", secret.Name)
			}
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (c *Collector) note(ctx context.Context, kind, name string) {
	c.r.metrics.orphans.WithLabelValues(kind).Inc()
	logging.From(ctx).WarnContext(ctx, "orphan deleted", "kind", kind, "name", name)
}
