// SPDX-License-Identifier: Apache-2.0

package openstack

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/flavors"

	"github.com/cloudveneto/caas/osnode/cloud"
)

// Flavor is a flavor that the project can use, by its name or id.
func (c *Cloud) Flavor(ctx context.Context, account cloud.Account, name string) (found cloud.Flavor, err error) {
	err = c.inProject(ctx, account, func(ctx context.Context, at here) error {
		found, err = at.flavor(ctx, name)
		return err
	})
	return found, err
}

// flavor looks a flavor up in the project's list; a name that is not there may be new,
// so the list is then asked for again, at most once in the time news take.
func (h here) flavor(ctx context.Context, name string) (cloud.Flavor, error) {
	age := h.Cache.References.Duration
	for _, maxAge := range []time.Duration{age, min(news, age)} {
		list, err := h.flavors.get(ctx, projectKey(h.account), maxAge, h.listFlavors)
		if err != nil {
			return cloud.Flavor{}, explain("list flavors", err)
		}
		if found, err := chooseFlavor(list.value, name); !cloud.Is(err, cloud.InvalidSpec) {
			return found, err
		}
	}
	return cloud.Flavor{}, refusal(cloud.InvalidSpec, nil, "There is no flavor %q in the project", name)
}

func chooseFlavor(all []cloud.Flavor, name string) (cloud.Flavor, error) {
	var named []cloud.Flavor
	for _, flavor := range all {
		if flavor.ID == name {
			return flavor, nil
		}
		if flavor.Name == name {
			named = append(named, flavor)
		}
	}
	switch len(named) {
	case 0:
		return cloud.Flavor{}, refusal(cloud.InvalidSpec, nil, "There is no flavor %q in the project", name)
	case 1:
		return named[0], nil
	default:
		return cloud.Flavor{}, refusal(cloud.AmbiguousReference, nil, "There are %d flavors %q in the project", len(named), name)
	}
}

func (h here) listFlavors(ctx context.Context) ([]cloud.Flavor, error) {
	client, err := h.to(compute(), h.account.Region)
	if err != nil {
		return nil, err
	}
	pages, err := flavors.ListDetail(client, flavors.ListOpts{}).AllPages(ctx)
	if err != nil {
		return nil, err
	}
	raw, err := flavors.ExtractFlavors(pages)
	if err != nil {
		return nil, err
	}
	all := make([]cloud.Flavor, 0, len(raw))
	for _, flavor := range raw {
		gpu, gpus := acceleration(flavor.ExtraSpecs, h.GPUAliases)
		all = append(all, cloud.Flavor{
			ID: flavor.ID, Name: flavor.Name, VCPUs: flavor.VCPUs, MemoryMiB: flavor.RAM,
			RootGiB: flavor.Disk, EphemeralGiB: flavor.Ephemeral, GPUs: gpus, GPU: gpu,
		})
	}
	return all, nil
}

// acceleration reads the kind and number of GPUs off a flavor's extra specs: PCI
// devices by their alias (a100:2,nvme:1), virtual or physical GPUs by their resource
// class (resources:VGPU=1). Of several kinds, the first in the alphabet gives the name.
func acceleration(specs map[string]string, aliases []string) (kind string, count int) {
	counts := map[string]int{}
	for key, value := range specs {
		if key == "pci_passthrough:alias" {
			countAliases(counts, value, aliases)
			continue
		}
		group, class, ok := strings.Cut(key, ":")
		if !ok || !strings.HasPrefix(group, "resources") || !strings.Contains(class, "GPU") {
			continue
		}
		if n, err := strconv.Atoi(strings.TrimSpace(value)); err == nil && n > 0 {
			counts[strings.ToLower(strings.TrimPrefix(class, "CUSTOM_"))] += n
		}
	}
	for name, n := range counts {
		count += n
		if kind == "" || name < kind {
			kind = name
		}
	}
	return kind, count
}

func countAliases(counts map[string]int, list string, wanted []string) {
	for device := range strings.SplitSeq(list, ",") {
		alias, number, _ := strings.Cut(strings.TrimSpace(device), ":")
		n, err := strconv.Atoi(strings.TrimSpace(either(number, "1")))
		if alias == "" || err != nil || n <= 0 {
			continue
		}
		if len(wanted) == 0 || slices.Contains(wanted, alias) {
			counts[alias] += n
		}
	}
}
