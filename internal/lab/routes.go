// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/tools/cache"

	"github.com/cloudveneto/caas/internal/lab/network"
	"github.com/cloudveneto/caas/internal/logging"
)

const (
	routesResync = time.Minute
	routeTimeout = 10 * time.Second
)

// route sends the LAN's packets for the pods of OpenStack's servers to these servers, as a router of a real site would
// learn to. It works for machines of the hypervisor and for virtual machines alike.
func (c *Cluster) route(ctx context.Context) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	factory := informers.NewSharedInformerFactory(client, routesResync)
	apply := func(node any, change func(ctx context.Context, subnet netip.Prefix, server netip.Addr) error) {
		for _, server := range serversOf(node) {
			subnet, routed := PodSubnet(server)
			if !routed {
				continue
			}
			ctx, cancel := context.WithTimeout(ctx, routeTimeout)
			if err := change(ctx, subnet, server); err != nil && ctx.Err() == nil {
				logging.From(ctx).ErrorContext(ctx, "route not changed", "subnet", subnet.String(), "server", server.String(), "error", err)
			}
			cancel()
		}
	}
	add := func(node any) {
		apply(node, func(ctx context.Context, subnet netip.Prefix, server netip.Addr) error {
			return network.AddRoute(ctx, c.lab.lan(), subnet, server)
		})
	}
	_, err = factory.Core().V1().Nodes().Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: add, UpdateFunc: func(_, node any) { add(node) }, DeleteFunc: func(node any) {
			apply(node, func(ctx context.Context, subnet netip.Prefix, _ netip.Addr) error {
				return network.RemoveRoute(ctx, c.lab.lan(), subnet)
			})
		},
	})
	if err != nil {
		return fmt.Errorf("watch nodes: %w", err)
	}
	factory.Start(ctx.Done())
	<-ctx.Done()
	factory.Shutdown()
	return nil
}

// serversOf are the addresses of a Node that are in the LAN.
func serversOf(object any) []netip.Addr {
	if deleted, isUnknown := object.(cache.DeletedFinalStateUnknown); isUnknown {
		object = deleted.Obj
	}
	node, isNode := object.(*corev1.Node)
	if !isNode {
		return nil
	}
	var servers []netip.Addr
	for _, address := range node.Status.Addresses {
		if parsed, err := netip.ParseAddr(address.Address); err == nil && address.Type == corev1.NodeInternalIP {
			servers = append(servers, parsed)
		}
	}
	return servers
}
