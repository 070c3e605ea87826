// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"path/filepath"
	"strconv"
)

const (
	loopback           = "127.0.0.1"
	defaultServiceCIDR = "10.96.0.0/16"

	// Ports are chosen below the range from which the kernel takes those of outgoing connections, so that nobody gets
	// them by accident between choosing and listening.
	lowestPort, highestPort = 15000, 32000
	portAttempts            = 100
)

var errNoPort = fmt.Errorf("no free port among %d tried between %d and %d", portAttempts, lowestPort, highestPort)

// DialFunc opens a connection, possibly from inside a network namespace.
type DialFunc func(ctx context.Context, network, address string) (net.Conn, error)

// Ports are the ports of a control plane; those left 0 are chosen.
type Ports struct {
	APIServer int `json:"apiServer"`
	Etcd      int `json:"etcd"`
	EtcdPeer  int `json:"etcdPeer"`
}

// Config describes a control plane.
type Config struct {
	// Name is used in messages.
	Name string `json:"name"`
	// Dir holds everything that the control plane writes. It is made when absent.
	Dir string `json:"dir"`
	// BinDir is what Build returned.
	BinDir string `json:"binDir"`
	// NetNS is the path of the network namespace to run in; empty means this process'. With one, all ports MUST be given.
	NetNS string `json:"netNS,omitempty"`
	// Advertise is the address that clients use. On loopback, the default, pods cannot reach the API server.
	Advertise string `json:"advertise"`
	// Bind is the address to listen on; empty means that of Advertise, or any address when that is not loopback.
	Bind string `json:"bind"`
	// Ports are the ports to listen on.
	Ports Ports `json:"ports"`
	// ServiceCIDR is where ClusterIPs come from.
	ServiceCIDR string `json:"serviceCIDR"`
	// PodCIDR, when given, makes the controller-manager hand out parts of it to nodes.
	PodCIDR string `json:"podCIDR,omitempty"`
	// SANs are further names and addresses in the API server's certificate.
	SANs []string `json:"sans,omitempty"`
	// APIServerArgs are further arguments of kube-apiserver. A --authorization-config replaces the default Node and RBAC.
	APIServerArgs []string `json:"apiServerArgs,omitempty"`
	// ControllerManager runs kube-controller-manager. Without it there are no ServiceAccounts, hence no pods by
	// default, and nothing is collected.
	ControllerManager bool `json:"controllerManager"`
	// Scheduler runs kube-scheduler.
	Scheduler bool `json:"scheduler"`
	// EndWithStarter has the kernel kill all processes when this one ends. It is meant for tests.
	EndWithStarter bool `json:"endWithStarter,omitempty"`
	// Dial, when not nil, is how this process reaches the API server.
	Dial DialFunc `json:"-"`
}

func (c Config) complete() (Config, error) {
	var errs []error
	if c.Name == "" {
		c.Name = filepath.Base(c.Dir)
	}
	if c.Dir == "" || c.BinDir == "" {
		errs = append(errs, errors.New("directory and program directory must be given"))
	}
	if c.Advertise == "" {
		c.Advertise = loopback
	}
	if _, err := netip.ParseAddr(c.Advertise); err != nil {
		errs = append(errs, fmt.Errorf("advertise address: %w", err))
	}
	if c.Bind == "" {
		c.Bind = "0.0.0.0"
		if c.advertisesLoopback() {
			c.Bind = c.Advertise
		}
	}
	if c.ServiceCIDR == "" {
		c.ServiceCIDR = defaultServiceCIDR
	}
	if _, err := netip.ParsePrefix(c.ServiceCIDR); err != nil {
		errs = append(errs, fmt.Errorf("service CIDR: %w", err))
	}
	if c.NetNS != "" && (c.Ports.APIServer == 0 || c.Ports.Etcd == 0 || c.Ports.EtcdPeer == 0) {
		errs = append(errs, errors.New("ports cannot be chosen in another network namespace"))
	}
	if err := errors.Join(errs...); err != nil {
		return c, fmt.Errorf("configuration of control plane %q: %w", c.Name, err)
	}
	return c, nil
}

func (c Config) advertisesLoopback() bool {
	addr, err := netip.ParseAddr(c.Advertise)
	return err == nil && addr.IsLoopback()
}

// server is the URL of the API server.
func (c Config) server() string { return serverURL(c.Advertise, c.Ports.APIServer) }

// choosePorts fills in the ports that are 0 with free ones and tells whether there were any.
func (c *Config) choosePorts(ctx context.Context) (chosen bool, err error) {
	taken := map[int]bool{}
	for _, port := range []*int{&c.Ports.APIServer, &c.Ports.Etcd, &c.Ports.EtcdPeer} {
		if *port != 0 {
			continue
		}
		if *port, err = freePort(ctx, taken); err != nil {
			return false, err
		}
		chosen = true
	}
	return chosen, nil
}

func freePort(ctx context.Context, taken map[int]bool) (int, error) {
	for range portAttempts {
		port, err := FreePort(ctx)
		if err != nil || !taken[port] {
			taken[port] = true
			return port, err
		}
	}
	return 0, errNoPort
}

// FreePort returns a port of this machine's loopback on which nobody listens now.
func FreePort(ctx context.Context) (int, error) {
	var listen net.ListenConfig
	for range portAttempts {
		port := lowestPort + rand.IntN(highestPort-lowestPort) //nolint:gosec // nothing depends on it being unguessable
		listener, err := listen.Listen(ctx, "tcp", net.JoinHostPort(loopback, strconv.Itoa(port)))
		if err == nil {
			return port, listener.Close()
		}
		if ctx.Err() != nil {
			return 0, ctx.Err()
		}
	}
	return 0, errNoPort
}
