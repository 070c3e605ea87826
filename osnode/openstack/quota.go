// SPDX-License-Identifier: Apache-2.0

package openstack

import (
	"context"

	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/limits"

	"github.com/cloudveneto/caas/osnode/cloud"
)

// Quota is a project's limits and what is used of them, at most seconds old.
func (c *Cloud) Quota(ctx context.Context, account cloud.Account) (quota cloud.Quota, err error) {
	err = c.inProject(ctx, account, func(ctx context.Context, at here) error {
		got, err := at.quotas.get(ctx, projectKey(account), at.Cache.Quota.Duration, at.quota)
		if err != nil {
			return explain("look at the project's quota", err)
		}
		quota = got.value
		return nil
	})
	return quota, err
}

func (h here) quota(ctx context.Context) (cloud.Quota, error) {
	client, err := h.to(compute(), h.account.Region)
	if err != nil {
		return cloud.Quota{}, err
	}
	found, err := limits.Get(ctx, client, limits.GetOpts{}).Extract()
	if err != nil {
		return cloud.Quota{}, err
	}
	absolute := found.Absolute
	return cloud.Quota{
		Cores:     cloud.Amount{Limit: absolute.MaxTotalCores, Used: absolute.TotalCoresUsed},
		Instances: cloud.Amount{Limit: absolute.MaxTotalInstances, Used: absolute.TotalInstancesUsed},
		MemoryMiB: cloud.Amount{Limit: absolute.MaxTotalRAMSize, Used: absolute.TotalRAMUsed},
	}, nil
}
