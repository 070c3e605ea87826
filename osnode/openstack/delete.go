// SPDX-License-Identifier: Apache-2.0

package openstack

import (
	"context"
	"maps"

	"github.com/gophercloud/gophercloud/v2/openstack/blockstorage/v3/volumes"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/servers"

	osnodev1 "github.com/cloudveneto/caas/osnode/api/v1"
	"github.com/cloudveneto/caas/osnode/cloud"
)

// Delete asks Nova to delete a server, which takes a while. A server that is not there
// is no error; one that this cluster did not make is.
func (c *Cloud) Delete(ctx context.Context, account cloud.Account, id string) error {
	return c.inProject(ctx, account, func(ctx context.Context, at here) error {
		found, err := at.server(ctx, id)
		if cloud.Is(err, cloud.NotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		// Without metadata, its cell is down; Nova then keeps the deletion for later.
		if found.Metadata != nil && !at.ours(found.server()) {
			return refusal(cloud.Unclassified, nil, "The server %s was not made by this cluster, and is left alone", id)
		}
		if err := at.markVolumes(ctx, found); err != nil {
			return err
		}
		client, err := at.to(compute(), account.Region)
		if err != nil {
			return err
		}
		err = explainOrNil("delete the server "+id, servers.Delete(ctx, client, id).ExtractErr())
		if cloud.Is(err, cloud.NotFound) {
			return nil
		}
		return err
	})
}

func explainOrNil(what string, err error) error {
	if err == nil {
		return nil
	}
	return explain(what, err)
}

// markVolumes writes on the volumes that are to go with the server whose they were, so
// that they can be found if Nova leaves them behind. Nova makes them without a name.
func (h here) markVolumes(ctx context.Context, found wireServer) error {
	uid := found.Metadata[osnodev1.MetaUID]
	for _, one := range found.Volumes {
		if !one.Ephemeral || uid == "" {
			continue
		}
		client, err := h.to(volume(), h.account.Region)
		if err != nil {
			return err
		}
		var known volumes.Volume
		if err := volumes.Get(ctx, client, one.ID).ExtractInto(&known); codeOf(err) == 404 {
			continue
		} else if err != nil {
			return explain("look at the volume "+one.ID, err)
		}
		if known.Metadata[osnodev1.MetaUID] == uid {
			continue
		}
		metadata := map[string]string{osnodev1.MetaUID: uid, osnodev1.MetaCluster: h.cluster}
		maps.Copy(metadata, known.Metadata)
		options := volumes.UpdateOpts{Metadata: metadata}
		if _, err := volumes.Update(ctx, client, one.ID, options).Extract(); err != nil {
			return explain("mark the volume "+one.ID, err)
		}
	}
	return nil
}
