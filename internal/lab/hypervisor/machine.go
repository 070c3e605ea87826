// SPDX-License-Identifier: Apache-2.0

package hypervisor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/cloudveneto/caas/internal/lab/hypervisor/guest"
	"github.com/cloudveneto/caas/internal/lab/network"
	"github.com/cloudveneto/caas/internal/lab/node"
	"github.com/cloudveneto/caas/internal/lab/proc"
)

// spawn makes a machine's disks and network, and boots it.
func (m *Machines) spawn(ctx context.Context, machine machine, server Server) error {
	if server.Hostname == "" || len(server.NICs) != 1 {
		return fmt.Errorf("server %s: a machine has a host name and one network interface", server.UUID)
	}
	// What an interrupted spawn or destroy left would be mistaken for this machine's.
	if err := machine.remove(ctx, &m.config); err != nil {
		return err
	}
	for _, dir := range []string{"upper", "work", "root", "log", "disk"} {
		if err := os.MkdirAll(machine.path(dir), 0o755); err != nil { //nolint:gosec // upper's mode is that of the machine's root directory
			return err
		}
	}
	if err := copyState(ctx, m.config.Root, machine.path("disk")); err != nil {
		return err
	}
	if err := m.plug(ctx, machine, server); err != nil {
		return err
	}
	data, err := json.Marshal(server)
	if err != nil {
		return err
	}
	if err := os.WriteFile(machine.path(serverFile), data, 0o600); err != nil {
		return err
	}
	return m.boot(ctx, machine, server)
}

// copyState gives the machine its own copy of what the image has in /var.
func copyState(ctx context.Context, root, disk string) error {
	source := filepath.Join(root, guest.VarDir)
	output, err := exec.CommandContext(ctx, "cp", "--archive", "--reflink=auto", source+"/.", disk).CombinedOutput() //nolint:gosec // both are the lab's
	if err != nil {
		return fmt.Errorf("copy %s: %w: %s", source, err, output)
	}
	return nil
}

// boot switches a machine on.
func (m *Machines) boot(ctx context.Context, machine machine, server Server) error {
	hardware, err := m.hardware(machine, server)
	if err != nil {
		return err
	}
	data, err := json.Marshal(hardware)
	if err != nil {
		return err
	}
	if err := os.WriteFile(machine.path(guestFile), data, 0o600); err != nil {
		return err
	}
	if err := node.CreateCgroup(machine.cgroup()); err != nil {
		return err
	}
	// An earlier boot's number may be another process' by now.
	if err := os.Remove(machine.path(guest.PIDFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	_, err = proc.Start(ctx, machine.dir, proc.Spec{
		Name: recordName, Path: m.config.Executable, Args: []string{guest.InitCommand, machine.path(guestFile)},
		Dir: "/", LogFile: machine.console(), NetNS: machine.netNS(), EndWithStarter: m.config.EndWithStarter,
	})
	if err != nil {
		return fmt.Errorf("boot server %s: %w", server.UUID, err)
	}
	return nil
}

// hardware is what the machine finds itself to be.
func (m *Machines) hardware(machine machine, server Server) (guest.Config, error) {
	files, err := m.files(machine, server)
	if err != nil {
		return guest.Config{}, err
	}
	config := guest.Config{
		Dir: machine.dir, Lower: m.config.Root, Cgroup: machine.cgroup(), Program: m.config.Executable,
		Hostname: server.Hostname, VCPUs: server.Flavor.VCPUs, MemoryMiB: server.Flavor.RAM, EphemeralGiB: server.Flavor.Ephemeral,
		Files: files,
	}
	return config, nil
}

// plug gives the machine its network interface.
func (m *Machines) plug(ctx context.Context, machine machine, server Server) error {
	address, err := server.Address()
	if err != nil {
		return err
	}
	gateway, err := netip.ParseAddr(server.NICs[0].Gateway)
	if err != nil {
		return fmt.Errorf("gateway of server %s: %w", server.UUID, err)
	}
	if err := network.CreateNamespace(ctx, machine.namespace()); err != nil {
		return err
	}
	err = network.Attach(ctx, network.Port{
		LAN: m.config.LAN, Bridge: m.config.Bridge, Namespace: machine.namespace(), Address: address, Gateway: gateway,
	})
	if err != nil {
		return err
	}
	if err := announce(ctx, machine.netNS(), server.NICs[0].MAC); err != nil {
		return err
	}
	pods, ok := m.podSubnet(address.Addr())
	if !ok {
		return nil
	}
	if err := refuseLast(ctx, machine.netNS(), pods); err != nil {
		return err
	}
	return network.AddRoute(ctx, m.config.LAN, pods, address.Addr())
}

func (m *Machines) podSubnet(server netip.Addr) (netip.Prefix, bool) {
	if m.config.PodSubnet == nil {
		return netip.Prefix{}, false
	}
	return m.config.PodSubnet(server)
}

// kill ends all processes of a machine.
func (m machine) kill(ctx context.Context) error {
	if err := node.KillHolder(ctx, m.dir, recordName, m.path(guest.PIDFile)); err != nil {
		return fmt.Errorf("switch off server %s: %w", m.id, err)
	}
	if err := node.RemoveCgroup(ctx, m.cgroup()); err != nil {
		return fmt.Errorf("switch off server %s: %w", m.id, err)
	}
	return nil
}

// remove removes all that there is of a machine, in whatever state it is.
func (m machine) remove(ctx context.Context, config *Config) error {
	if err := m.kill(ctx); err != nil {
		return err
	}
	if err := m.unroute(ctx, config); err != nil {
		return err
	}
	if err := network.Delete(ctx, m.namespace()); err != nil {
		return err
	}
	if err := removeAll(ctx, m.dir); err != nil {
		return fmt.Errorf("remove server %s: %w", m.id, err)
	}
	return nil
}

// unroute removes the route to the machine's pods. The LAN may be gone already.
func (m machine) unroute(ctx context.Context, config *Config) error {
	server, err := m.server()
	if errors.Is(err, ErrNotFound) || config.PodSubnet == nil {
		return nil
	}
	if err != nil {
		return err
	}
	address, err := server.Address()
	if err != nil {
		return err
	}
	pods, ok := config.PodSubnet(address.Addr())
	if exists, err := network.Exists(config.LAN); !ok || err != nil || !exists {
		return err
	}
	return network.RemoveRoute(ctx, config.LAN, pods)
}
