// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"net"
	"net/netip"

	"github.com/cloudveneto/caas/internal/lab/kube"
)

// Forward is forward, for tests.
func Forward(ctx context.Context, listener net.Listener, dial kube.DialFunc, address string) {
	forward(ctx, listener, dial, address)
}

// KillInNamespace kills what is in a network namespace, for tests.
func KillInNamespace(ctx context.Context, path string) error { return killAll(ctx, inNamespace(path)) }

// RunStep is runStep, for tests.
func RunStep(ctx context.Context, progress func(Progress), name string, do func(ctx context.Context, detail func(string)) error) error {
	return runStep(ctx, progress, name, do)
}

// CheckSpace is checkSpace, for tests.
func CheckSpace(dir string) error { return checkSpace(dir) }

// CheckWatchers is checkWatchers, for tests.
func CheckWatchers(proc string, wanted int) error { return checkWatchers(proc, wanted) }

// NodeAddresses are the addresses and pod subnets of all nodes that the plan has room for, by node.
func NodeAddresses() (addresses map[string]netip.Addr, pods map[string]netip.Prefix) {
	addresses, pods = map[string]netip.Addr{}, map[string]netip.Prefix{}
	for _, p := range plans() {
		for _, n := range p.nodes(maxNodes) {
			addresses[n.name], pods[n.name] = n.address, n.podSubnet
		}
	}
	return addresses, pods
}

// Networks are all networks of the plan.
func Networks() []netip.Prefix {
	networks := []netip.Prefix{onLAN(gateway()).Masked()}
	for _, p := range plans() {
		networks = append(networks, p.serviceCIDR, p.podCIDR)
	}
	return networks
}
