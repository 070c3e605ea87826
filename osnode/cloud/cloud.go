// SPDX-License-Identifier: Apache-2.0

// Package cloud has the words that the OSNode controllers and the OpenStack seam
// share: what a project, a flavor and a server are, and which kinds of refusal there
// are. It imports nothing but the standard library and calls nobody.
package cloud

import (
	"log/slog"
	"net/netip"
	"time"
)

// Account is where something is done, and in whose name: a project of a provider's
// region, and the user who owns what is made there.
type Account struct {
	// Provider is the id of a configured cloud; Region one of its regions.
	Provider, Region string
	// ProjectID and UserID are Keystone's ids; ProjectName is for templates of names.
	ProjectID, ProjectName, UserID string
}

// Project is the account without its user: what is read and deleted there is so with
// the service's own identity.
func (a Account) Project() Account {
	a.UserID = ""
	return a
}

// Settings are what a provider's configuration says about new machines.
type Settings struct {
	ID, DisplayName string
	// Defaults fill what a spec leaves open.
	Region, AvailabilityZone, ImageName string
	SecurityGroups                      []string
}

// Wanted is what a spec asks for, by name.
type Wanted struct {
	AvailabilityZone, Flavor, ImageID, ImageName, KeyPair string
	SecurityGroups                                        []string
	// RootDiskGiB, when not 0, makes the root disk a volume of that size.
	RootDiskGiB int
	VolumeType  string
}

// Flavor is what a machine has.
type Flavor struct {
	ID, Name              string
	VCPUs                 int
	MemoryMiB             int
	RootGiB, EphemeralGiB int
	// GPUs is how many GPUs of the kind GPU it has.
	GPUs int
	GPU  string
}

// Resolved is Wanted with OpenStack's ids.
type Resolved struct {
	Flavor           Flavor
	ImageID          string
	NetworkIDs       []string
	SecurityGroupIDs []string
}

// Request is everything that a server is created from.
type Request struct {
	// Name is the server's name; Metadata tells whose it is, and must be in the request
	// that creates it.
	Name     string
	Wanted   Wanted
	Resolved Resolved
	Metadata map[string]string
	Tags     []string
	// UserData is what cloud-init gets, not yet encoded. It holds the bootstrap token.
	UserData []byte
}

// LogValue keeps the user data out of logs.
func (r Request) LogValue() slog.Value {
	return slog.GroupValue(slog.String("name", r.Name), slog.Any("wanted", r.Wanted))
}

// Address is one of a server's addresses.
type Address struct {
	IP      netip.Addr
	Network string
	// Floating tells that it is not an address of one of the server's own ports.
	Floating bool
}

// Server is a virtual machine as Nova describes it.
type Server struct {
	ID, Name             string
	Status               Status
	TaskState            string
	ProjectID, UserID    string
	FlavorID, FlavorName string
	Zone                 string
	Created, Updated     time.Time
	Addresses            []Address
	Metadata             map[string]string
	Tags                 []string
	// Fault is why Nova gave up; nil when it did not.
	Fault *Fault
}

// Fault is Nova's own description of what went wrong.
type Fault struct {
	Code    int
	Message string
	Created time.Time
}

// Listing is the state of a project's servers at a time.
type Listing struct {
	Servers []Server
	// At is when it was asked for: what happened after it is not in it.
	At time.Time
	// Took is how long OpenStack took to answer, Idle for how long nobody had been asking before.
	Took, Idle time.Duration
}

// Quota is a project's limits and what is used of them. A limit below 0 is none.
type Quota struct {
	Cores, Instances, MemoryMiB Amount
}

// Amount is one limit.
type Amount struct{ Limit, Used int }

// Free is how much is left, and whether there is a limit at all.
func (a Amount) Free() (left int, limited bool) {
	if a.Limit < 0 {
		return 0, false
	}
	return max(a.Limit-a.Used, 0), true
}
