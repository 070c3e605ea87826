// SPDX-License-Identifier: Apache-2.0

package openstack

import (
	"context"
	"encoding/base64"
	"time"

	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/keypairs"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/servers"

	osnodev1 "github.com/cloudveneto/caas/osnode/api/v1"
	"github.com/cloudveneto/caas/osnode/cloud"
)

// maxUserData is what Nova takes, in base64 (nova/api/openstack/compute/schemas).
const maxUserData = 65535

// createPatience is how many times as long as other operations a creation may take.
const createPatience = 2

// LongestRequest is how long a Create may be under way, with the slowest of the providers.
func (c *Cloud) LongestRequest() time.Duration {
	var longest time.Duration
	for _, p := range c.providers {
		longest = max(longest, createPatience*p.Timeout.Duration)
	}
	return longest
}

// Create asks Nova for a server, as the account's owner. It asks once: after
// Unavailable the server may exist all the same, and is to be looked for with Find.
func (c *Cloud) Create(ctx context.Context, account cloud.Account, request cloud.Request) (server cloud.Server, err error) {
	options, err := createOptions(request)
	if err != nil {
		return cloud.Server{}, err
	}
	err = c.asOwner(ctx, account, createPatience, func(ctx context.Context, at here) error {
		key := request.Wanted.KeyPair
		if at.mode == ModeService {
			if key, err = at.keyPair(ctx, key); err != nil {
				return err
			}
		}
		server, err = at.create(ctx, options, key)
		return err
	})
	return server, err
}

func createOptions(request cloud.Request) (servers.CreateOpts, error) {
	encoded := base64.StdEncoding.EncodeToString(request.UserData)
	if len(encoded) > maxUserData {
		return servers.CreateOpts{}, refusal(cloud.UserDataTooLarge, nil,
			"The user data is %d bytes in base64; Nova takes %d", len(encoded), maxUserData)
	}
	if request.Metadata[osnodev1.MetaUID] == "" || request.Metadata[osnodev1.MetaCluster] == "" {
		return servers.CreateOpts{}, refusal(cloud.InvalidSpec, nil, "The request does not say whose server it is for")
	}
	networks := make([]servers.Network, 0, len(request.Resolved.NetworkIDs))
	for _, id := range request.Resolved.NetworkIDs {
		networks = append(networks, servers.Network{UUID: id})
	}
	options := servers.CreateOpts{
		Name: request.Name, FlavorRef: request.Resolved.Flavor.ID, ImageRef: request.Resolved.ImageID,
		AvailabilityZone: request.Wanted.AvailabilityZone, SecurityGroups: request.Resolved.SecurityGroupIDs,
		Networks: networks, Metadata: request.Metadata, Tags: request.Tags, UserData: []byte(encoded),
	}
	if request.Wanted.RootDiskGiB > 0 {
		options.ImageRef = ""
		options.BlockDevice = []servers.BlockDevice{{
			SourceType: servers.SourceImage, DestinationType: servers.DestinationVolume,
			UUID: request.Resolved.ImageID, VolumeSize: request.Wanted.RootDiskGiB,
			VolumeType: request.Wanted.VolumeType, DeleteOnTermination: true,
		}}
	}
	return options, nil
}

func (h here) create(ctx context.Context, options servers.CreateOpts, key string) (cloud.Server, error) {
	client, err := h.to(compute(), h.account.Region)
	if err != nil {
		return cloud.Server{}, err
	}
	if h.ConfigDrive {
		options.ConfigDrive = &h.ConfigDrive
	}
	at := time.Now()
	// Nothing that can fail comes after this.
	made, err := servers.Create(ctx, client, keypairs.CreateOptsExt{CreateOptsBuilder: options, KeyName: key}, nil).Extract()
	if err != nil {
		return cloud.Server{}, h.createFailure(options.Name, err)
	}
	h.traces.add(options.Metadata[osnodev1.MetaUID], made.ID, nil)
	return cloud.Server{
		ID: made.ID, Name: options.Name, Status: cloud.StatusBuild, ProjectID: h.account.ProjectID,
		UserID: h.identity().userID, FlavorID: options.FlavorRef, Zone: options.AvailabilityZone,
		Created: at, Updated: at, Metadata: options.Metadata, Tags: options.Tags,
	}, nil
}

// createFailure explains why there is no server. What was found for the request may be
// gone since, so it is to be looked for again.
func (h here) createFailure(name string, err error) error {
	failure := explain("create the server \""+name+"\"", err)
	class := cloud.ClassOf(failure)
	if class == cloud.NotFound {
		failure = refusal(cloud.InvalidSpec, err, "%s", failure.Error())
	}
	if class == cloud.NotFound || class == cloud.InvalidSpec || class == cloud.AmbiguousReference {
		h.references.forget(projectKey(h.account))
		h.flavors.forget(projectKey(h.account))
	}
	if class == cloud.QuotaExceeded {
		h.quotas.forget(projectKey(h.account))
	}
	return failure
}
