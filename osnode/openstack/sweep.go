// SPDX-License-Identifier: Apache-2.0

package openstack

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gophercloud/gophercloud/v2/openstack/blockstorage/v3/volumes"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/servers"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/ports"

	osnodev1 "github.com/cloudveneto/caas/osnode/api/v1"
	"github.com/cloudveneto/caas/osnode/cloud"
)

const (
	// memory is how far back deleted servers are asked for.
	memory = 24 * time.Hour
	// maxTraces bounds what is remembered of nodes; the oldest are forgotten.
	maxTraces = 20000
)

// Sweep removes what the servers of a node have left behind: ports and volumes that
// Nova did not remove with them. Only what carries the UID, or belonged to a server
// that did, and is not in use, is touched. Removed are their ids.
func (c *Cloud) Sweep(ctx context.Context, account cloud.Account, uid string) (removed []string, err error) {
	err = c.inProject(ctx, account, func(ctx context.Context, at here) error {
		left, err := at.gone(ctx, uid)
		if err != nil {
			return err
		}
		removed, err = at.sweepPorts(ctx, left.servers)
		if err != nil {
			return err
		}
		volumes, err := at.sweepVolumes(ctx, uid, left)
		removed = append(removed, volumes...)
		if err == nil {
			at.traces.remove(uid)
		}
		return err
	})
	return removed, err
}

// gone is what is known of a node's servers: what was seen of them while they lived, or
// else, after a restart, what Nova still tells of deleted ones.
func (h here) gone(ctx context.Context, uid string) (trace, error) {
	left := h.traces.of(uid)
	if len(left.servers) > 0 {
		return left, nil
	}
	deleted, err := h.list(ctx, servers.ListOpts{ChangesSince: time.Now().Add(-memory).UTC().Format(time.RFC3339)})
	if err != nil {
		return trace{}, explain("list deleted servers", err)
	}
	for _, one := range deleted {
		if server := one.server(); server.Status.Gone() && h.ours(server) && server.Metadata[osnodev1.MetaUID] == uid {
			left.servers = append(left.servers, server.ID)
		}
	}
	return left, nil
}

func (h here) sweepPorts(ctx context.Context, devices []string) ([]string, error) {
	var removed []string
	for _, device := range devices {
		if _, err := h.server(ctx, device); !cloud.Is(err, cloud.NotFound) {
			if err != nil {
				return removed, err
			}
			continue
		}
		some, err := h.removePorts(ctx, device)
		removed = append(removed, some...)
		if err != nil {
			return removed, err
		}
	}
	return removed, nil
}

func (h here) removePorts(ctx context.Context, device string) ([]string, error) {
	client, err := h.to(network(), h.account.Region)
	if err != nil {
		return nil, err
	}
	pages, err := ports.List(client, ports.ListOpts{DeviceID: device, ProjectID: h.account.ProjectID}).AllPages(ctx)
	if err != nil {
		return nil, explain("list the ports of the server "+device, err)
	}
	found, err := ports.ExtractPorts(pages)
	if err != nil {
		return nil, explain("list the ports of the server "+device, err)
	}
	var removed []string
	for _, port := range found {
		if port.DeviceID != device || (port.DeviceOwner != "" && !strings.HasPrefix(port.DeviceOwner, "compute:")) {
			continue
		}
		if err := ports.Delete(ctx, client, port.ID).ExtractErr(); err != nil && codeOf(err) != 404 {
			return removed, explain("delete the port "+port.ID, err)
		}
		removed = append(removed, port.ID)
	}
	return removed, nil
}

func (h here) sweepVolumes(ctx context.Context, uid string, left trace) ([]string, error) {
	client, err := h.to(volume(), h.account.Region)
	if err != nil {
		if len(left.volumes) == 0 {
			return nil, nil // an OpenStack without block storage
		}
		return nil, err
	}
	options := volumes.ListOpts{Metadata: map[string]string{osnodev1.MetaUID: uid}}
	pages, err := volumes.List(client, options).AllPages(ctx)
	if err != nil {
		return nil, explain("list volumes", err)
	}
	found, err := volumes.ExtractVolumes(pages)
	if err != nil {
		return nil, explain("list volumes", err)
	}
	var removed []string
	for _, one := range found {
		idle := one.Status == "available" || one.Status == "error"
		if !idle || len(one.Attachments) > 0 || one.Metadata[osnodev1.MetaUID] != uid || one.Metadata[osnodev1.MetaCluster] != h.cluster {
			continue
		}
		if err := volumes.Delete(ctx, client, one.ID, nil).ExtractErr(); err != nil && codeOf(err) != 404 {
			return removed, explain("delete the volume "+one.ID, err)
		}
		removed = append(removed, one.ID)
	}
	return removed, nil
}

// trace is what a node had.
type trace struct{ servers, volumes []string }

// traces remembers what nodes had, by their UIDs, in the order of first sight.
type traces struct {
	mu    sync.Mutex
	byUID map[string]trace
	order []string
}

func newTraces() *traces { return &traces{byUID: map[string]trace{}} }

func (t *traces) add(uid, server string, volumes []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	known, ok := t.byUID[uid]
	if !ok {
		t.order = append(t.order, uid)
		t.shrink()
	}
	if !slices.Contains(known.servers, server) {
		known.servers = append(known.servers, server)
	}
	for _, id := range volumes {
		if !slices.Contains(known.volumes, id) {
			known.volumes = append(known.volumes, id)
		}
	}
	t.byUID[uid] = known
}

// shrink forgets the oldest; removed ones leave their place in the order.
func (t *traces) shrink() {
	for len(t.order) > maxTraces {
		delete(t.byUID, t.order[0])
		t.order = t.order[1:]
	}
}

func (t *traces) of(uid string) trace {
	t.mu.Lock()
	defer t.mu.Unlock()
	known := t.byUID[uid]
	return trace{servers: slices.Clone(known.servers), volumes: slices.Clone(known.volumes)}
}

func (t *traces) remove(uid string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.byUID, uid)
}
