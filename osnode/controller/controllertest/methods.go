// SPDX-License-Identifier: Apache-2.0

package controllertest

import (
	"context"
	"slices"
	"time"

	osnodev1 "github.com/cloudveneto/caas/osnode/api/v1"
	"github.com/cloudveneto/caas/osnode/cloud"
)

// Settings are those of the one provider.
func (c *Cloud) Settings(provider string) (cloud.Settings, error) {
	if provider != Provider {
		return cloud.Settings{}, refusal(cloud.ProviderUnknown, "There is no provider %s", provider)
	}
	return cloud.Settings{
		ID: Provider, DisplayName: DisplayName, Region: Region, AvailabilityZone: Zone, ImageName: Image,
		SecurityGroups: []string{Group},
	}, nil
}

// Authorize asks whether the user trusts the platform.
func (c *Cloud) Authorize(_ context.Context, account cloud.Account) (string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.enter("Authorize"); err != nil {
		return "", err
	}
	if !c.Trusting[account.UserID] {
		return "", refusal(cloud.NoTrust, "Run kubectl-openstack login to authorise node creation")
	}
	return "trust", nil
}

// Resolve knows the flavors, and takes everything else to be there.
func (c *Cloud) Resolve(_ context.Context, _ cloud.Account, wanted cloud.Wanted) (cloud.Resolved, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.enter("Resolve"); err != nil {
		return cloud.Resolved{}, err
	}
	flavor, ok := c.Flavors[wanted.Flavor]
	if !ok {
		return cloud.Resolved{}, refusal(cloud.InvalidSpec, "There is no flavor %s", wanted.Flavor)
	}
	return cloud.Resolved{
		Flavor: flavor, ImageID: "image-1", NetworkIDs: []string{"network-1"}, SecurityGroupIDs: []string{"group-1"},
	}, nil
}

// Quota counts the machines that are there.
func (c *Cloud) Quota(_ context.Context, account cloud.Account) (cloud.Quota, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.enter("Quota"); err != nil {
		return cloud.Quota{}, err
	}
	return c.used(account.ProjectID), nil
}

func (c *Cloud) used(project string) cloud.Quota {
	quota, limited := c.Limits[project]
	if !limited {
		quota.Cores.Limit, quota.Instances.Limit, quota.MemoryMiB.Limit = -1, -1, -1
	}
	for _, s := range c.servers {
		gone := !s.deleted.IsZero() && !c.Stubborn && !c.clock().Before(s.deleted.Add(c.DeleteTime))
		if s.ProjectID == project && !gone {
			flavor := c.Flavors[s.FlavorName]
			quota.Instances.Used++
			quota.Cores.Used += flavor.VCPUs
			quota.MemoryMiB.Used += flavor.MemoryMiB
		}
	}
	return quota
}

// Create makes a machine.
func (c *Cloud) Create(_ context.Context, account cloud.Account, request cloud.Request) (cloud.Server, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	refused := c.enter("Create")
	if refused != nil && !c.Accept {
		return cloud.Server{}, refused
	}
	if free, limited := c.used(account.ProjectID).Instances.Free(); limited && free == 0 {
		return cloud.Server{}, refusal(cloud.QuotaExceeded, "Quota exceeded for instances")
	}
	var fault *cloud.Fault
	if len(c.Faults) > 0 {
		fault, c.Faults = new(c.Faults[0]), c.Faults[1:]
	}
	made := c.add(cloud.Server{
		Name: request.Name, ProjectID: account.ProjectID, UserID: account.UserID, FlavorName: request.Wanted.Flavor,
		FlavorID: request.Resolved.Flavor.ID, Metadata: request.Metadata, Tags: request.Tags,
	}, fault)
	if refused != nil {
		return cloud.Server{}, refused
	}
	return cloud.Server{ID: made.ID}, nil // Nova's answer has no more
}

// Find looks for machines of a UID.
func (c *Cloud) Find(_ context.Context, account cloud.Account, name, uid string) ([]cloud.Server, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.enter("Find"); err != nil {
		return nil, err
	}
	return slices.DeleteFunc(c.visible(account.ProjectID), func(s cloud.Server) bool {
		return s.Name != name || s.Metadata[osnodev1.MetaUID] != uid
	}), nil
}

// List has all machines of a project. It is always new.
func (c *Cloud) List(_ context.Context, account cloud.Account, _ time.Duration) (cloud.Listing, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.enter("List"); err != nil {
		return cloud.Listing{}, err
	}
	servers := c.visible(account.ProjectID)
	for i := range servers {
		servers[i].Fault = nil // Nova's lists leave out those of machines that no host took
	}
	now := c.clock()
	idle := now.Sub(c.listed[account.ProjectID])
	c.listed[account.ProjectID] = now
	return cloud.Listing{Servers: servers, At: now, Idle: idle}, nil
}

// Server is one machine.
func (c *Cloud) Server(_ context.Context, account cloud.Account, id string) (cloud.Server, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.enter("Server"); err != nil {
		return cloud.Server{}, err
	}
	for _, s := range c.visible(account.ProjectID) {
		if s.ID == id {
			return s, nil
		}
	}
	return cloud.Server{}, refusal(cloud.NotFound, "There is no server %s", id)
}

// Delete lets a machine go, in DeleteTime.
func (c *Cloud) Delete(_ context.Context, account cloud.Account, id string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.enter("Delete"); err != nil {
		return err
	}
	if s := c.servers[id]; s != nil && s.ProjectID == account.ProjectID && s.deleted.IsZero() {
		s.deleted = c.clock()
	}
	return nil
}

// Sweep notes the UID.
func (c *Cloud) Sweep(_ context.Context, _ cloud.Account, uid string) ([]string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.enter("Sweep"); err != nil {
		return nil, err
	}
	c.Swept = append(c.Swept, uid)
	return nil, nil
}

// Accounts are the projects that have or had a machine or a limit.
func (c *Cloud) Accounts(context.Context) ([]cloud.Account, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.enter("Accounts"); err != nil {
		return nil, err
	}
	projects := map[string]bool{}
	for id := range c.Limits {
		projects[id] = true
	}
	for _, s := range c.servers {
		projects[s.ProjectID] = true
	}
	var accounts []cloud.Account
	for id := range projects {
		accounts = append(accounts, cloud.Account{Provider: Provider, Region: Region, ProjectID: id})
	}
	return accounts, nil
}
