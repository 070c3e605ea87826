// SPDX-License-Identifier: Apache-2.0

package openstack

import (
	"context"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cloudveneto/caas/osnode/cloud"
)

// The ways to act for an owner.
const (
	// ModeTrust uses a trust that the owner made out to the service user.
	ModeTrust = "trust"
	// ModeApplicationCredential uses an application credential of the owner.
	ModeApplicationCredential = "applicationCredential"
	// ModeService does not act for the owner: servers belong to the service user.
	ModeService = "service"
)

// Config is what a Cloud needs.
type Config struct {
	// Cluster tells this cluster's servers from those of others; it is required.
	Cluster string
	// Providers are the clouds; at least one.
	Providers []Provider
	// Transport, if it is not nil and does not return nil, supplies the transport of a
	// provider's calls instead of one made from its CA file.
	Transport func(provider string) http.RoundTripper
	// ApplicationCredential, if not nil, finds an owner's application credential; an
	// empty ID means that there is none. Without it, the provider's directory is read.
	ApplicationCredential func(ctx context.Context, account cloud.Account) (ApplicationCredential, error)
	// Metrics takes the collectors; nil for none.
	Metrics prometheus.Registerer
}

// Provider is one OpenStack, as a section of a configuration file.
type Provider struct {
	// ID is what spec.provider names; DisplayName is for people.
	ID          string `json:"id"`
	DisplayName string `json:"displayName,omitempty"`
	// AuthURL is Keystone's address, with or without /v3. CAFile has the certificates to
	// trust instead of the system's.
	AuthURL string `json:"authURL"`
	CAFile  string `json:"caFile,omitempty"`
	// Interface chooses the catalog's endpoints: public (default), internal or admin.
	Interface string   `json:"interface,omitempty"`
	Identity  Identity `json:"identity"`
	Owner     Owner    `json:"owner,omitzero"`
	Regions   []string `json:"regions"`
	Defaults  Defaults `json:"defaults,omitzero"`
	// Networks are templates of the names of the networks that servers are on, with
	// .ProjectName, .ProjectID, .Region and .Provider; default {{.ProjectName}}-lan.
	Networks       []string       `json:"networks,omitempty"`
	SecurityGroups SecurityGroups `json:"securityGroups,omitzero"`
	Limits         Limits         `json:"limits,omitzero"`
	Cache          Cache          `json:"cache,omitzero"`
	// Timeout is for each operation, with its retries; default one minute. A server's
	// creation, which is never repeated, has twice as long.
	Timeout metav1.Duration `json:"timeout,omitzero"`
	// ConfigDrive gives servers their user data on a disk, not only by the metadata service.
	ConfigDrive bool `json:"configDrive,omitempty"`
	// GPUAliases are the aliases of PCI devices that are GPUs; all are if it is empty.
	GPUAliases []string `json:"gpuAliases,omitempty"`
}

// Identity is the service user.
type Identity struct {
	// Either UserID, or UserName and UserDomain (default Default).
	UserID     string `json:"userID,omitempty"`
	UserName   string `json:"userName,omitempty"`
	UserDomain string `json:"userDomain,omitempty"`
	// PasswordFile is read at each login, so that a changed password needs no restart.
	PasswordFile string `json:"passwordFile"`
	// Project and ProjectDomain (default Default) are where the user is at home; without
	// it, Keystone decides.
	Project       string `json:"project,omitempty"`
	ProjectDomain string `json:"projectDomain,omitempty"`
}

// Owner is how to act for the owners of machines.
type Owner struct {
	// Modes are tried in this order; default trust alone.
	Modes []string `json:"modes,omitempty"`
	// Roles must all be delegated by a trust or a credential for it to be used.
	Roles []string `json:"roles,omitempty"`
	// ApplicationCredentials is a directory with files <user id>/<project id>.yaml.
	ApplicationCredentials string `json:"applicationCredentials,omitempty"`
}

// Defaults fill what a spec leaves open.
type Defaults struct {
	Region           string   `json:"region,omitempty"`
	AvailabilityZone string   `json:"availabilityZone,omitempty"`
	Image            string   `json:"image,omitempty"`
	SecurityGroups   []string `json:"securityGroups,omitempty"`
}

// SecurityGroups says what happens when a security group does not exist.
type SecurityGroups struct {
	// Create makes the missing groups named in Names, or in the defaults if that is empty.
	Create bool     `json:"create,omitempty"`
	Names  []string `json:"names,omitempty"`
	// ControlPlaneCIDRs may reach the kubelet's port.
	ControlPlaneCIDRs []string `json:"controlPlaneCIDRs,omitempty"`
	// SSHCIDRs may log in; NodePortCIDRs may reach services' node ports.
	SSHCIDRs      []string `json:"sshCIDRs,omitempty"`
	NodePortCIDRs []string `json:"nodePortCIDRs,omitempty"`
	// Overlay is how the pod network goes between nodes that are not in the group.
	Overlay Overlay `json:"overlay,omitzero"`
}

// Overlay is a pod network's tunnel.
type Overlay struct {
	// Protocol and Port are udp and 8472 (VXLAN) if not given.
	Protocol string   `json:"protocol,omitempty"`
	Port     int      `json:"port,omitempty"`
	CIDRs    []string `json:"cidrs,omitempty"`
}

// Limits are how much of an OpenStack a controller may use, for each project.
type Limits struct {
	// QPS and Burst are calls in a second, 50 and 100 if not given.
	QPS   float64 `json:"qps,omitempty"`
	Burst int     `json:"burst,omitempty"`
	// InFlight is how many calls may wait for their answers, 16 if not given.
	InFlight int `json:"inFlight,omitempty"`
}

// Cache is how old answers may be that are not about servers.
type Cache struct {
	// References are flavors, images, networks, security groups and key pairs; 1 minute.
	References metav1.Duration `json:"references,omitzero"`
	// Quota is 2 seconds. Trusts, 15 seconds, is also how old an owner's login may be when
	// a machine is made for him.
	Quota  metav1.Duration `json:"quota,omitzero"`
	Trusts metav1.Duration `json:"trusts,omitzero"`
}

const (
	defaultDomain    = "Default"
	defaultNetwork   = "{{.ProjectName}}-lan"
	defaultInterface = "public"
)

// withDefaults fills what is not given.
func (p Provider) withDefaults() Provider {
	p.DisplayName = either(p.DisplayName, p.ID)
	p.Interface = either(p.Interface, defaultInterface)
	p.Identity.UserDomain = either(p.Identity.UserDomain, defaultDomain)
	p.Identity.ProjectDomain = either(p.Identity.ProjectDomain, defaultDomain)
	if len(p.Owner.Modes) == 0 {
		p.Owner.Modes = []string{ModeTrust}
	}
	if len(p.Networks) == 0 {
		p.Networks = []string{defaultNetwork}
	}
	if p.Defaults.Region == "" && len(p.Regions) > 0 {
		p.Defaults.Region = p.Regions[0]
	}
	if len(p.SecurityGroups.Names) == 0 {
		p.SecurityGroups.Names = p.Defaults.SecurityGroups
	}
	p.SecurityGroups.Overlay.Protocol = either(p.SecurityGroups.Overlay.Protocol, "udp")
	p.SecurityGroups.Overlay.Port = either(p.SecurityGroups.Overlay.Port, 8472)
	p.Limits.QPS = either(p.Limits.QPS, 50)
	p.Limits.Burst = either(p.Limits.Burst, 100)
	p.Limits.InFlight = either(p.Limits.InFlight, 16)
	p.Timeout.Duration = either(p.Timeout.Duration, time.Minute)
	p.Cache.References.Duration = either(p.Cache.References.Duration, time.Minute)
	p.Cache.Quota.Duration = either(p.Cache.Quota.Duration, 2*time.Second)
	p.Cache.Trusts.Duration = either(p.Cache.Trusts.Duration, 15*time.Second)
	return p
}

func (p Provider) settings() cloud.Settings {
	return cloud.Settings{
		ID: p.ID, DisplayName: p.DisplayName, Region: p.Defaults.Region,
		AvailabilityZone: p.Defaults.AvailabilityZone, ImageName: p.Defaults.Image,
		SecurityGroups: p.Defaults.SecurityGroups,
	}
}

func either[T comparable](value, fallback T) T {
	var zero T
	if value == zero {
		return fallback
	}
	return value
}
