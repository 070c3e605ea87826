// SPDX-License-Identifier: Apache-2.0

// Package controllertest has an OpenStack in memory for tests of OSNode controllers: its
// machines take time to start and to go, its projects have quotas, its owners trust the
// platform or not, and it fails when told to. Time is a clock of the test's.
package controllertest

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	osnodev1 "github.com/cloudveneto/caas/osnode/api/v1"
	"github.com/cloudveneto/caas/osnode/cloud"
)

// Provider, Region and the others are what the cloud has.
const (
	Provider    = "cloudveneto"
	DisplayName = "CloudVeneto"
	Region      = "regionOne"
	Zone        = "nova"
	Image       = "almalinux9-k8s-node-26-09-2023"
	Group       = "K8S"
	Flavor      = "cloudveneto.medium"
)

// Cloud is the OpenStack. All its fields may be changed through Change only.
type Cloud struct {
	clock   func() time.Time
	cluster string

	mu sync.Mutex
	State
	serial  int
	servers map[string]*server
	calls   map[string]int
	// listed is when a project's machines were last listed.
	listed map[string]time.Time
}

// State is how the cloud behaves.
type State struct {
	// BuildTime and DeleteTime are how long machines take.
	BuildTime, DeleteTime time.Duration
	// Lag is how long a machine is missing from all answers after it was asked for.
	Lag time.Duration
	// Outage, when not nil, is the answer to everything.
	Outage error
	// Trusting are the users who have authorised the platform.
	Trusting map[string]bool
	// Limits are the quotas by project; one that is missing has none.
	Limits map[string]cloud.Quota
	// Flavors are those that exist.
	Flavors map[string]cloud.Flavor
	// Refuse are answers to the next calls of a method. For Create, with Accept, the machine
	// is made all the same.
	Refuse map[string][]error
	Accept bool
	// Faults are what the next machines end with, instead of ACTIVE.
	Faults []cloud.Fault
	// Stubborn machines do not go.
	Stubborn bool
	// Swept are the UIDs that were swept.
	Swept []string
}

type server struct {
	cloud.Server
	fault   *cloud.Fault
	deleted time.Time
	fixed   bool
}

// New makes a cloud with one flavor of 2 cores and 4096 MiB, whose machines start at once.
func New(cluster string, clock func() time.Time) *Cloud {
	return &Cloud{
		clock: clock, cluster: cluster, servers: map[string]*server{}, calls: map[string]int{}, listed: map[string]time.Time{},
		State: State{
			Trusting: map[string]bool{}, Limits: map[string]cloud.Quota{}, Refuse: map[string][]error{},
			Flavors: map[string]cloud.Flavor{Flavor: {ID: "flavor-1", Name: Flavor, VCPUs: 2, MemoryMiB: 4096}},
		},
	}
}

// Change changes how the cloud behaves.
func (c *Cloud) Change(change func(*State)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change(&c.State)
}

// Calls is how often a method was called.
func (c *Cloud) Calls(method string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.calls[method]
}

// Servers are the machines that have not been deleted, the oldest first.
func (c *Cloud) Servers() []cloud.Server {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []cloud.Server
	for _, s := range c.servers {
		if s.deleted.IsZero() {
			all = append(all, c.now(s))
		}
	}
	slices.SortFunc(all, func(a, b cloud.Server) int { return a.Created.Compare(b.Created) })
	return all
}

// Add puts a machine there that nobody asked for here, and returns its id.
func (c *Cloud) Add(machine cloud.Server) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.add(machine, nil).ID
}

// SetStatus gives a machine a status, as its owner or a host can.
func (c *Cloud) SetStatus(id string, status cloud.Status, fault *cloud.Fault) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s := c.servers[id]; s != nil {
		s.Status, s.Fault, s.fixed, s.Updated = status, fault, true, c.clock()
	}
}

// GiveUp makes an error of a machine's deletion: Nova does not try again by itself.
func (c *Cloud) GiveUp(id string) {
	c.SetStatus(id, cloud.StatusError, &cloud.Fault{Code: 500, Message: "Unable to delete allocation for instance"})
	c.mu.Lock()
	defer c.mu.Unlock()
	if s := c.servers[id]; s != nil {
		s.deleted = time.Time{}
	}
}

// Vanish removes a machine at once.
func (c *Cloud) Vanish(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.servers, id)
}

func (c *Cloud) add(machine cloud.Server, fault *cloud.Fault) *server {
	c.serial++
	if machine.ID == "" {
		machine.ID = fmt.Sprintf("server-%04d", c.serial)
	}
	if machine.Created.IsZero() {
		machine.Created = c.clock()
	}
	machine.Updated = machine.Created
	machine.Metadata = maps.Clone(machine.Metadata)
	machine.Addresses = []cloud.Address{{IP: netip.AddrFrom4([4]byte{10, 64, byte(c.serial >> 8 & 0xff), byte(c.serial & 0xff)}), Network: "lan"}}
	s := &server{Server: machine, fault: fault, fixed: machine.Status != ""}
	c.servers[machine.ID] = s
	return s
}

// now is a machine as it is at this moment.
func (c *Cloud) now(s *server) cloud.Server {
	machine, at := s.Server, c.clock()
	if !s.fixed {
		machine.Status = cloud.StatusBuild
		if started := s.Created.Add(c.BuildTime); !at.Before(started) {
			machine.Status, machine.Updated = cloud.StatusActive, started
			if s.fault != nil {
				machine.Status, machine.Fault = cloud.StatusError, s.fault
			}
		}
	}
	if machine.Status == cloud.StatusBuild {
		machine.Addresses = nil
	}
	if !s.deleted.IsZero() {
		machine.TaskState = "deleting"
	}
	return machine
}

// visible are the machines that answers have, without those that are gone by now.
func (c *Cloud) visible(project string) []cloud.Server {
	var all []cloud.Server
	for id, s := range c.servers {
		if !s.deleted.IsZero() && !c.Stubborn && !c.clock().Before(s.deleted.Add(c.DeleteTime)) {
			delete(c.servers, id)
			continue
		}
		if s.ProjectID == project && !c.clock().Before(s.Created.Add(c.Lag)) && s.Metadata[osnodev1.MetaCluster] == c.cluster {
			all = append(all, c.now(s))
		}
	}
	return all
}

// enter counts a call and says what it is answered with, if not with the truth.
func (c *Cloud) enter(method string) error {
	c.calls[method]++
	if c.Outage != nil {
		return c.Outage
	}
	if refusals := c.Refuse[method]; len(refusals) > 0 {
		c.Refuse[method] = refusals[1:]
		return refusals[0]
	}
	return nil
}

func refusal(class cloud.Class, format string, args ...any) error {
	return &cloud.Error{Class: class, Message: fmt.Sprintf(format, args...)}
}
