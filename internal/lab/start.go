// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/cloudveneto/caas/internal/lab/dns"
	"github.com/cloudveneto/caas/internal/lab/kube"
	"github.com/cloudveneto/caas/internal/lab/network"
	"github.com/cloudveneto/caas/internal/lab/proc"
)

const (
	servicesTimeout = time.Minute
	probeInterval   = 50 * time.Millisecond
	probeTimeout    = time.Second
)

// makeNetwork makes the LAN with the addresses of its gateway and name servers.
func (l *Lab) makeNetwork(ctx context.Context, _ func(string)) error {
	config := network.Config{Name: l.lan(), Address: onLAN(gateway())}
	for _, p := range plans() {
		config.Extra = append(config.Extra, alone(p.dns))
	}
	config.Extra = append(config.Extra, alone(OpenStackAddress()))
	if l.state.OpenStack {
		for _, n := range ProjectNetworks() {
			config.Extra = append(config.Extra, netip.PrefixFrom(n.Gateway, n.Subnet.Bits()))
		}
	}
	return network.Create(ctx, config)
}

// startControlPlanes starts both control planes, with Keystone beside them, and lets nodes bootstrap themselves.
func (l *Lab) startControlPlanes(ctx context.Context, cfg Config, detail func(string)) error {
	if err := l.choose(ctx); err != nil {
		return err
	}
	if err := l.prepareTenancy(); err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return l.startKeystone(ctx, cfg, detail) })
	for _, cluster := range l.clusters() {
		group.Go(func() error { return cluster.start(ctx) })
	}
	return group.Wait()
}

// choose makes bootstrap tokens and chooses ports of this machine, once in the lab's life.
func (l *Lab) choose(ctx context.Context) error {
	if l.state.Tokens == nil {
		l.state.Tokens, l.state.HostPorts = map[string]string{}, map[string]int{}
	}
	for _, p := range plans() {
		if l.state.Tokens[p.name] != "" {
			continue
		}
		token, err := kube.NewToken()
		if err != nil {
			return err
		}
		l.state.Tokens[p.name] = token
	}
	for _, one := range l.doors() {
		if l.state.HostPorts[one.name] != 0 {
			continue
		}
		port, err := kube.FreePort(ctx)
		if err != nil {
			return err
		}
		l.state.HostPorts[one.name] = port
	}
	return l.save()
}

func (c *Cluster) controlPlane() kube.Config {
	config := kube.Config{
		Name: c.Name, Dir: c.dir(), BinDir: c.lab.state.Binaries, NetNS: c.lab.NetNS(), Ports: c.plan.ports,
		Advertise: gateway().String(), Bind: gateway().String(), ServiceCIDR: c.plan.serviceCIDR.String(),
		ControllerManager: true, Scheduler: true, Dial: network.Dialer(c.lab.NetNS()), APIServerArgs: c.plan.apiServerArgs,
	}
	if c.Name == CaaS {
		config.APIServerArgs = append(config.APIServerArgs, c.lab.tenancyArgs()...)
	}
	return config
}

func (c *Cluster) start(ctx context.Context) error {
	if _, err := kube.Start(ctx, c.controlPlane()); err != nil {
		return err
	}
	client, err := c.client()
	if err != nil {
		return err
	}
	if err := kube.AllowBootstrap(ctx, client, c.lab.state.Tokens[c.Name]); err != nil {
		return err
	}
	return errors.Join(
		c.UserKubeconfig(c.Kubeconfig(), c.Server(), "kubernetes-admin", "system:masters"),
		c.UserKubeconfig(c.proxyKubeconfig(), c.InsideServer(), "system:kube-proxy"),
	)
}

func (c *Cluster) proxyKubeconfig() string { return c.dir("pki", "kube-proxy.kubeconfig") }

// startServices starts the supervisor, the name servers, and the webhooks of the CaaS cluster.
func (l *Lab) startServices(ctx context.Context, detail func(string)) error {
	detail("supervisor")
	if err := l.startSupervisor(ctx); err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	for _, cluster := range l.clusters() {
		group.Go(func() error { return cluster.startDNS(ctx) })
	}
	group.Go(func() error { return l.startTenancy(ctx) })
	detail("name servers and webhooks")
	return group.Wait()
}

func (l *Lab) startSupervisor(ctx context.Context) error {
	process, err := proc.Load(l.runDir(), supervisorName)
	if err != nil || !process.Alive() {
		if err := l.checkHostPorts(ctx); err != nil {
			return err
		}
		process, err = proc.Start(ctx, l.runDir(), proc.Spec{
			Name: supervisorName, Path: l.executable(), Args: []string{"supervise", l.Name()},
			Env: []string{StateEnv + "=" + stateDir()}, Dir: "/", LogFile: l.logFile(supervisorName),
		})
		if err != nil {
			return err
		}
	}
	for _, one := range l.doors() {
		if err := awaitPort(ctx, process, (&net.Dialer{}).DialContext, l.hostAddress(one.name)); err != nil {
			return err
		}
	}
	return awaitPort(ctx, process, network.Dialer(l.NetNS()), l.Registry())
}

// checkHostPorts tells which of the lab's ports somebody else took while it was not running.
func (l *Lab) checkHostPorts(ctx context.Context) error {
	var errs []error
	for _, one := range l.doors() {
		address := l.hostAddress(one.name)
		listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s, the lab's port for %s, is in use by another program: %w", address, one.name, err))
			continue
		}
		errs = append(errs, listener.Close())
	}
	return errors.Join(errs...)
}

// awaitPort returns when the process that is to listen on address does so.
func awaitPort(ctx context.Context, process *proc.Process, dial kube.DialFunc, address string) error {
	ctx, cancel := context.WithTimeout(ctx, servicesTimeout)
	defer cancel()
	for {
		probe, done := context.WithTimeout(ctx, probeTimeout)
		conn, err := dial(probe, "tcp", address)
		done()
		if err == nil {
			return conn.Close()
		}
		if !process.Alive() {
			return fmt.Errorf("%s ended; the end of its log:\n%s", process.Name(), tail(process.Spec().LogFile))
		}
		pause(ctx, probeInterval)
		if ctx.Err() != nil {
			return fmt.Errorf("%s does not listen on %s: %w", process.Name(), address, err)
		}
	}
}

// tail returns the end of a log.
func tail(path string) string {
	const length = 2000
	data, err := os.ReadFile(filepath.Clean(path))
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(data[max(0, len(data)-length):]))
}

// startDNS starts the cluster's name server. Besides cluster.local it answers for a zone named after the cluster, for which
// it is asked by the other cluster's, so that pods find Services across clusters.
func (c *Cluster) startDNS(ctx context.Context) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	if err := dns.Allow(ctx, client); err != nil {
		return err
	}
	kubeconfig := c.dir("pki", "coredns.kubeconfig")
	if !exists(kubeconfig) {
		if err := c.UserKubeconfig(kubeconfig, c.InsideServer(), dns.User); err != nil {
			return err
		}
	}
	config := dns.Config{
		Name: dnsName(c.Name), Binary: c.lab.state.CoreDNS, Dir: c.lab.runDir(), NetNS: c.lab.NetNS(), Address: c.plan.dns,
		Kubeconfig: kubeconfig, Domain: clusterDomain, Alias: c.zone(), Peers: map[string]netip.Addr{},
	}
	for _, other := range c.lab.clusters() {
		if other.Name != c.Name {
			config.Peers[other.zone()] = other.plan.dns
		}
	}
	_, err = dns.Start(ctx, config)
	return err
}

// zone is the name by which pods of the other cluster ask for this one's Services: SERVICE.NAMESPACE.svc.caas.local.
func (c *Cluster) zone() string { return c.Name + ".local" }

// addServiceRoute sends what the LAN has for the cluster's ClusterIPs to a node, whose kube-proxy knows them.
func (c *Cluster) addServiceRoute(ctx context.Context) error {
	nodes := c.lab.nodesOf(c.plan)
	if len(nodes) == 0 {
		return nil
	}
	return network.AddRoute(ctx, c.lab.lan(), c.plan.serviceCIDR, nodes[0].address)
}
