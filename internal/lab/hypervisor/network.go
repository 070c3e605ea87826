// SPDX-License-Identifier: Apache-2.0

package hypervisor

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/cloudveneto/caas/internal/lab/network"
)

const (
	interfaceName = "eth0"
	// lastResort is the metric of a route that any other one beats.
	lastResort = 1 << 16
	// removeTimeout bounds how long the kernel is waited for to let go of files.
	removeTimeout = 20 * time.Second
)

// announce gives the machine's interface its MAC address and has the kernel tell the LAN,
// which may remember that of an earlier machine with the same address.
func announce(ctx context.Context, netNS, mac string) error {
	hardware, err := net.ParseMAC(mac)
	if err != nil {
		return err
	}
	err = network.Do(ctx, netNS, func() error {
		link, err := netlink.LinkByName(interfaceName)
		if err != nil {
			return err
		}
		if err := os.WriteFile("/proc/sys/net/ipv4/conf/"+interfaceName+"/arp_notify", []byte("1"), 0o600); err != nil {
			return err
		}
		return netlink.LinkSetHardwareAddr(link, hardware)
	})
	if err != nil {
		return fmt.Errorf("set address %s: %w", mac, err)
	}
	return nil
}

// refuseLast makes the machine answer that pods which are not there cannot be reached. The
// machine's own route to its pods, whatever makes it, goes first.
func refuseLast(ctx context.Context, netNS string, pods netip.Prefix) error {
	err := network.Do(ctx, netNS, func() error {
		return netlink.RouteReplace(&netlink.Route{
			Dst:  &net.IPNet{IP: pods.Masked().Addr().AsSlice(), Mask: net.CIDRMask(pods.Bits(), pods.Addr().BitLen())},
			Type: unix.RTN_UNREACHABLE, Priority: lastResort,
		})
	})
	if err != nil {
		return fmt.Errorf("refuse packets for %s: %w", pods, err)
	}
	return nil
}

// removeAll removes a directory that the machine may have had mounted a moment ago.
func removeAll(ctx context.Context, dir string) error {
	ctx, cancel := context.WithTimeout(ctx, removeTimeout)
	defer cancel()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for {
		err := os.RemoveAll(dir)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.Join(err, ctx.Err())
		case <-ticker.C:
		}
	}
}
