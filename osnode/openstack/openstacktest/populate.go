// SPDX-License-Identifier: Apache-2.0

package openstacktest

import (
	"net/netip"
	"slices"
	"time"

	"github.com/google/uuid"
)

// Lab is what Populate puts into a fake.
type Lab struct {
	// Service is the service user, with its password.
	Service, ServicePassword string
	ServiceID                string
	// Zangrand is a member of CMS and QST; Lisa and Mallory are of QST.
	Zangrand, Lisa, Mallory string
	CMS, QST                string
	// Flavors that fit, and Image.
	Medium, Large, GPU string
	Image              string
}

// Populate makes projects, users, flavors, an image, networks, key pairs and trusts like
// those of the lab. The service user is a member of both projects, and has a trust of
// each user for each of his projects. Every user's password is his name.
func (f *Fake) Populate() Lab {
	lab := Lab{ //nolint:gosec // a fake's password
		Service: "osnode-controller", ServicePassword: "osnode-controller",
		Medium: "cloudveneto.medium", Large: "cloudveneto.large", GPU: "cloudveneto.50cores249GB25GB+500GB1A",
		Image: "almalinux9-k8s-node-26-09-2023",
	}
	lab.ServiceID = f.AddUser(lab.Service, lab.ServicePassword)
	f.Grant(lab.ServiceID, f.AddProject("service"), "member")
	lab.CMS, lab.QST = f.AddProject("CMS"), f.AddProject("QST")
	f.AddNetwork(lab.CMS, "CMS-lan", netip.MustParsePrefix("10.88.16.0/20"))
	f.AddNetwork(lab.QST, "QST-lan", netip.MustParsePrefix("10.88.32.0/20"))
	lab.Zangrand = f.AddUser("zangrand@infn.it", "zangrand@infn.it")
	lab.Lisa = f.AddUser("lisa@infn.it", "lisa@infn.it")
	lab.Mallory = f.AddUser("mallory@infn.it", "mallory@infn.it")
	for _, project := range []string{lab.CMS, lab.QST} {
		f.Grant(lab.ServiceID, project, "member")
		f.Grant(lab.Zangrand, project, "member")
		f.AddTrust(lab.Zangrand, lab.ServiceID, project, time.Time{})
		f.AddGroup(project, "K8S")
		f.SetQuota(project, Quota{Cores: 20, Instances: 10, MemoryMiB: 20480})
	}
	for _, user := range []string{lab.Lisa, lab.Mallory} {
		f.Grant(user, lab.QST, "member")
		f.AddTrust(user, lab.ServiceID, lab.QST, time.Time{})
	}
	f.AddKeyPair(lab.Zangrand, "my-key")
	f.AddKeyPair(lab.Lisa, "Lisa")
	f.AddFlavor(Flavor{Name: lab.Medium, VCPUs: 2, MemoryMiB: 4096, RootGiB: 25})
	f.AddFlavor(Flavor{Name: lab.Large, VCPUs: 4, MemoryMiB: 8192, RootGiB: 25})
	f.AddFlavor(Flavor{
		Name: lab.GPU, VCPUs: 50, MemoryMiB: 254976, RootGiB: 25, EphemeralGiB: 500,
		Specs: map[string]string{"pci_passthrough:alias": "a100:1"},
	})
	f.AddImage(lab.Image, "active")
	return lab
}

// Flavor is a flavor with its extra specs.
type Flavor struct {
	Name                                    string
	VCPUs, MemoryMiB, RootGiB, EphemeralGiB int
	Specs                                   map[string]string
}

// AddProject makes a project without quota limits.
func (f *Fake) AddProject(name string) (id string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.newProject(name).id
}

// AddUser makes a user.
func (f *Fake) AddUser(name, password string) (id string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	made := &user{id: newID(), name: name, password: password}
	f.users[made.id] = made
	return made.id
}

// SetPassword changes a user's password; his tokens stay valid.
func (f *Fake) SetPassword(user, password string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.users[user].password = password
}

// Grant gives a user a role in a project, with the roles it implies.
func (f *Fake) Grant(user, project, role string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.roles[role] == "" {
		f.roles[role] = newID()
	}
	f.projects[project].give(user, role)
}

// Expel takes all roles in a project from a user.
func (f *Fake) Expel(user, project string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.expel(user, f.projects[project])
}

// AddTrust makes an impersonating trust with the trustor's roles; it ends never if
// expires is zero.
func (f *Fake) AddTrust(trustor, trustee, project string, expires time.Time) (id string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	made := &trust{
		id: newID(), trustor: trustor, trustee: trustee, project: project, impersonation: true, expires: expires,
		roles: slices.Clone(f.projects[project].grants[trustor]),
	}
	f.trusts[made.id] = made
	return made.id
}

// DropTrusts deletes a user's trusts.
func (f *Fake) DropTrusts(trustor string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for id, one := range f.trusts {
		if one.trustor == trustor {
			delete(f.trusts, id)
		}
	}
}

// AddSecret makes an application credential of a user for a project.
func (f *Fake) AddSecret(user, project string) (id, secret string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	made := &applicationCredential{
		id: newID(), name: newID(), secret: newID(), user: user, project: project,
		roles: slices.Clone(f.projects[project].grants[user]),
	}
	f.secrets[made.id] = made
	return made.id, made.secret
}

// AddKeyPair gives a user a key pair.
func (f *Fake) AddKeyPair(user, name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.addKeyPair(user, name, "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ1c0bq0 "+name)
}

// AddFlavor makes a flavor.
func (f *Fake) AddFlavor(from Flavor) (id string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	made := &flavor{
		id: uuid.NewString(), name: from.Name, vcpus: from.VCPUs, ram: from.MemoryMiB, disk: from.RootGiB,
		ephemeral: from.EphemeralGiB, specs: from.Specs,
	}
	f.flavors[made.id] = made
	return made.id
}

// AddImage makes an image of a status.
func (f *Fake) AddImage(name, status string) (id string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	made := &image{id: uuid.NewString(), name: name, status: status}
	f.images[made.id] = made
	return made.id
}

// AddNetwork makes a network with addresses.
func (f *Fake) AddNetwork(project, name string, subnet netip.Prefix) (id string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	made := &network{id: uuid.NewString(), name: name, project: project}
	made.number(subnet)
	f.networks[made.id] = made
	return made.id
}

// AddGroup makes a security group.
func (f *Fake) AddGroup(project, name string) (id string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.newGroup(project, name, "").id
}

// SetQuota sets a project's limits.
func (f *Fake) SetQuota(project string, quota Quota) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.projects[project].quota = quota
}
