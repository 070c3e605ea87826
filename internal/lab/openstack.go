// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"net/netip"
)

// ProjectNetwork is the network of an OpenStack project in the lab's plan.
type ProjectNetwork struct {
	// Project is the project's name; the network is called after it.
	Project string
	// Subnet is the network's, Gateway its router, which is the lab's LAN itself.
	Subnet  netip.Prefix
	Gateway netip.Addr
	// First and Last are the addresses that servers get.
	First, Last netip.Addr
	// firstPods is the third byte of the first server's pods' network.
	firstPods int
}

// ProjectNetworks are the networks of the projects that every OpenStack of the lab has. Their servers are plugged into
// the lab's LAN.
func ProjectNetworks() []ProjectNetwork {
	network := func(project string, third byte, firstPods int) ProjectNetwork {
		at := func(host byte) netip.Addr { return netip.AddrFrom4([4]byte{10, 88, third, host}) }
		return ProjectNetwork{
			Project: project, Subnet: netip.PrefixFrom(at(0), 20), Gateway: at(1), First: at(10), Last: at(109),
			firstPods: firstPods,
		}
	}
	return []ProjectNetwork{network("CMS", 16, 50), network("QST", 32, 150)}
}

// PodSubnet is the network of the pods on a server. It depends on the server's address alone, so that a machine can
// work out its own; ok tells whether it has one.
func PodSubnet(server netip.Addr) (subnet netip.Prefix, ok bool) {
	for _, n := range ProjectNetworks() {
		if server.Compare(n.First) < 0 || server.Compare(n.Last) > 0 {
			continue
		}
		third := n.firstPods + int(server.As4()[3]) - int(n.First.As4()[3])
		return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 201, byte(third)}), 24), true //nolint:gosec // below 250 by the plan
	}
	return netip.Prefix{}, false
}

// OpenStackAddress is where the OpenStack services listen inside the LAN.
func OpenStackAddress() netip.Addr { return lanAddress(5) }
