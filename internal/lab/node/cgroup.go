// SPDX-License-Identifier: Apache-2.0

package node

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// cgroupMounts are the mount points of this machine's cgroup hierarchies.
type cgroupMounts struct {
	// v1 has one for each set of controllers.
	v1 []string
	// v2 is the unified hierarchy. Beside v1 it has no controllers, and the container
	// runtime uses it only to keep track of processes.
	v2 string
}

func findCgroups() (cgroupMounts, error) {
	file, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return cgroupMounts{}, fmt.Errorf("find cgroups: %w", err)
	}
	defer func() { _ = file.Close() }()
	var found cgroupMounts
	scanner := bufio.NewScanner(file)
	for scanner.Scan() {
		// ID parent major:minor root mountpoint options… - type source options
		before, after, ok := strings.Cut(scanner.Text(), " - ")
		fields, types := strings.Fields(before), strings.Fields(after)
		if !ok || len(fields) < 5 || len(types) < 1 {
			continue
		}
		switch types[0] {
		case "cgroup":
			found.v1 = append(found.v1, fields[4])
		case "cgroup2":
			found.v2 = fields[4]
		}
	}
	if err := scanner.Err(); err != nil {
		return cgroupMounts{}, fmt.Errorf("find cgroups: %w", err)
	}
	if len(found.v1) == 0 && found.v2 == "" {
		return cgroupMounts{}, errors.New("find cgroups: none is mounted under /sys/fs/cgroup")
	}
	return found, nil
}

// createCgroups makes the cgroup at path in every hierarchy. The kubelet requires
// its root to exist, with controllers.
func createCgroups(path string) error {
	mounts, err := findCgroups()
	if err != nil {
		return err
	}
	for _, mount := range mounts.v1 {
		if err := createOld(mount, path); err != nil {
			return fmt.Errorf("create cgroup %s in %s: %w", path, mount, err)
		}
	}
	if len(mounts.v1) > 0 {
		return nil // containers use those
	}
	if err := createUnified(mounts.v2, path); err != nil {
		return fmt.Errorf("create cgroup %s in %s: %w", path, mounts.v2, err)
	}
	return nil
}

// createOld makes a cgroup in a version 1 hierarchy. A new cpuset is empty and takes
// no process until it has processors and memory.
func createOld(mount, path string) error {
	current := mount
	for element := range strings.SplitSeq(strings.Trim(path, "/"), "/") {
		parent := current
		current = filepath.Join(current, element)
		if err := os.Mkdir(current, 0o750); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		for _, name := range []string{"cpuset.cpus", "cpuset.mems"} {
			if err := inherit(parent, current, name); err != nil {
				return err
			}
		}
	}
	return nil
}

func inherit(parent, child, name string) error {
	own, err := os.ReadFile(filepath.Clean(filepath.Join(child, name)))
	if errors.Is(err, fs.ErrNotExist) {
		return nil // another controller's hierarchy
	}
	if err != nil {
		return err
	}
	if strings.TrimSpace(string(own)) != "" {
		return nil
	}
	value, err := os.ReadFile(filepath.Clean(filepath.Join(parent, name)))
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(child, name), value, 0o600) //nolint:gosec // below a cgroup that the caller made
}

// createUnified makes a cgroup in the version 2 hierarchy and hands it every
// controller that its parents have.
func createUnified(mount, path string) error {
	current := mount
	for element := range strings.SplitSeq(strings.Trim(path, "/"), "/") {
		if err := handDown(current); err != nil {
			return err
		}
		current = filepath.Join(current, element)
		if err := os.Mkdir(current, 0o750); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return nil
}

// handDown enables for the children of a cgroup what the cgroup has itself.
func handDown(dir string) error {
	available, err := os.ReadFile(filepath.Clean(filepath.Join(dir, "cgroup.controllers")))
	if err != nil {
		return err
	}
	control := filepath.Join(dir, "cgroup.subtree_control")
	enabled, err := os.ReadFile(filepath.Clean(control))
	if err != nil {
		return err
	}
	have := " " + strings.TrimSpace(string(enabled)) + " "
	for controller := range strings.FieldsSeq(string(available)) {
		if strings.Contains(have, " "+controller+" ") {
			continue
		}
		err := os.WriteFile(control, []byte("+"+controller), 0o600)
		if err != nil && needed(controller) {
			return fmt.Errorf("enable the %s controller below %s (in a container, its processes have to be in a cgroup of their own): %w", controller, dir, err)
		}
	}
	return nil
}

// needed tells whether the kubelet insists on a controller.
func needed(controller string) bool {
	switch controller {
	case "cpu", "cpuset", "memory", "pids":
		return true
	default:
		return false
	}
}

// removeCgroups removes the cgroup at path and all below it from every hierarchy,
// and its parents if nothing else is in them. Processes that are just ending keep a
// cgroup for a moment.
func removeCgroups(ctx context.Context, path string) error {
	mounts, err := findCgroups()
	if err != nil {
		return err
	}
	all := mounts.v1
	if mounts.v2 != "" {
		all = append(all, mounts.v2)
	}
	ctx, cancel := context.WithTimeout(ctx, stopTimeout)
	defer cancel()
	for _, mount := range all {
		if err := removeTree(ctx, filepath.Join(mount, path)); err != nil {
			return fmt.Errorf("remove cgroup %s: %w", path, err)
		}
		for parent := filepath.Dir(path); parent != "/"; parent = filepath.Dir(parent) {
			_ = os.Remove(filepath.Join(mount, parent)) // in use by other nodes, or gone
		}
	}
	return nil
}

func removeTree(ctx context.Context, root string) error {
	return retry(ctx, func() error {
		var dirs []string
		err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
			if err == nil && entry.IsDir() {
				dirs = append(dirs, path)
			}
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			return err
		})
		if err != nil {
			return err
		}
		for _, dir := range slices.Backward(dirs) {
			if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
		return nil
	})
}

// retry calls do until it succeeds or ctx ends, and returns do's last error.
func retry(ctx context.Context, do func() error) error {
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for {
		err := do()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-ticker.C:
		}
	}
}
