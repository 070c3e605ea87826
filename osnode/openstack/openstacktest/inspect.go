// SPDX-License-Identifier: Apache-2.0

package openstacktest

import (
	"cmp"
	"encoding/base64"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
)

// Instance is a server as tests see it.
type Instance struct {
	ID, Name, Status           string
	ProjectID, UserID          string
	Key, Flavor, Image, Zone   string
	VCPUs, MemoryMiB           int
	Metadata                   map[string]string
	Tags                       []string
	UserData                   []byte
	Addresses                  []netip.Addr
	SecurityGroups             []string
	Created                    time.Time
	Fault                      *Fault
	VolumeGiB                  int
	VolumeType                 string
	DeletesVolumeOnTermination bool
}

func (f *Fake) view(s *instance) Instance {
	view := Instance{
		ID: s.id, Name: s.name, Status: s.status, ProjectID: s.project, UserID: s.user, Key: s.key, Flavor: s.flavor.name,
		Image: s.image, Zone: s.zone, VCPUs: s.flavor.vcpus, MemoryMiB: s.flavor.ram, Metadata: maps.Clone(s.metadata),
		Tags: slices.Clone(s.tags), Created: s.created, Fault: s.fault,
	}
	view.UserData, _ = base64.StdEncoding.DecodeString(s.userData) // it was checked when it came
	for _, one := range s.ports {
		view.Addresses = append(view.Addresses, one.ip)
		view.SecurityGroups = one.groups
	}
	for _, one := range s.volumes {
		view.VolumeGiB, view.VolumeType, view.DeletesVolumeOnTermination = one.size, one.kind, one.ephemeral
	}
	return view
}

// Servers are the servers of a project, or of all if it is empty, the oldest first.
func (f *Fake) Servers(project string) []Instance {
	f.settle()
	f.mu.Lock()
	defer f.mu.Unlock()
	var all []Instance
	for _, one := range f.servers {
		if project == "" || one.project == project {
			all = append(all, f.view(one))
		}
	}
	slices.SortFunc(all, func(a, b Instance) int {
		return cmp.Or(a.Created.Compare(b.Created), strings.Compare(a.ID, b.ID))
	})
	return all
}

// Ports is how many ports a project has.
func (f *Fake) Ports(project string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	count := 0
	for _, one := range f.ports {
		if one.project == project {
			count++
		}
	}
	return count
}

// Volumes is how many volumes a project has.
func (f *Fake) Volumes(project string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	count := 0
	for _, one := range f.volumes {
		if one.project == project {
			count++
		}
	}
	return count
}

// Group is a security group's description and how many rules it has; false if there is
// none of that name, or several.
func (f *Fake) Group(project, name string) (description string, rules int, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	count := 0
	for _, one := range f.groups {
		if one.project == project && one.name == name {
			description, rules = one.description, len(one.rules)
			count++
		}
	}
	return description, rules, count == 1
}

// SetStatus changes a server's status behind everybody's back, with a fault if it is ERROR.
func (f *Fake) SetStatus(id, status string, fault *Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if s := f.servers[id]; s != nil {
		s.status, s.fault, s.updated = status, fault, f.options.Now()
	}
}

// Remove deletes a server as somebody else would.
func (f *Fake) Remove(id string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if s := f.servers[id]; s != nil {
		f.remove(s)
	}
}

// LeaveThings makes the servers that exist now leave their ports and volumes behind
// when they are deleted.
func (f *Fake) LeaveThings() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, s := range f.servers {
		s.leaks = true
	}
}

// Put makes a server as somebody else would: without a check, ACTIVE at once.
func (f *Fake) Put(instance Instance) (id string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	in, kind := f.projects[instance.ProjectID], f.flavorNamed(instance.Flavor)
	if in == nil || kind == nil {
		return ""
	}
	made := newInstance(instance, kind, f.options.Now())
	in.keep(made)
	f.servers[made.id] = made
	return made.id
}

func (f *Fake) flavorNamed(name string) *flavor {
	for _, one := range f.flavors {
		if one.name == name {
			return one
		}
	}
	return nil
}

func newInstance(from Instance, kind *flavor, at time.Time) *instance {
	metadata := maps.Clone(from.Metadata)
	if metadata == nil {
		metadata = map[string]string{}
	}
	return &instance{
		id: uuid.NewString(), name: from.Name, project: from.ProjectID, user: from.UserID, key: from.Key, image: from.Image,
		zone: "nova", flavor: kind, metadata: metadata, tags: from.Tags, status: cmp.Or(from.Status, "ACTIVE"),
		created: cmp.Or(from.Created, at), updated: at, fault: from.Fault,
	}
}

// BreakBuilds makes builds fail for which fault is not nil; nil ends that.
func (f *Fake) BreakBuilds(fault func(Instance) *Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.breaks = fault
}

// RevokeTokens makes all tokens invalid, as a restart with new keys does.
func (f *Fake) RevokeTokens() {
	f.mu.Lock()
	defer f.mu.Unlock()
	clear(f.tokens)
}
