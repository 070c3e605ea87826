// SPDX-License-Identifier: Apache-2.0

package openstack

import (
	"context"
	"regexp"
	"time"

	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/servers"
	"github.com/gophercloud/gophercloud/v2/pagination"

	osnodev1 "github.com/cloudveneto/caas/osnode/api/v1"
	"github.com/cloudveneto/caas/osnode/cloud"
)

// Find is the servers of a name that carry a node's UID, this cluster's name, and are
// in the account's project. It asks Nova anew. A server that was asked for shortly
// before may not be in the answer yet.
func (c *Cloud) Find(ctx context.Context, account cloud.Account, name, uid string) (found []cloud.Server, err error) {
	err = c.inProject(ctx, account, func(ctx context.Context, at here) error {
		// Nova takes the name for a regular expression, and searches with it.
		all, err := at.list(ctx, servers.ListOpts{Name: "^" + regexp.QuoteMeta(name) + "$"})
		if err != nil {
			return explain("look for the server \""+name+"\"", err)
		}
		for _, one := range all {
			if server := one.server(); at.ours(server) && server.Name == name && server.Metadata[osnodev1.MetaUID] == uid {
				found = append(found, server)
			}
		}
		return nil
	})
	return found, err
}

// listed is a project's servers, ours only.
type listed struct {
	servers []cloud.Server
	known   map[string]cloud.Server
}

// List is the state of all this cluster's servers in a project, no older than maxAge. A
// Nova that is slow has better things to do than to make lists: its answer is good for as
// long again as it took.
// All who ask share one call.
func (c *Cloud) List(ctx context.Context, account cloud.Account, maxAge time.Duration) (listing cloud.Listing, err error) {
	p, err := c.site(account)
	if err != nil {
		return cloud.Listing{}, err
	}
	if last, ok := p.listings.peek(projectKey(account)); ok && maxAge > 0 {
		maxAge = max(maxAge, 2*last.took)
	}
	got, err := p.listings.get(ctx, projectKey(account), maxAge, func(ctx context.Context) (result listed, err error) {
		err = c.inProject(ctx, account, func(ctx context.Context, at here) error {
			result, err = at.listAll(ctx)
			return err
		})
		return result, err
	})
	if err != nil {
		return cloud.Listing{}, explain("list the servers of the project", err)
	}
	return cloud.Listing{Servers: got.value.servers, At: got.at, Took: got.took, Idle: got.idle}, nil
}

func (h here) listAll(ctx context.Context) (listed, error) {
	h.metrics.lists.WithLabelValues(h.ID).Inc()
	// No filter: with one, Nova leaves out the servers whose cell is down.
	all, err := h.list(ctx, servers.ListOpts{})
	if err != nil {
		return listed{}, err
	}
	before, _ := h.listings.peek(projectKey(h.account))
	result := listed{known: map[string]cloud.Server{}}
	for _, one := range all {
		server := one.server()
		if one.Metadata == nil {
			// Its cell is down: Nova knows no more than that it exists.
			if known, ok := before.value.known[server.ID]; ok {
				known.Status, known.TaskState, known.Fault = server.Status, "", nil
				server = known
			}
		}
		if !h.ours(server) {
			continue
		}
		h.note(one)
		result.servers = append(result.servers, server)
		result.known[server.ID] = server
	}
	return result, nil
}

func (h here) list(ctx context.Context, options servers.ListOpts) ([]wireServer, error) {
	client, err := h.to(compute(), h.account.Region)
	if err != nil {
		return nil, err
	}
	var all []wireServer
	err = servers.List(client, options).EachPage(ctx, func(_ context.Context, page pagination.Page) (bool, error) {
		var some []wireServer
		if err := servers.ExtractServersInto(page, &some); err != nil {
			return false, err
		}
		all = append(all, some...)
		return true, nil
	})
	return all, err
}
