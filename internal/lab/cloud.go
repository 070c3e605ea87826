// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/cloudveneto/caas/internal/lab/hypervisor"
	"github.com/cloudveneto/caas/internal/lab/nodeimage"
	"github.com/cloudveneto/caas/internal/lab/openstack"
	"github.com/cloudveneto/caas/internal/lab/proc"
)

const (
	cloudPrefix    = "openstack/"
	hypervisorName = "hypervisor"
	socketInterval = 20 * time.Millisecond
)

// ErrNoOpenStack is returned by OpenStack when the lab was made without.
var ErrNoOpenStack = errors.New("the lab has no OpenStack")

// OpenStack is the lab's cloud. The error is ErrNoOpenStack when it has none.
func (l *Lab) OpenStack() (*openstack.Site, error) {
	if !l.state.OpenStack {
		return nil, fmt.Errorf("%w: make it with --openstack", ErrNoOpenStack)
	}
	return openstack.Open(l.openStackDir())
}

// Keystone is the lab's Keystone, with its cloud or alone. The error is ErrNoTenancy when it has none.
func (l *Lab) Keystone() (*openstack.Site, error) {
	if l.state.NoTenancy && !l.state.OpenStack {
		return nil, ErrNoTenancy
	}
	return openstack.Open(l.openStackDir())
}

func (l *Lab) openStackDir() string { return l.path("openstack") }

// HypervisorSocket is where Nova looks for what makes machines of servers.
func (l *Lab) HypervisorSocket() string { return l.path("run", hypervisorName+".sock") }

func (l *Lab) driver() openstack.Driver {
	if l.state.VMs {
		return openstack.Libvirt
	}
	return openstack.Hook
}

// buildNodeImage builds what the cloud's servers boot.
func (l *Lab) buildNodeImage(ctx context.Context, cfg Config, detail func(string)) error {
	built, err := nodeimage.Build(ctx, nodeimage.Config{
		Source: cfg.Source, Cache: cfg.Cache, Kubernetes: l.state.Binaries, VM: l.state.VMs,
		Progress: func(step string, _ time.Duration) { detail(step) },
	})
	if err != nil {
		return err
	}
	l.state.NodeImage = built
	return l.save()
}

// startOpenStack starts the cloud and, unless its servers are virtual machines, the hypervisor.
func (l *Lab) startOpenStack(ctx context.Context, cfg Config, detail func(string)) error {
	if !l.state.VMs {
		if err := l.startHypervisor(ctx); err != nil {
			return err
		}
	}
	config := l.openStackConfig(cfg, detail)
	config.Driver, config.HypervisorSocket = l.driver(), l.HypervisorSocket()
	if l.state.VMs {
		for _, name := range []string{openstack.ImageAlmaLinux, openstack.ImageDebian} {
			config.Images = append(config.Images, openstack.Image{
				Name: name, Disk: l.state.NodeImage.Disk, Kernel: l.state.NodeImage.Kernel, Ramdisk: l.state.NodeImage.Initrd,
				CommandLine: nodeimage.KernelArguments(),
			})
		}
	}
	_, err := openstack.Start(ctx, config)
	return err
}

func (l *Lab) openStackConfig(cfg Config, detail func(string)) openstack.Config {
	config := openstack.Config{
		Dir: l.openStackDir(), Cache: cfg.Cache, LogDir: l.path("log"), NetNS: l.NetNS(), Address: OpenStackAddress(), Progress: detail,
	}
	if !l.state.NoTenancy {
		config.KeystoneTLS = &openstack.TLS{CertFile: l.keystoneFile("tls.crt"), KeyFile: l.keystoneFile("tls.key")}
	}
	return config
}

func (l *Lab) startHypervisor(ctx context.Context) error {
	process, err := proc.Load(l.runDir(), hypervisorName)
	if err == nil && process.Alive() {
		return nil
	}
	process, err = proc.Start(ctx, l.runDir(), proc.Spec{
		Name: hypervisorName, Path: l.executable(), Args: []string{"hypervise", l.Name()},
		Env: []string{StateEnv + "=" + stateDir()}, Dir: "/", LogFile: l.logFile(hypervisorName),
	})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, servicesTimeout)
	defer cancel()
	for !exists(l.HypervisorSocket()) {
		if !process.Alive() {
			return fmt.Errorf("%s ended; the end of its log:\n%s", hypervisorName, tail(l.logFile(hypervisorName)))
		}
		pause(ctx, socketInterval)
		if ctx.Err() != nil {
			return fmt.Errorf("%s does not listen: %w", hypervisorName, ctx.Err())
		}
	}
	return nil
}

// Hypervise makes machines of the servers of the lab's OpenStack until ctx is done. Up runs it as a process.
func Hypervise(ctx context.Context, name string) error {
	l, err := Open(name)
	if err != nil {
		return err
	}
	machines, err := l.machines()
	if err != nil {
		return err
	}
	return hypervisor.Serve(ctx, l.HypervisorSocket(), machines)
}

func (l *Lab) machines() (*hypervisor.Machines, error) {
	caas, err := planOf(CaaS)
	if err != nil {
		return nil, err
	}
	config := hypervisor.Config{
		Lab: l.Name(), Dir: l.path("machines"), LAN: l.lan(), Root: l.state.NodeImage.Root, Executable: l.executable(),
		PodSubnet: PodSubnet,
	}
	if config.Root == "" {
		config.Root = "/" // of a lab that did not come so far; it has no machines, but maybe a part of one
	}
	config.Nameservers = append(config.Nameservers, caas.dns)
	return hypervisor.NewMachines(config)
}

// stopOpenStack ends the cloud first, so that nobody makes machines any more, and then those that there are.
func (l *Lab) stopOpenStack(ctx context.Context) error {
	var errs []error
	site, err := openstack.Open(l.openStackDir())
	switch {
	case err == nil:
		errs = append(errs, site.Stop(ctx))
	case !errors.Is(err, fs.ErrNotExist):
		errs = append(errs, err)
	}
	if process, err := proc.Load(l.runDir(), hypervisorName); err == nil {
		errs = append(errs, process.Stop(ctx, stopGrace))
	}
	if _, err := os.Stat(l.path("machines")); err != nil {
		return errors.Join(errs...)
	}
	machines, err := l.machines()
	if err != nil {
		return errors.Join(append(errs, err)...)
	}
	return errors.Join(append(errs, machines.StopAll(ctx))...)
}

// isMachine tells whether a network namespace's name behind the LAN's is that of a machine.
func isMachine(name string) bool {
	parsed, err := uuid.Parse(name)
	return err == nil && parsed.String() == name
}

// checkCloud names the packages that Keystone, or a cloud, needs and this machine lacks.
func checkCloud(cfg Config) error {
	switch {
	case cfg.VMs:
		return openstack.Missing(openstack.Libvirt)
	case cfg.OpenStack:
		return openstack.Missing(openstack.Hook)
	case cfg.NoTenancy:
		return nil
	default:
		return openstack.Missing(openstack.Identity)
	}
}

// cloudStatus adds the services of the cloud.
func (l *Lab) cloudStatus(ctx context.Context, status *Status) {
	site, err := l.Keystone()
	if errors.Is(err, ErrNoTenancy) {
		return
	}
	if err != nil {
		status.Problems = append(status.Problems, fmt.Sprintf("OpenStack: %v", err))
		return
	}
	state := site.Status(ctx)
	for _, name := range slices.Sorted(maps.Keys(state.PIDs)) {
		pid := state.PIDs[name]
		status.Processes = append(status.Processes, ProcessStatus{Name: cloudPrefix + name, PID: pid, Running: true, Memory: residentMemory(pid)})
	}
	for _, name := range state.Down {
		status.Processes = append(status.Processes, ProcessStatus{Name: cloudPrefix + name})
		status.Problems = append(status.Problems, fmt.Sprintf("OpenStack's %s does not run", name))
	}
}

// cloudLogs are the logs of the cloud's services, and the consoles of its servers.
func (l *Lab) cloudLogs() map[string]string {
	logs := map[string]string{}
	site, err := l.Keystone()
	if err != nil {
		return logs // there is none, or nothing of it
	}
	for name, file := range site.LogFiles() {
		logs[cloudPrefix+name] = file
	}
	consoles, _ := filepath.Glob(l.path("machines", "*", "console.log")) // the pattern is well-formed
	for _, console := range consoles {
		logs[filepath.Base(filepath.Dir(console))+"/console"] = console
	}
	return logs
}
