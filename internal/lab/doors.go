// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"net"
	"net/netip"
	"strconv"
)

// Names of the doors besides the clusters'.
const (
	keystoneDoor = "keystone"
	proxyDoor    = "proxy"
)

const (
	keystoneTLSPort = 5443
	proxyPort       = 8443
)

// door is a port on this machine's loopback that the supervisor forwards into the LAN.
type door struct{ name, target string }

func (l *Lab) doors() []door {
	var all []door
	for _, p := range plans() {
		all = append(all, door{name: p.name, target: p.apiServer().String()})
	}
	if !l.state.NoTenancy {
		all = append(all,
			door{name: keystoneDoor, target: netip.AddrPortFrom(OpenStackAddress(), keystoneTLSPort).String()},
			door{name: proxyDoor, target: netip.AddrPortFrom(gateway(), proxyPort).String()},
		)
	}
	return all
}

// hostAddress is where the supervisor forwards a door to.
func (l *Lab) hostAddress(door string) string {
	return net.JoinHostPort(loopback, strconv.Itoa(l.state.HostPorts[door]))
}
