// SPDX-License-Identifier: Apache-2.0

package lab

import "net/netip"

// Proxy is the URL, for this machine, of the proxy through which tenants see what is theirs without saying so. It is known
// by the CA of the CaaS cluster.
func (l *Lab) Proxy() string { return "https://" + l.hostAddress(proxyDoor) }

// InsideProxy is the proxy's URL inside the LAN.
func (l *Lab) InsideProxy() string { return "https://" + l.insideProxy() }

func (l *Lab) insideProxy() string { return netip.AddrPortFrom(gateway(), proxyPort).String() }
