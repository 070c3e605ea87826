// SPDX-License-Identifier: Apache-2.0

// Package pooltest has a cloud for tests of pools: flavors, quotas that are used up, and
// refusals.
package pooltest

import (
	"context"
	"fmt"
	"sync"

	"github.com/cloudveneto/caas/osnode/cloud"
)

// Provider and Region are the cloud's.
const (
	Provider = "cloudveneto"
	Region   = "regionOne"
)

// Cloud answers like a provider with some flavors.
type Cloud struct {
	mu       sync.Mutex
	flavors  map[string]cloud.Flavor
	quotas   map[string]cloud.Quota
	refusals map[string]string
	failure  error
}

// NewCloud has the flavors small, medium and large, with 2, 4 and 8 vCPUs and as much memory
// as usual, and gpu; no project has a quota.
func NewCloud() *Cloud {
	c := &Cloud{flavors: map[string]cloud.Flavor{}, quotas: map[string]cloud.Quota{}, refusals: map[string]string{}}
	for name, cpus := range map[string]int{"small": 2, "medium": 4, "large": 8} {
		c.flavors[name] = cloud.Flavor{ID: "id-" + name, Name: name, VCPUs: cpus, MemoryMiB: cpus * 4096, RootGiB: 20 * cpus}
	}
	c.flavors["gpu"] = cloud.Flavor{ID: "id-gpu", Name: "gpu", VCPUs: 8, MemoryMiB: 65536, RootGiB: 25, EphemeralGiB: 500, GPUs: 1, GPU: "a100"}
	return c
}

// Settings are the provider's.
func (c *Cloud) Settings(provider string) (cloud.Settings, error) {
	if provider != Provider {
		return cloud.Settings{}, &cloud.Error{Class: cloud.ProviderUnknown, Message: fmt.Sprintf("there is no provider %q", provider)}
	}
	return cloud.Settings{ID: Provider, DisplayName: "CloudVeneto", Region: Region, AvailabilityZone: "nova", ImageName: "node-image"}, nil
}

// Flavor is one of the flavors.
func (c *Cloud) Flavor(_ context.Context, _ cloud.Account, name string) (cloud.Flavor, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	flavor, ok := c.flavors[name]
	if !ok {
		return cloud.Flavor{}, &cloud.Error{Class: cloud.InvalidSpec, Message: fmt.Sprintf("there is no flavor %q", name)}
	}
	return flavor, nil
}

// Quota is the project's.
func (c *Cloud) Quota(_ context.Context, account cloud.Account) (cloud.Quota, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.failure != nil {
		return cloud.Quota{}, c.failure
	}
	quota, ok := c.quotas[account.ProjectID]
	if !ok {
		none := cloud.Amount{Limit: -1}
		return cloud.Quota{Cores: none, Instances: none, MemoryMiB: none}, nil
	}
	return quota, nil
}

// LimitCores gives a project a quota of vCPUs.
func (c *Cloud) LimitCores(project string, limit int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	none := cloud.Amount{Limit: -1}
	c.quotas[project] = cloud.Quota{Cores: cloud.Amount{Limit: limit, Used: c.quotas[project].Cores.Used}, Instances: none, MemoryMiB: none}
}

// Use takes a flavor's machine from a project's quota, or gives it back with a count of -1.
func (c *Cloud) Use(project, flavor string, count int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if quota, ok := c.quotas[project]; ok {
		quota.Cores.Used += count * c.flavors[flavor].VCPUs
		c.quotas[project] = quota
	}
}

// Refuse has machines of a flavor refused, for a reason; an empty one lets them be again.
func (c *Cloud) Refuse(flavor, reason string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.refusals[flavor] = reason
}

// Refusal is why machines of a flavor are refused; empty if they are not.
func (c *Cloud) Refusal(flavor string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.refusals[flavor]
}

// Fail has questions about quotas fail until it is called with nil.
func (c *Cloud) Fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.failure = err
}
