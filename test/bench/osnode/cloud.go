// SPDX-License-Identifier: Apache-2.0

//go:build bench

package main

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/cloudveneto/caas/internal/lab/hypervisor"
	"github.com/cloudveneto/caas/osnode/openstack/openstacktest"
)

const (
	providerID = "cloudveneto"
	imageName  = "almalinux9-k8s-node"
	flavorName = "cloudveneto.medium"
	keyName    = "my-key"
	serviceKey = "osnode-controller"

	flavorVCPUs, flavorMiB = 2, 4096
)

// cloudOptions shape a stand-in of OpenStack.
type cloudOptions struct {
	projects int
	// build and deletion are how long servers take to come and to go.
	build, deletion time.Duration
	// joins says which servers boot; none do when it is nil.
	joins func(openstacktest.Instance) bool
	// faults, when not nil, are between the controller and everything.
	faults *openstacktest.Faults
}

// cloud is a stand-in of OpenStack: real HTTP, and servers that join like kubelets.
type cloud struct {
	fake         *openstacktest.Fake
	ledger       *ledger
	passwordFile string
	tenants      []*tenant

	going sync.WaitGroup
}

func (w *world) startCloud(ctx context.Context, o cloudOptions) (*cloud, error) {
	c := &cloud{ledger: newLedger(), passwordFile: filepath.Join(w.dir, "password")}
	if err := os.WriteFile(c.passwordFile, []byte(serviceKey), 0o600); err != nil {
		return nil, fmt.Errorf("write password: %w", err)
	}
	ctx = context.WithoutCancel(ctx)
	c.fake = openstacktest.Start(openstacktest.Options{
		Build: o.build, Deletion: o.deletion,
		Booted: func(booted openstacktest.Instance) {
			if o.joins != nil && o.joins(booted) {
				_ = w.joiner.Spawn(ctx, machine(booted)) // it refuses only when it is closed
			}
		},
		Deleted: func(gone openstacktest.Instance) {
			c.ledger.remove(gone.ID)
			c.going.Go(func() { _ = w.joiner.Destroy(ctx, gone.ID) }) // as above
		},
		Middleware: func(next http.Handler) http.Handler {
			handler := c.ledger.wrap(next)
			if o.faults != nil {
				handler = o.faults.Wrap(handler)
			}
			return c.ledger.counted(handler)
		},
	})
	c.furnish(o.projects)
	for _, t := range c.tenants {
		if err := w.admit(ctx, t); err != nil {
			c.close()
			return nil, err
		}
	}
	return c, nil
}

// machine is a server as the hypervisor sees it.
func machine(from openstacktest.Instance) hypervisor.Server {
	nic := hypervisor.NIC{Network: "lan"}
	for _, address := range from.Addresses {
		nic.IPs = append(nic.IPs, netip.PrefixFrom(address, 20))
	}
	return hypervisor.Server{
		UUID: from.ID, Name: from.Name, Hostname: from.Name, ProjectID: from.ProjectID, UserID: from.UserID, Image: from.Image,
		Flavor:   hypervisor.Flavor{Name: from.Flavor, VCPUs: from.VCPUs, RAM: from.MemoryMiB},
		Metadata: from.Metadata, UserData: from.UserData, NICs: []hypervisor.NIC{nic},
	}
}

// furnish makes projects with a user in each, who has let the platform act for him.
func (c *cloud) furnish(projects int) {
	f := c.fake
	service := f.AddUser(serviceKey, serviceKey)
	f.Grant(service, f.AddProject("service"), "member")
	f.AddFlavor(openstacktest.Flavor{Name: flavorName, VCPUs: flavorVCPUs, MemoryMiB: flavorMiB, RootGiB: 25})
	f.AddImage(imageName, "active")
	for i := range projects {
		t := newTenant(i)
		t.projectID, t.userID = f.AddProject(t.projectName), f.AddUser(t.userName, t.userName)
		f.Grant(service, t.projectID, "member")
		f.Grant(t.userID, t.projectID, "member")
		f.AddTrust(t.userID, service, t.projectID, time.Time{})
		f.AddKeyPair(t.userID, t.key)
		f.AddGroup(t.projectID, "K8S")
		f.AddNetwork(t.projectID, t.projectName+"-lan", netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 16 + byte(i), 0, 0}), 20))
		c.tenants = append(c.tenants, t)
	}
}

func newTenant(i int) *tenant {
	return &tenant{
		namespace: fmt.Sprintf("bench-%d", i), projectName: fmt.Sprintf("BENCH-%d", i), userName: fmt.Sprintf("user-%d@infn.it", i),
		flavor: flavorName, key: keyName,
	}
}

// provider is the section of the controller's configuration.
func (c *cloud) provider() object { return provider(c.fake.AuthURL(), c.passwordFile, imageName) }

func provider(authURL, passwordFile, image string) object {
	return object{
		"id": providerID, "displayName": "CloudVeneto", "authURL": authURL,
		"identity": object{"userName": serviceKey, "passwordFile": passwordFile, "project": "service"},
		"regions":  []string{openstacktest.Region},
		"defaults": object{"availabilityZone": "nova", "image": image, "securityGroups": []string{"K8S"}},
		"networks": []string{"{{.ProjectName}}-lan"},
	}
}

// things are how many servers, ports and volumes there are.
func (c *cloud) things() int {
	n := len(c.fake.Servers(""))
	for _, t := range c.tenants {
		n += c.fake.Ports(t.projectID) + c.fake.Volumes(t.projectID)
	}
	return n
}

func (c *cloud) close() {
	c.fake.Close()
	c.going.Wait()
}
