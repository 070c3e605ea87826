// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"fmt"
	"net"

	"golang.org/x/sync/errgroup"

	"github.com/cloudveneto/caas/internal/lab/kube"
	"github.com/cloudveneto/caas/internal/lab/network"
	"github.com/cloudveneto/caas/internal/lab/registry"
	"github.com/cloudveneto/caas/internal/logging"
)

// Supervise does, until ctx is done, what a lab needs somebody for: it forwards ports of this machine to the API servers
// and Keystone, runs the registry inside the LAN, and approves the nodes' certificates. Up runs it as a process.
func Supervise(ctx context.Context, name string) error {
	l, err := Open(name)
	if err != nil {
		return err
	}
	// Everything is listened on before anything is served: what fails, fails before others rely on the rest.
	images, err := network.Listen(ctx, l.NetNS(), "tcp", registryAddress().String())
	if err != nil {
		return fmt.Errorf("listen for registry: %w", err)
	}
	listeners := map[door]net.Listener{}
	for _, one := range l.doors() {
		if listeners[one], err = (&net.ListenConfig{}).Listen(ctx, "tcp", l.hostAddress(one.name)); err != nil {
			return fmt.Errorf("listen for %s: %w", one.name, err)
		}
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return registry.Serve(ctx, images, l.path("registry")) })
	for one, listener := range listeners {
		group.Go(func() error {
			forward(ctx, listener, network.Dialer(l.NetNS()), one.target)
			return nil
		})
	}
	for _, cluster := range l.clusters() {
		group.Go(func() error { return cluster.approve(ctx) })
		if cluster.Name == CaaS {
			group.Go(func() error { return cluster.route(ctx) })
		}
	}
	logging.From(ctx).InfoContext(ctx, "supervising lab", "lab", name)
	return group.Wait()
}

// approve approves the certificates of the cluster's own nodes.
func (c *Cluster) approve(ctx context.Context) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	addresses := map[string][]string{}
	for _, node := range c.plan.nodes(maxNodes) {
		addresses[node.name] = []string{node.address.String()}
	}
	approver := &kube.Approver{
		Client:       client,
		Addresses:    func(node string) []string { return addresses[node] },
		Bootstrapper: kube.BootstrapUser(c.lab.state.Tokens[c.Name]),
		Logger:       logging.From(ctx).With("cluster", c.Name),
	}
	return approver.Run(ctx)
}
