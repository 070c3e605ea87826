// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cloudveneto/caas/internal/lab/node"
)

const (
	hidden = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	mode   = 0o755
)

// mounted is a file system of the machine.
type mounted struct {
	source, target, kind string
	flags                uintptr
	options              string
}

func (m mounted) mount(config *Config) error {
	target := config.root(m.target)
	if err := os.MkdirAll(target, mode); err != nil {
		return err
	}
	if err := unix.Mount(m.source, target, m.kind, m.flags, m.options); err != nil {
		return fmt.Errorf("mount %s on %s: %w", m.source, m.target, err)
	}
	return nil
}

// makeRoot mounts the machine's file systems below its directory.
func makeRoot(config *Config) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("change the propagation of mounts: %w", err)
	}
	cgroups, err := node.FindCgroups()
	if err != nil {
		return err
	}
	overlay := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", config.Lower, config.path("upper"), config.path("work"))
	for _, m := range []mounted{
		{source: "machine", target: "/", kind: "overlay", options: overlay},
		{source: "proc", target: "/proc", kind: "proc", flags: hidden},
		{source: "sysfs", target: "/sys", kind: "sysfs", flags: hidden},
		{source: "tmpfs", target: "/dev", kind: "tmpfs", flags: unix.MS_NOSUID, options: "mode=0755,size=1m"},
		{source: "devpts", target: "/dev/pts", kind: "devpts", flags: unix.MS_NOSUID | unix.MS_NOEXEC, options: "newinstance,ptmxmode=0666,mode=0620,gid=5"},
		{source: "tmpfs", target: "/dev/shm", kind: "tmpfs", flags: unix.MS_NOSUID | unix.MS_NODEV},
		{source: "mqueue", target: "/dev/mqueue", kind: "mqueue", flags: hidden},
		{source: "tmpfs", target: "/run", kind: "tmpfs", flags: unix.MS_NOSUID | unix.MS_NODEV, options: "mode=0755"},
		{source: "tmpfs", target: "/run/lock", kind: "tmpfs", flags: hidden, options: "mode=1777"},
	} {
		if err := m.mount(config); err != nil {
			return err
		}
	}
	for _, step := range []func(*Config) error{
		func(c *Config) error { return mountCgroups(c, cgroups) }, makeDevices, shieldKernel, fakeSize, addPrograms, addDisks,
	} {
		if err := step(config); err != nil {
			return err
		}
	}
	return nil
}

// mountCgroups shows the machine the hierarchies from its own cgroup on.
func mountCgroups(config *Config, cgroups node.Cgroups) error {
	const dir = "/sys/fs/cgroup"
	if len(cgroups.V1) == 0 {
		if err := (mounted{source: "cgroup2", target: dir, kind: "cgroup2", flags: hidden}).mount(config); err != nil {
			return err
		}
		return leaveRootCgroup(config.root(dir))
	}
	if err := (mounted{source: "tmpfs", target: dir, kind: "tmpfs", flags: hidden, options: "mode=0755"}).mount(config); err != nil {
		return err
	}
	for _, hierarchy := range cgroups.V1 {
		target := filepath.Join(dir, filepath.Base(hierarchy.Path))
		if err := (mounted{source: "cgroup", target: target, kind: "cgroup", flags: hidden, options: hierarchy.Options}).mount(config); err != nil {
			return err
		}
		for controller := range strings.SplitSeq(filepath.Base(hierarchy.Path), ",") {
			link := config.root(dir, controller)
			if _, err := os.Lstat(link); err == nil {
				continue
			}
			if err := os.Symlink(filepath.Base(hierarchy.Path), link); err != nil {
				return err
			}
		}
	}
	return nil
}

// leaveRootCgroup moves this process down, because a unified cgroup that hands controllers
// to others can have no process itself, and the machine's root has to hand them to pods.
func leaveRootCgroup(dir string) error {
	own := filepath.Join(dir, "init.scope")
	if err := os.MkdirAll(own, mode); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(own, "cgroup.procs"), []byte("1"), 0o600); err != nil {
		return fmt.Errorf("leave the root cgroup: %w", err)
	}
	return nil
}

// addPrograms replaces systemctl, which needs systemd.
func addPrograms(config *Config) error {
	program := config.root(privateDir, "program")
	// Programs take the second one for a sign that there is a systemctl to be used.
	for _, dir := range []string{filepath.Join(privateDir, "notify"), "/run/systemd/system"} {
		if err := os.MkdirAll(config.root(dir), mode); err != nil {
			return err
		}
	}
	if err := bindFile(config.Program, program); err != nil {
		return err
	}
	script := config.path("systemctl")
	text := fmt.Sprintf("#!/bin/sh\nexec %s/program %s \"$@\"\n", privateDir, SystemctlCommand)
	if err := os.WriteFile(script, []byte(text), 0o755); err != nil { //nolint:gosec // a program
		return err
	}
	return bindFile(script, config.root("/usr/bin/systemctl"))
}

// bindFile mounts a file on another, which is made if there is none.
func bindFile(source, target string) error {
	if err := os.MkdirAll(filepath.Dir(target), mode); err != nil {
		return err
	}
	file, err := os.OpenFile(filepath.Clean(target), os.O_CREATE|os.O_RDONLY, 0o600)
	if err != nil {
		return err
	}
	if err := file.Close(); err != nil {
		return err
	}
	return bind(source, target)
}

func bind(source, target string) error {
	if err := unix.Mount(source, target, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("mount %s on %s: %w", source, target, err)
	}
	return nil
}

// addDisks mounts what is not on the overlay.
func addDisks(config *Config) error {
	if err := bind(config.path("disk"), config.root(VarDir)); err != nil {
		return err
	}
	if err := os.MkdirAll(config.root(logDir), mode); err != nil {
		return err
	}
	return bind(config.path("log"), config.root(logDir))
}

// pivot makes the machine's root everyone's and forgets the outer one.
func pivot(config *Config) error {
	root := config.root()
	if err := os.Chdir(root); err != nil {
		return err
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("change the root: %w", err)
	}
	// The old root lies over the new one now.
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("leave the old root: %w", err)
	}
	if err := os.Chdir("/"); err != nil {
		return err
	}
	// The kubelet needs shared mounts; nothing outside is in their groups.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SHARED, ""); err != nil {
		return fmt.Errorf("change the propagation of mounts: %w", err)
	}
	return nil
}

// shieldKernel lets the machine read all kernel settings and change only those of its
// network, and shows it those that the kubelet wants to see.
func shieldKernel(config *Config) error {
	settings := config.root("/proc/sys")
	for key, value := range node.KernelSettings() {
		target := filepath.Join(settings, key)
		if _, err := os.Stat(target); err != nil {
			continue // the kernel was built without it
		}
		source := config.path("settings", strings.ReplaceAll(key, "/", "."))
		if err := os.MkdirAll(filepath.Dir(source), 0o750); err != nil {
			return err
		}
		if err := os.WriteFile(source, []byte(value+"\n"), 0o600); err != nil {
			return err
		}
		if err := bind(source, target); err != nil {
			return err
		}
	}
	// Bound once more, recursively, so that the read-only part is a mount of its own.
	if err := unix.Mount(settings, settings, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("protect kernel settings: %w", err)
	}
	if err := bind(filepath.Join(settings, "net"), filepath.Join(settings, "net")); err != nil {
		return err
	}
	readOnly := uintptr(unix.MS_BIND | unix.MS_REMOUNT | unix.MS_RDONLY | hidden)
	if err := unix.Mount("", settings, "", readOnly, ""); err != nil {
		return fmt.Errorf("protect kernel settings: %w", err)
	}
	trigger := config.root("/proc/sysrq-trigger")
	if _, err := os.Stat(trigger); err != nil {
		return nil //nolint:nilerr // the kernel was built without it
	}
	return bind("/dev/null", trigger)
}
