// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/cloudveneto/caas/internal/lab/node"
)

// minFree is what must be free where the lab writes: images and what nodes unpack of them, and etcd's files.
const minFree = 5 << 30

// checkMachine tells everything that keeps a lab from running here.
func checkMachine(ctx context.Context, dirs ...string) error {
	if os.Geteuid() != 0 {
		return errors.New("the lab makes network namespaces and runs containers: run it as root")
	}
	errs := []error{checkPackages(), checkKernel(ctx)}
	for _, dir := range dirs {
		errs = append(errs, checkSpace(dir))
	}
	return errors.Join(errs...)
}

// checkPackages names the Debian packages that are missing.
func checkPackages() error {
	var missing []string
	for _, requirement := range node.Requirements() {
		if !slices.ContainsFunc(requirement.Files, exists) && !slices.Contains(missing, requirement.Package) {
			missing = append(missing, requirement.Package)
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("missing packages: %s; install them with: make deps", strings.Join(missing, " "))
	}
	return nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// checkSpace looks at the file system that dir is, or will be, on.
func checkSpace(dir string) error {
	for !exists(dir) && dir != filepath.Dir(dir) {
		dir = filepath.Dir(dir)
	}
	var stat unix.Statfs_t
	if err := unix.Statfs(dir, &stat); err != nil {
		return fmt.Errorf("look for space in %s: %w", dir, err)
	}
	free := stat.Bavail * uint64(stat.Bsize) //nolint:gosec // a block size is positive
	if free < minFree {
		return fmt.Errorf("only %.1f GiB are free in %s, and the lab wants %d", float64(free)/(1<<30), dir, minFree>>30)
	}
	return nil
}

// checkKernel tries what the lab needs of the kernel, in a network namespace that is gone afterwards.
func checkKernel(ctx context.Context) error {
	var errs []error
	if err := checkOverlay(ctx); err != nil {
		errs = append(errs, err)
	}
	tried := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine, and its network namespace with it
		tried <- tryNetwork()
	}()
	return errors.Join(append(errs, <-tried)...)
}

// watchers is how many inotify instances a new lab takes: those of its control planes and of each node.
func (l *Lab) watchers() int {
	const controlPlanes, node = 24, 7
	sum := controlPlanes
	for _, count := range l.state.Nodes {
		sum += node * count
	}
	return sum
}

// checkWatchers counts the inotify instances that this user has left, of which the kernel gives one user 128 by default.
// Without one a kubelet ends and says that too many files are open. proc is where the kernel tells of its processes.
func checkWatchers(proc string, wanted int) error {
	text, err := os.ReadFile(filepath.Clean(filepath.Join(proc, "sys/fs/inotify/max_user_instances")))
	if err != nil {
		return fmt.Errorf("look for inotify instances: %w", err)
	}
	most, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return fmt.Errorf("look for inotify instances: %w", err)
	}
	taken, err := watching(proc, os.Geteuid())
	if err != nil {
		return fmt.Errorf("look for inotify instances: %w", err)
	}
	if left := max(most-taken, 0); left < wanted {
		return fmt.Errorf("the kernel has %d inotify instances left and the lab takes %d: end other labs, or raise fs.inotify.max_user_instances",
			left, wanted)
	}
	return nil
}

// watching counts the descriptors of inotify that a user's processes have. Two of one instance, which a process shares
// with its child, count twice: that is rare, and errs to the safe side.
func watching(proc string, uid int) (int, error) {
	processes, err := os.ReadDir(proc)
	if err != nil {
		return 0, err
	}
	count := 0
	for _, process := range processes {
		if _, err := strconv.Atoi(process.Name()); err != nil {
			continue
		}
		var stat unix.Stat_t
		if unix.Stat(filepath.Join(proc, process.Name()), &stat) != nil || int(stat.Uid) != uid {
			continue
		}
		dir := filepath.Join(proc, process.Name(), "fd")
		files, _ := os.ReadDir(dir) // the process may have ended by now
		for _, file := range files {
			if target, _ := os.Readlink(filepath.Join(dir, file.Name())); target == "anon_inode:inotify" {
				count++
			}
		}
	}
	return count, nil
}

func tryNetwork() error {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("the kernel makes no network namespace: %w", err)
	}
	bridge := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "try0"}}
	if err := netlink.LinkAdd(bridge); err != nil {
		return fmt.Errorf("the kernel makes no bridge (module bridge): %w", err)
	}
	veth := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "try1"}, PeerName: "try2"}
	if err := netlink.LinkAdd(veth); err != nil {
		return fmt.Errorf("the kernel makes no virtual Ethernet pair (module veth): %w", err)
	}
	return nil
}

// checkOverlay looks for the overlay file system, which containers are made of. It may be a module not loaded yet.
func checkOverlay(ctx context.Context) error {
	if hasOverlay() {
		return nil
	}
	load := exec.CommandContext(ctx, "modprobe", "overlay")
	if err := load.Run(); err == nil && hasOverlay() {
		return nil
	}
	return errors.New("the kernel has no overlay file system (module overlay)")
}

func hasOverlay() bool {
	data, err := os.ReadFile("/proc/filesystems")
	return err == nil && slices.Contains(strings.Fields(string(data)), "overlay")
}
