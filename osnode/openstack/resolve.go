// SPDX-License-Identifier: Apache-2.0

package openstack

import (
	"context"
	"net/http"
	"strings"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/image/v2/images"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/networks"

	"github.com/cloudveneto/caas/osnode/cloud"
)

// Resolve finds the ids of what a spec names. It fails with InvalidSpec or
// AmbiguousReference if a name stands for nothing or for several things. It may create
// security groups, if the configuration says so.
func (c *Cloud) Resolve(ctx context.Context, account cloud.Account, wanted cloud.Wanted) (resolved cloud.Resolved, err error) {
	err = c.inProject(ctx, account, func(ctx context.Context, at here) error {
		if resolved.Flavor, err = at.flavor(ctx, wanted.Flavor); err != nil {
			return err
		}
		if resolved.ImageID, err = at.image(ctx, wanted); err != nil {
			return err
		}
		if resolved.NetworkIDs, err = at.networks(ctx); err != nil {
			return err
		}
		resolved.SecurityGroupIDs, err = at.securityGroups(ctx, wanted.SecurityGroups)
		return err
	})
	if err != nil {
		return cloud.Resolved{}, err
	}
	err = c.asOwner(ctx, account, 1, func(ctx context.Context, at here) error {
		_, err := at.keyPair(ctx, wanted.KeyPair)
		return err
	})
	if err != nil {
		return cloud.Resolved{}, err
	}
	return resolved, nil
}

// reference is the id of a thing, remembered for a while.
func (h here) reference(ctx context.Context, kind, name string, find func(ctx context.Context) (string, error)) (string, error) {
	key := projectKey(h.account) + kind + "/" + name
	found, err := h.references.get(ctx, key, h.Cache.References.Duration, find)
	if err != nil {
		return "", explain("look for the "+kind+" \""+name+"\"", err)
	}
	return found.value, nil
}

// image is the id of the one active image that is meant.
func (h here) image(ctx context.Context, wanted cloud.Wanted) (string, error) {
	switch {
	case wanted.ImageID != "":
		return h.reference(ctx, "image", wanted.ImageID, func(ctx context.Context) (string, error) {
			return h.imageByID(ctx, wanted.ImageID)
		})
	case wanted.ImageName != "":
		return h.reference(ctx, "image", wanted.ImageName, func(ctx context.Context) (string, error) {
			return h.imageByName(ctx, wanted.ImageName)
		})
	default:
		return "", refusal(cloud.InvalidSpec, nil, "No image is given, and the provider %q has no default", h.ID)
	}
}

func (h here) imageByID(ctx context.Context, id string) (string, error) {
	client, err := h.to(image(), h.account.Region)
	if err != nil {
		return "", err
	}
	found, err := images.Get(ctx, client, id).Extract()
	switch {
	case gophercloud.ResponseCodeIs(err, http.StatusNotFound), gophercloud.ResponseCodeIs(err, http.StatusBadRequest):
		return "", refusal(cloud.InvalidSpec, err, "There is no image with the id %q that the project can use", id)
	case err != nil:
		return "", err
	case found.Status != images.ImageStatusActive:
		return "", refusal(cloud.InvalidSpec, nil, "The image %q is %s, not active", id, found.Status)
	}
	return found.ID, nil
}

func (h here) imageByName(ctx context.Context, name string) (string, error) {
	client, err := h.to(image(), h.account.Region)
	if err != nil {
		return "", err
	}
	pages, err := images.List(client, images.ListOpts{Name: name, Status: images.ImageStatusActive}).AllPages(ctx)
	if err != nil {
		return "", err
	}
	found, err := images.ExtractImages(pages)
	if err != nil {
		return "", err
	}
	ids := make([]string, 0, len(found))
	for _, one := range found {
		if one.Name == name && one.Status == images.ImageStatusActive {
			ids = append(ids, one.ID)
		}
	}
	return only("active image", name, ids)
}

// only is the one id among candidates.
func only(kind, name string, ids []string) (string, error) {
	switch len(ids) {
	case 0:
		return "", refusal(cloud.InvalidSpec, nil, "There is no %s %q that the project can use", kind, name)
	case 1:
		return ids[0], nil
	default:
		return "", refusal(cloud.AmbiguousReference, nil, "There are several %ss %q: %s", kind, name, strings.Join(ids, ", "))
	}
}

// networks are the ids of the networks that the provider's templates name.
func (h here) networks(ctx context.Context) ([]string, error) {
	at := place{
		ProjectName: h.account.ProjectName, ProjectID: h.account.ProjectID,
		Region: h.account.Region, Provider: h.ID,
	}
	ids := make([]string, 0, len(h.Networks))
	for _, text := range h.Networks {
		name, err := networkName(text, at)
		if err != nil {
			return nil, refusal(cloud.InvalidSpec, err, "The provider's template for networks is wrong: %v", err)
		}
		id, err := h.reference(ctx, "network", name, func(ctx context.Context) (string, error) { return h.network(ctx, name) })
		if err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	return ids, nil
}

// network is the network of that name: the project's own, if others have shared one too.
func (h here) network(ctx context.Context, name string) (string, error) {
	client, err := h.to(network(), h.account.Region)
	if err != nil {
		return "", err
	}
	pages, err := networks.List(client, networks.ListOpts{Name: name}).AllPages(ctx)
	if err != nil {
		return "", err
	}
	found, err := networks.ExtractNetworks(pages)
	if err != nil {
		return "", err
	}
	var own, all []string
	for _, one := range found {
		all = append(all, one.ID)
		if one.ProjectID == h.account.ProjectID || one.TenantID == h.account.ProjectID {
			own = append(own, one.ID)
		}
	}
	if len(own) > 0 {
		all = own
	}
	return only("network", name, all)
}
