// SPDX-License-Identifier: Apache-2.0

package openstack

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/cloudveneto/caas/internal/lab/proc"
)

// machineGrace is how long a virtual machine's process has to write what it has not yet.
const machineGrace = 10 * time.Second

// socket is where libvirtd listens, through the directory that it takes for /run/libvirt.
func (l layout) libvirtSocket() string { return l.path("libvirt", "run", "libvirt-sock") }

// LibvirtURI is the URI by which Nova reaches libvirt.
func (l layout) LibvirtURI() string { return "qemu+unix:///system?socket=" + l.libvirtSocket() }

// writeLibvirt makes libvirt's directories, and its configuration in them.
func (l layout) writeLibvirt() error {
	for _, dir := range []string{"etc", "run", "lib", "log"} {
		if err := os.MkdirAll(l.path("libvirt", dir), 0o700); err != nil {
			return err
		}
	}
	for _, name := range []string{"qemu.conf", "libvirtd.conf"} {
		data, err := embedded.ReadFile("files/libvirt/" + name)
		if err != nil {
			return err
		}
		if err := os.WriteFile(l.path("libvirt", "etc", name), data, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// libvirtd is the process, in a mount namespace in which the machine's own libvirt does not appear. Finding out what every
// QEMU on the machine can do may take a minute, so sites share that.
func (c Config) libvirtd(l layout) proc.Spec {
	return proc.Spec{Name: libvirtd, Path: "unshare", Args: []string{
		"--mount", "--propagation", "private", "/bin/sh", l.path("libvirt", "run.sh"), l.path("libvirt"), filepath.Join(c.Cache, "openstack", "libvirt"),
	}}
}

// endMachines ends the virtual machines' processes, which do not end with libvirtd.
func (s *Site) endMachines(ctx context.Context) error {
	files, err := filepath.Glob(s.cfg.path("libvirt", "run", "qemu", "*.pid"))
	if err != nil {
		return err
	}
	var errs []error
	for _, file := range files {
		if err := endMachine(ctx, file); err != nil {
			errs = append(errs, fmt.Errorf("end machine %s: %w", filepath.Base(file), err))
		}
	}
	return errors.Join(errs...)
}

func endMachine(ctx context.Context, file string) error {
	data, err := os.ReadFile(filepath.Clean(file))
	if err != nil {
		return err
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil {
		return err
	}
	name := strings.TrimSuffix(filepath.Base(file), ".pid")
	handle, err := os.FindProcess(pid)
	if err != nil {
		return err
	}
	defer func() { _ = handle.Release() }()
	runs := func() bool { // and is not another process with the number
		line, err := os.ReadFile(filepath.Clean(fmt.Sprintf("/proc/%d/cmdline", pid)))
		return err == nil && strings.Contains(string(line), "guest="+name+",")
	}
	ctx, cancel := context.WithTimeout(ctx, machineGrace)
	defer cancel()
	ticker := time.NewTicker(probeInterval)
	defer ticker.Stop()
	if !runs() {
		return nil
	}
	if err := handle.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	for runs() {
		select {
		case <-ctx.Done():
			if err := handle.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
				return err
			}
			return nil
		case <-ticker.C:
		}
	}
	return nil
}
