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

// Cgroups are this machine's cgroup hierarchies.
type Cgroups struct {
	// V1 has one for each set of controllers.
	V1 []Hierarchy
	// V2 is the mount point of the unified hierarchy. Beside V1 it has no controllers,
	// and the container runtime uses it only to keep track of processes.
	V2 string
}

// Hierarchy is a mounted cgroup hierarchy of version 1.
type Hierarchy struct {
	// Path is where it is mounted, Options what mounts it again elsewhere.
	Path, Options string
}

// FindCgroups returns the hierarchies that this process sees.
func FindCgroups() (Cgroups, error) {
	file, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return Cgroups{}, fmt.Errorf("find cgroups: %w", err)
	}
	defer func() { _ = file.Close() }()
	var found Cgroups
	scanner := bufio.NewScanner(file)
	for scanner.Scan() {
		// ID parent major:minor root mountpoint options… - type source options
		before, after, ok := strings.Cut(scanner.Text(), " - ")
		fields, types := strings.Fields(before), strings.Fields(after)
		if !ok || len(fields) < 5 || len(types) < 3 {
			continue
		}
		switch types[0] {
		case "cgroup":
			found.V1 = append(found.V1, Hierarchy{Path: fields[4], Options: cgroupOptions(types[2])})
		case "cgroup2":
			found.V2 = fields[4]
		}
	}
	if err := scanner.Err(); err != nil {
		return Cgroups{}, fmt.Errorf("find cgroups: %w", err)
	}
	if len(found.V1) == 0 && found.V2 == "" {
		return Cgroups{}, errors.New("find cgroups: none is mounted under /sys/fs/cgroup")
	}
	return found, nil
}

// cgroupOptions are those of a hierarchy's options that say which one it is.
func cgroupOptions(all string) string {
	kept := slices.DeleteFunc(strings.Split(all, ","), func(option string) bool { return option == "rw" || option == "ro" })
	return strings.Join(kept, ",")
}

// CreateCgroup makes the cgroup at path in every hierarchy. The kubelet requires
// its root to exist, with controllers.
func CreateCgroup(path string) error {
	mounts, err := FindCgroups()
	if err != nil {
		return err
	}
	for _, mount := range mounts.V1 {
		if err := createOld(mount.Path, path); err != nil {
			return fmt.Errorf("create cgroup %s in %s: %w", path, mount.Path, err)
		}
	}
	if len(mounts.V1) > 0 {
		return nil // containers use those
	}
	if err := createUnified(mounts.V2, path); err != nil {
		return fmt.Errorf("create cgroup %s in %s: %w", path, mounts.V2, err)
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

// RemoveCgroup removes the cgroup at path and all below it from every hierarchy,
// and its parents if nothing else is in them. Processes that are just ending keep a
// cgroup for a moment.
func RemoveCgroup(ctx context.Context, path string) error {
	mounts, err := FindCgroups()
	if err != nil {
		return err
	}
	all := make([]string, 0, len(mounts.V1)+1)
	for _, mount := range mounts.V1 {
		all = append(all, mount.Path)
	}
	if mounts.V2 != "" {
		all = append(all, mounts.V2)
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
