// SPDX-License-Identifier: Apache-2.0

package openstack

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/servers"

	osnodev1 "github.com/cloudveneto/caas/osnode/api/v1"
	"github.com/cloudveneto/caas/osnode/cloud"
)

// wireServer is a server as Nova writes it. When the server's cell is down, only id,
// status, project and creation are there.
type wireServer struct {
	ID        string            `json:"id"`
	Name      string            `json:"name"`
	Status    string            `json:"status"`
	TaskState string            `json:"OS-EXT-STS:task_state"`
	ProjectID string            `json:"tenant_id"`
	UserID    string            `json:"user_id"`
	Zone      string            `json:"OS-EXT-AZ:availability_zone"`
	Created   time.Time         `json:"created"`
	Updated   time.Time         `json:"updated"`
	Metadata  map[string]string `json:"metadata"`
	Tags      []string          `json:"tags"`
	Flavor    struct {
		ID   string `json:"id"`
		Name string `json:"original_name"`
	} `json:"flavor"`
	Addresses map[string][]wireAddress `json:"addresses"`
	Volumes   []struct {
		ID        string `json:"id"`
		Ephemeral bool   `json:"delete_on_termination"`
	} `json:"os-extended-volumes:volumes_attached"`
	Fault *struct {
		Code    int       `json:"code"`
		Message string    `json:"message"`
		Created time.Time `json:"created"`
	} `json:"fault"`
}

type wireAddress struct {
	IP   string `json:"addr"`
	Kind string `json:"OS-EXT-IPS:type"`
}

func (w wireServer) server() cloud.Server {
	server := cloud.Server{
		ID: w.ID, Name: w.Name, Status: cloud.Status(w.Status), TaskState: w.TaskState,
		ProjectID: w.ProjectID, UserID: w.UserID, FlavorID: w.Flavor.ID, FlavorName: w.Flavor.Name,
		Zone: w.Zone, Created: w.Created, Updated: w.Updated, Metadata: w.Metadata, Tags: w.Tags,
		Addresses: addresses(w.Addresses),
	}
	if w.Fault != nil {
		server.Fault = &cloud.Fault{Code: w.Fault.Code, Message: w.Fault.Message, Created: w.Fault.Created}
	}
	return server
}

// addresses are in a stable order: by network, IPv4 first.
func addresses(networks map[string][]wireAddress) []cloud.Address {
	var all []cloud.Address
	for network, list := range networks {
		for _, one := range list {
			if ip, err := netip.ParseAddr(one.IP); err == nil {
				all = append(all, cloud.Address{IP: ip, Network: network, Floating: one.Kind == "floating"})
			}
		}
	}
	slices.SortFunc(all, func(a, b cloud.Address) int {
		if a.Network != b.Network {
			return strings.Compare(a.Network, b.Network)
		}
		return a.IP.Compare(b.IP)
	})
	return all
}

// ours tells that this cluster's controller made the server, in the account's project.
// Whoever is in the project can write such metadata, but nobody can be another user to
// Nova: the server is the owner's whom it names, or the platform's.
func (h here) ours(server cloud.Server) bool {
	owner := server.Metadata[osnodev1.MetaOwner]
	return server.Metadata[osnodev1.MetaCluster] == h.cluster && server.Metadata[osnodev1.MetaUID] != "" &&
		server.ProjectID == h.account.ProjectID &&
		(owner == "" || server.UserID == owner || server.UserID == h.identity().userID)
}

// Server is one server, asked for anew. It fails with NotFound if there is none.
func (c *Cloud) Server(ctx context.Context, account cloud.Account, id string) (server cloud.Server, err error) {
	err = c.inProject(ctx, account, func(ctx context.Context, at here) error {
		found, err := at.server(ctx, id)
		server = found.server()
		return err
	})
	return server, err
}

func (h here) server(ctx context.Context, id string) (wireServer, error) {
	var found wireServer
	if !plainID.MatchString(id) {
		return found, refusal(cloud.NotFound, nil, "There is no server with the id %q", id)
	}
	client, err := h.to(compute(), h.account.Region)
	if err != nil {
		return found, err
	}
	if err := servers.Get(ctx, client, id).ExtractInto(&found); err != nil {
		return found, explain("look at the server "+id, err)
	}
	if found.ProjectID != h.account.ProjectID {
		return wireServer{}, refusal(cloud.NotFound, nil, "There is no server with the id %q in the project", id)
	}
	h.note(found)
	return found, nil
}

// note remembers what belonged to a node of ours, for Sweep.
func (h here) note(found wireServer) {
	uid := found.Metadata[osnodev1.MetaUID]
	if uid == "" || found.Metadata[osnodev1.MetaCluster] != h.cluster {
		return
	}
	var volumes []string
	for _, one := range found.Volumes {
		if one.Ephemeral {
			volumes = append(volumes, one.ID)
		}
	}
	h.traces.add(uid, found.ID, volumes)
}
