// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cloudveneto/caas/internal/lab/network"
	"github.com/cloudveneto/caas/internal/lab/proc"
)

// Removal names a node to be removed; its configuration may be lost.
type Removal struct {
	Lab, Name string
	// Dir is the node's directory, RunDir that of its process record; Dir when empty.
	Dir, RunDir string
	// KeepLogs leaves the log files where Log says.
	KeepLogs bool
}

// Stop ends the node at once, as pulling its plug would, and removes all that it
// had: processes, cgroups, network namespace and directory. It is no error if it
// does not run, or if only parts of it are left.
func Stop(ctx context.Context, removal Removal) error {
	if removal.Lab == "" || removal.Name == "" || !filepath.IsAbs(removal.Dir) {
		return errors.New("stop node: lab, name and an absolute dir are required")
	}
	removal.RunDir = orDefault(removal.RunDir, removal.Dir)
	if err := stop(ctx, removal); err != nil {
		return fmt.Errorf("stop node %q: %w", removal.Name, err)
	}
	return nil
}

func stop(ctx context.Context, removal Removal) error {
	if err := KillHolder(ctx, removal.RunDir, recordName(removal.Name), filepath.Join(removal.Dir, pidFile)); err != nil {
		return err
	}
	if err := RemoveCgroup(ctx, cgroup(removal.Lab, removal.Name)); err != nil {
		return err
	}
	if err := network.Delete(ctx, namespace(removal.Lab, removal.Name)); err != nil {
		return err
	}
	return removeDir(ctx, removal)
}

// KillHolder kills the process recorded as name in runDir, which is the parent of the
// first process of a process namespace, whose number is in pidFile, and waits for the
// namespace's last process. It is no error if there is none.
func KillHolder(ctx context.Context, runDir, name, pidFile string) error {
	process, err := proc.Load(runDir, name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if process.Alive() {
		// The holder before its parent, which then collects it: otherwise that would be up to
		// the first process of the machine, which in a container may not care.
		if holder := openHolder(pidFile); holder >= 0 {
			err = endHolder(ctx, holder)
			err = errors.Join(err, unix.Close(holder))
		}
	}
	return errors.Join(err, process.Kill())
}

func endHolder(ctx context.Context, holder int) error {
	if err := unix.PidfdSendSignal(holder, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("kill the holder: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, stopTimeout)
	defer cancel()
	return retry(ctx, func() error {
		ended, err := unix.Poll([]unix.PollFd{{Fd: int32(holder), Events: unix.POLLIN}}, 0) //nolint:gosec // a file descriptor
		if err != nil {
			return fmt.Errorf("wait for the holder's end: %w", err)
		}
		if ended == 0 {
			return errors.New("its processes do not end")
		}
		return nil
	})
}

// openHolder returns a descriptor of the holder, -1 if it is gone. The holder is the
// first of its process namespace, so it is gone only after all the others are.
func openHolder(path string) int {
	data, err := os.ReadFile(filepath.Clean(path))
	if err != nil {
		return -1
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil {
		return -1
	}
	descriptor, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return -1
	}
	return descriptor
}

// removeDir removes the node's directory. The node's mounts were in a namespace of
// its own, so only plain files are left.
func removeDir(ctx context.Context, removal Removal) error {
	ctx, cancel := context.WithTimeout(ctx, stopTimeout)
	defer cancel()
	return retry(ctx, func() error {
		entries, err := os.ReadDir(removal.Dir)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		for _, entry := range entries {
			if removal.KeepLogs && entry.Name() == "log" {
				continue
			}
			if err := os.RemoveAll(filepath.Join(removal.Dir, entry.Name())); err != nil {
				return err
			}
		}
		if removal.KeepLogs {
			return nil
		}
		return os.RemoveAll(removal.Dir)
	})
}
