// SPDX-License-Identifier: Apache-2.0

package openstack

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"github.com/cloudveneto/caas/internal/lab/gobuild"
	"github.com/cloudveneto/caas/internal/lab/network"
)

// Driver says what Nova makes servers of.
type Driver string

// The drivers.
const (
	// Identity has no servers: Keystone runs alone. A site can get the rest later, with another driver.
	Identity Driver = "identity"
	// Hook leaves servers to a hypervisor behind a Unix socket.
	Hook Driver = "hook"
	// Libvirt makes servers virtual machines, emulated by QEMU.
	Libvirt Driver = "libvirt"
)

const (
	defaultRegion   = "regionOne"
	defaultComputes = 2
	defaultBridge   = "lan0"
)

// defaultCapacity is plenty: projects' quotas are what limits.
func defaultCapacity() Capacity {
	return Capacity{VCPUs: 1000, MemoryMiB: 1_000_000, DiskGiB: 600_000, GPUs: 8}
}

// Capacity is what one compute host has.
type Capacity struct {
	VCPUs, MemoryMiB, DiskGiB int
	// GPUs are devices with the alias a100.
	GPUs int
}

// TLS is a server's certificate.
type TLS struct{ CertFile, KeyFile string }

// Config describes a site.
type Config struct {
	// Dir holds everything of the site. Required, and MUST be absolute.
	Dir string
	// Cache has the databases' templates; the lab's cache directory when empty.
	Cache string
	// LogDir has the services' logs; log in Dir when empty.
	LogDir string
	// NetNS is the path of the network namespace of the services; this process's own when empty.
	NetNS string
	// Address is where the services listen, 10.88.0.5 when it is the zero value. It MUST be an address of the namespace.
	Address netip.Addr
	// Region is the region's name.
	Region string
	// Driver is Hook when empty.
	Driver Driver
	// HypervisorSocket is where the hypervisor listens. Required by Hook.
	HypervisorSocket string
	// Computes is how many compute hosts there are; Libvirt has one.
	Computes int
	// Capacity is each host's size, plenty when it is the zero value. Libvirt has the machine's own.
	Capacity Capacity
	// Bridge is the bridge of the namespace that Libvirt plugs servers into.
	Bridge string
	// Images replace the content of the images of these names, which has no meaning in Hook.
	Images []Image
	// KeystoneTLS, when not nil, makes Keystone also listen for https.
	KeystoneTLS *TLS
	// EndWithStarter has the kernel kill the services when this process ends. It is meant for tests.
	EndWithStarter bool
	// Progress, when not nil, is told what is being done, by one goroutine at a time.
	Progress func(step string) `json:"-"`
}

func (c Config) complete() (Config, error) {
	var errs []error
	if !filepath.IsAbs(c.Dir) {
		errs = append(errs, fmt.Errorf("the site's directory %q is not absolute", c.Dir))
	}
	if c.Cache == "" {
		var err error
		c.Cache, err = gobuild.CacheDir()
		errs = append(errs, err)
	}
	setDefault(&c.LogDir, filepath.Join(c.Dir, "log"))
	setDefault(&c.Address, netip.AddrFrom4([4]byte{10, 88, 0, 5}))
	setDefault(&c.Region, defaultRegion)
	setDefault(&c.Driver, Hook)
	setDefault(&c.Computes, defaultComputes)
	setDefault(&c.Capacity, defaultCapacity())
	setDefault(&c.Bridge, defaultBridge)
	switch {
	case c.Driver == Hook && c.HypervisorSocket == "":
		errs = append(errs, errors.New("a hypervisor's socket is needed"))
	case c.Driver == Libvirt:
		c.Computes = 1
	case c.Driver != Hook && c.Driver != Identity:
		errs = append(errs, fmt.Errorf("no driver %q", c.Driver))
	}
	if c.Computes < 1 {
		errs = append(errs, fmt.Errorf("cannot have %d compute hosts", c.Computes))
	}
	c.Progress = oneAtATime(c.Progress)
	for _, text := range []string{c.Dir, c.Region} {
		if strings.ContainsAny(text, " \t\n$%?#{}") { // they become part of configuration files and URLs
			errs = append(errs, fmt.Errorf("%q has characters that OpenStack's configuration gives a meaning to", text))
		}
	}
	return c, errors.Join(errs...)
}

// oneAtATime makes a function that services being started together may call.
func oneAtATime(report func(string)) func(string) {
	var mu sync.Mutex
	return func(step string) {
		mu.Lock()
		defer mu.Unlock()
		if report != nil {
			report(step)
		}
	}
}

func setDefault[T comparable](value *T, unset T) {
	var zero T
	if *value == zero {
		*value = unset
	}
}

// dialer dials from inside the site's namespace.
func (c Config) dialer() func(ctx context.Context, network, address string) (net.Conn, error) {
	if c.NetNS == "" {
		return (&net.Dialer{}).DialContext
	}
	return network.Dialer(c.NetNS)
}

// transport is for one conversation with the services; it uses no proxy.
func (c Config) transport() *http.Transport {
	return &http.Transport{DialContext: c.dialer(), MaxIdleConnsPerHost: 16}
}

// The ports of the services.
const (
	keystonePort    = 5000
	keystoneTLSPort = 5443
	placementPort   = 8778
	glancePort      = 9292
	neutronPort     = 9696
	novaPort        = 8774
)

// at is a service's address.
func (c Config) at(port int) string {
	return net.JoinHostPort(c.Address.String(), strconv.Itoa(port))
}

func (c Config) path(elements ...string) string {
	return filepath.Join(append([]string{c.Dir}, elements...)...)
}

func (c Config) logFile(process string) string {
	return filepath.Join(c.LogDir, process+".log")
}

func (c Config) runDir() string { return c.path("run") }
