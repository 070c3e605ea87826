// SPDX-License-Identifier: Apache-2.0

package openstack

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/tokens"

	"github.com/cloudveneto/caas/osnode/cloud"
)

// Microversion is the version of Nova's API that is spoken, that of Stein (2019). It is
// the lowest that has all that is needed: tags in the request that creates a server
// (2.52), flavors with their extra specs (2.61), volume types of root disks (2.67), and
// servers whose cell is down shown as UNKNOWN instead of left out (2.69), which would
// look like deleted.
const Microversion = "2.69"

// credential makes the request for a token. It is called at each login, so that
// secrets are read anew and kept nowhere.
type credential func(ctx context.Context) (*tokens.AuthOptions, error)

// identity is what Keystone says about a token.
type identity struct {
	userID, projectID string
	roles             []string
	catalog           []tokens.CatalogEntry
}

// session is a token, and the way to a new one.
type session struct {
	provider   *provider
	client     *gophercloud.ProviderClient
	login      *gophercloud.ServiceClient
	credential credential
	// refused tells what Keystone's refusal of a login means; admit, if not nil, looks at
	// who a login is.
	refused func(ctx context.Context, err error) error
	admit   func(who identity) error

	mu      sync.RWMutex
	who     identity
	renewed time.Time
}

// LogValue keeps the token out of logs.
func (s *session) LogValue() slog.Value {
	who := s.identity()
	return slog.GroupValue(slog.String("user", who.userID), slog.String("project", who.projectID))
}

func (s *session) identity() identity {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.who
}

// open logs in for the first time.
func (s *session) open(ctx context.Context, limit *bucket) error {
	httpClient := s.provider.client(limit, s.serviceOf)
	s.login = &gophercloud.ServiceClient{
		ProviderClient: &gophercloud.ProviderClient{HTTPClient: httpClient},
		Endpoint:       s.provider.keystone(),
		Type:           "identity",
	}
	s.client = &gophercloud.ProviderClient{HTTPClient: httpClient, ReauthFunc: s.renew}
	s.client.UseTokenLock()
	return s.renew(ctx)
}

// renew gets a new token.
func (s *session) renew(ctx context.Context) error {
	options, err := s.credential(ctx)
	if err != nil {
		return err
	}
	result := tokens.Create(ctx, s.login, options)
	if result.Err != nil {
		return s.refused(ctx, result.Err)
	}
	who, err := identify(result)
	if err != nil {
		return refusal(cloud.Unavailable, err, "Keystone's answer to a login cannot be understood")
	}
	if s.admit != nil {
		if err := s.admit(who); err != nil {
			return err
		}
	}
	s.mu.Lock()
	s.who, s.renewed = who, time.Now()
	s.mu.Unlock()
	return s.client.SetTokenAndAuthResult(result)
}

// age is how long ago Keystone last said that the session may be.
func (s *session) age() time.Duration {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return time.Since(s.renewed)
}

func identify(result tokens.CreateResult) (identity, error) {
	var body struct {
		User    tokens.User           `json:"user"`
		Project tokens.Project        `json:"project"`
		Roles   []tokens.Role         `json:"roles"`
		Catalog []tokens.CatalogEntry `json:"catalog"`
	}
	if err := result.ExtractInto(&body); err != nil {
		return identity{}, err
	}
	who := identity{userID: body.User.ID, projectID: body.Project.ID, catalog: body.Catalog}
	for _, role := range body.Roles {
		who.roles = append(who.roles, role.Name)
	}
	return who, nil
}

// service is a kind of service: its types in catalogs, and the version in its paths.

type service struct {
	name, microversion, version string
	types                       []string
}

func compute() service {
	return service{name: "compute", microversion: Microversion, types: []string{"compute"}}
}

func network() service {
	return service{name: "network", version: "v2.0", types: []string{"network", "networking"}}
}

func image() service {
	return service{name: "image", version: "v2", types: []string{"image"}}
}

func volume() service {
	return service{name: "volume", types: []string{"block-storage", "volumev3", "block-store", "volume"}}
}

// to is a client of a service in a region.
func (s *session) to(service service, region string) (*gophercloud.ServiceClient, error) {
	address := s.endpoint(service, region)
	if address == "" {
		return nil, refusal(cloud.Unavailable, nil, "OpenStack's catalog has no %s service in region %q", service.name, region)
	}
	if service.version != "" {
		address = strings.TrimSuffix(address, service.version+"/")
	}
	client := &gophercloud.ServiceClient{
		ProviderClient: s.client, Endpoint: address, Type: service.name, Microversion: service.microversion,
	}
	if service.version != "" {
		client.ResourceBase = address + service.version + "/"
	}
	return client, nil
}

// keystone is a client of the identity service, at the configured address.
func (s *session) keystone() *gophercloud.ServiceClient {
	return &gophercloud.ServiceClient{ProviderClient: s.client, Endpoint: s.provider.keystone(), Type: "identity"}
}

func (s *session) endpoint(service service, region string) string {
	catalog := s.identity().catalog
	for _, kind := range service.types {
		for _, entry := range catalog {
			if entry.Type != kind {
				continue
			}
			for _, endpoint := range entry.Endpoints {
				if endpoint.Interface == s.provider.Interface && (endpoint.Region == region || endpoint.RegionID == region) {
					return gophercloud.NormalizeURL(endpoint.URL)
				}
			}
		}
	}
	return ""
}

// serviceOf is the service that an address belongs to, for metrics.
func (s *session) serviceOf(address string) string {
	if strings.HasPrefix(address, s.provider.keystone()) {
		return "identity"
	}
	catalog := s.identity().catalog
	for _, service := range []service{compute(), network(), image(), volume()} {
		for _, entry := range catalog {
			if slices.Contains(service.types, entry.Type) && owns(entry, address) {
				return service.name
			}
		}
	}
	return "other"
}

func owns(entry tokens.CatalogEntry, address string) bool {
	return slices.ContainsFunc(entry.Endpoints, func(endpoint tokens.Endpoint) bool {
		return endpoint.URL != "" && strings.HasPrefix(address, strings.TrimSuffix(endpoint.URL, "/")+"/")
	})
}
