// SPDX-License-Identifier: Apache-2.0

package network

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const (
	defaultBridge = "lan0"
	// portName is the name of the interface that a node sees.
	portName = "eth0"
	// maxDeviceName is IFNAMSIZ without the terminating zero.
	maxDeviceName = 15
)

// Config describes a cluster LAN.
type Config struct {
	// Name is the network namespace's name. Required.
	Name string
	// Bridge is the name of the bridge in it; lan0 when empty.
	Bridge string
	// Address is the bridge's address with the LAN's prefix length; 10.88.0.1/24
	// when it is the zero value.
	Address netip.Prefix
	// Extra are further addresses of the bridge, for services that live in the LAN.
	Extra []netip.Prefix
}

func (c *Config) complete() error {
	if c.Name == "" {
		return errors.New("network: a name is required")
	}
	if c.Bridge == "" {
		c.Bridge = defaultBridge
	}
	if !c.Address.IsValid() {
		c.Address = netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 88, 0, 1}), 24)
	}
	return nil
}

// Create makes the LAN: a network namespace that forwards packets between the
// interfaces plugged into its bridge and to wherever AddRoute points. Called on an
// existing LAN it adds what is missing.
func Create(ctx context.Context, config Config) error {
	if err := config.complete(); err != nil {
		return err
	}
	if err := CreateNamespace(ctx, config.Name); err != nil {
		return err
	}
	err := Do(ctx, Path(config.Name), func() error { return makeBridge(config) })
	if err != nil {
		return fmt.Errorf("set up network namespace %q: %w", config.Name, err)
	}
	return nil
}

func makeBridge(config Config) error {
	bridge := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: config.Bridge}}
	if err := netlink.LinkAdd(bridge); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("add bridge %s: %w", config.Bridge, err)
	}
	if err := setSysctls(map[string]string{
		"net/ipv4/ip_forward": "1",
		// Packets between two nodes' pods enter and leave by the bridge: neither tell the
		// nodes of a shorter way nor drop what seems to come from the wrong side.
		"net/ipv4/conf/all/send_redirects":                   "0",
		"net/ipv4/conf/default/send_redirects":               "0",
		"net/ipv4/conf/" + config.Bridge + "/send_redirects": "0",
		"net/ipv4/conf/all/rp_filter":                        "0",
		"net/ipv4/conf/default/rp_filter":                    "0",
		"net/ipv4/conf/" + config.Bridge + "/rp_filter":      "0",
	}); err != nil {
		return err
	}
	link, err := netlink.LinkByName(config.Bridge)
	if err != nil {
		return fmt.Errorf("find bridge %s: %w", config.Bridge, err)
	}
	for _, address := range append([]netip.Prefix{config.Address}, config.Extra...) {
		if err := setAddress(link, address); err != nil {
			return err
		}
	}
	return linkUp(config.Bridge)
}

// AddRoute makes the LAN send packets for destination to the node with address via.
// A route that exists is replaced.
func AddRoute(ctx context.Context, name string, destination netip.Prefix, via netip.Addr) error {
	err := Do(ctx, Path(name), func() error { return setRoute(destination, via) })
	if err != nil {
		return fmt.Errorf("route %s via %s: %w", destination, via, err)
	}
	return nil
}

// RemoveRoute undoes AddRoute. It is no error if there is no such route.
func RemoveRoute(ctx context.Context, name string, destination netip.Prefix) error {
	err := Do(ctx, Path(name), func() error {
		err := netlink.RouteDel(&netlink.Route{Dst: ipNet(destination.Masked())})
		if errors.Is(err, unix.ESRCH) {
			return nil
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("remove route to %s: %w", destination, err)
	}
	return nil
}

// Refuse makes a namespace answer that nothing can be reached at the addresses of
// prefix for which it has no closer route. Without it a packet for a pod that is gone
// would go back and forth between its node and the LAN.
func Refuse(ctx context.Context, name string, prefix netip.Prefix) error {
	err := Do(ctx, Path(name), func() error {
		return netlink.RouteReplace(&netlink.Route{Dst: ipNet(prefix.Masked()), Type: unix.RTN_UNREACHABLE})
	})
	if err != nil {
		return fmt.Errorf("refuse packets for %s: %w", prefix, err)
	}
	return nil
}

// Port plugs a namespace into a LAN.
type Port struct {
	// LAN is the LAN's namespace, Bridge its bridge (lan0 when empty).
	LAN, Bridge string
	// Namespace is the one to plug in; it MUST exist.
	Namespace string
	// Address is its address with the LAN's prefix length, Gateway its default route.
	Address netip.Prefix
	Gateway netip.Addr
}

// Attach gives a namespace an interface eth0 on the LAN, an address and a default
// route, and lets it forward packets. Called again it does nothing new.
func Attach(ctx context.Context, port Port) error {
	if port.Bridge == "" {
		port.Bridge = defaultBridge
	}
	plugged := false
	err := Do(ctx, Path(port.Namespace), func() error {
		_, err := netlink.LinkByName(portName)
		plugged = err == nil
		return nil
	})
	if err == nil && !plugged {
		err = plug(ctx, port)
	}
	if err == nil {
		err = Do(ctx, Path(port.Namespace), func() error { return setUpPort(port) })
	}
	if err != nil {
		return fmt.Errorf("attach %q to %q: %w", port.Namespace, port.LAN, err)
	}
	return nil
}

func plug(ctx context.Context, port Port) error {
	inside, err := os.Open(Path(port.Namespace))
	if err != nil {
		return err
	}
	defer func() { _ = inside.Close() }()
	return Do(ctx, Path(port.LAN), func() error {
		bridge, err := netlink.LinkByName(port.Bridge)
		if err != nil {
			return fmt.Errorf("find bridge %s: %w", port.Bridge, err)
		}
		name := DeviceName("v", port.Namespace)
		// A port left by a namespace that is still dying would be in the way.
		if old, err := netlink.LinkByName(name); err == nil {
			if err := netlink.LinkDel(old); err != nil {
				return fmt.Errorf("remove old port %s: %w", name, err)
			}
		}
		veth := &netlink.Veth{
			LinkAttrs:     netlink.LinkAttrs{Name: name, MasterIndex: bridge.Attrs().Index},
			PeerName:      portName,
			PeerNamespace: netlink.NsFd(inside.Fd()),
		}
		if err := netlink.LinkAdd(veth); err != nil {
			return fmt.Errorf("add port %s: %w", name, err)
		}
		return linkUp(name)
	})
}

func setUpPort(port Port) error {
	link, err := netlink.LinkByName(portName)
	if err != nil {
		return err
	}
	if err := setAddress(link, port.Address); err != nil {
		return err
	}
	if err := linkUp(portName); err != nil {
		return err
	}
	if err := setSysctls(map[string]string{
		"net/ipv4/ip_forward":              "1",
		"net/ipv4/conf/all/rp_filter":      "0",
		"net/ipv4/conf/default/rp_filter":  "0",
		"net/ipv4/conf/all/send_redirects": "0",
	}); err != nil {
		return err
	}
	return setRoute(netip.PrefixFrom(netip.IPv4Unspecified(), 0), port.Gateway)
}

// DeviceName is an interface name that fits the kernel's limit: prefix, then a hash
// of parts.
func DeviceName(prefix string, parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	name := prefix + hex.EncodeToString(sum[:])
	return name[:min(len(name), maxDeviceName)]
}

func linkUp(name string) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find %s: %w", name, err)
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("bring %s up: %w", name, err)
	}
	return nil
}

func setAddress(link netlink.Link, address netip.Prefix) error {
	if err := netlink.AddrReplace(link, &netlink.Addr{IPNet: ipNet(address)}); err != nil {
		return fmt.Errorf("give %s the address %s: %w", link.Attrs().Name, address, err)
	}
	return nil
}

func setRoute(destination netip.Prefix, via netip.Addr) error {
	return netlink.RouteReplace(&netlink.Route{Dst: ipNet(destination.Masked()), Gw: via.AsSlice()})
}

// ipNet keeps the host part of prefix, which an interface's address has.
func ipNet(prefix netip.Prefix) *net.IPNet {
	address := prefix.Addr()
	return &net.IPNet{IP: address.AsSlice(), Mask: net.CIDRMask(prefix.Bits(), address.BitLen())}
}

// setSysctls writes kernel parameters of the calling thread's network namespace.
func setSysctls(values map[string]string) error {
	for key, value := range values {
		path := filepath.Join("/proc/sys", key)
		if err := os.WriteFile(path, []byte(value), 0o600); err != nil {
			return fmt.Errorf("set %s: %w", strings.ReplaceAll(key, "/", "."), err)
		}
	}
	return nil
}
