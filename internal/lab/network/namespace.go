// SPDX-License-Identifier: Apache-2.0

// Package network owns the lab's network namespaces: the cluster LAN, which is a
// namespace with one bridge, and the namespaces of the nodes plugged into it. It
// also dials and listens inside a namespace for programs that live outside.
//
// Nothing here touches the host's own interfaces, addresses or routes. A thread
// that has entered another namespace runs no other Go code before it is back.
package network

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"

	"golang.org/x/sys/unix"
)

// namespaceDir is where iproute2 keeps named namespaces, so that `ip netns` shows
// and enters the lab's.
const namespaceDir = "/run/netns"

const (
	// mountedMark says that the lab, not iproute2, made namespaceDir a mount, so that it
	// unmounts it with the last namespace.
	mountedMark = "/run/caas-lab-netns"
	// lockFile is held while that changes.
	lockFile = "/run/caas-lab-netns.lock"
)

// Path is where the network namespace called name is mounted.
func Path(name string) string {
	return filepath.Join(namespaceDir, name)
}

// Exists tells whether the network namespace called name exists.
func Exists(name string) (bool, error) {
	var stat unix.Statfs_t
	err := unix.Statfs(Path(name), &stat)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look at network namespace %q: %w", name, err)
	}
	return stat.Type == unix.NSFS_MAGIC, nil
}

// CreateNamespace makes an empty network namespace called name with its loopback
// interface up. It is no error if there is one already.
func CreateNamespace(ctx context.Context, name string) error {
	exists, err := Exists(name)
	if err != nil {
		return err
	}
	if !exists {
		if err := makeNamespace(ctx, name); err != nil {
			return fmt.Errorf("create network namespace %q: %w", name, err)
		}
	}
	return Do(ctx, Path(name), func() error { return linkUp("lo") })
}

// Delete removes the network namespace called name. Interfaces in it go away when
// the last process in it ends. It is no error if there is none.
func Delete(_ context.Context, name string) error {
	path := Path(name)
	for {
		err := unix.Unmount(path, unix.MNT_DETACH)
		if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) {
			break // no longer a mount point, or never one
		}
		if err != nil {
			return fmt.Errorf("delete network namespace %q: %w", name, err)
		}
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("delete network namespace %q: %w", name, err)
	}
	if err := unshareNamespaceDir(); err != nil {
		return fmt.Errorf("delete network namespace %q: %w", name, err)
	}
	return nil
}

// Do calls fn on a thread that is inside the network namespace mounted at path. fn
// MUST NOT start goroutines that are to be inside too: they run on other threads. Do
// returns when fn has returned, whatever happens to ctx; fn watches ctx itself if it
// can block.
func Do(ctx context.Context, path string, fn func() error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return awayFromHome(func() error {
		file, err := os.Open(filepath.Clean(path))
		if err != nil {
			return fmt.Errorf("open network namespace: %w", err)
		}
		defer func() { _ = file.Close() }()
		if err := unix.Setns(int(file.Fd()), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("enter network namespace %s: %w", path, err)
		}
		return fn()
	})
}

// awayFromHome calls fn, which may change its thread's network namespace, on a thread
// that nothing else runs on until it is back. If it does not get back, the thread ends
// with its goroutine.
func awayFromHome(fn func() error) error {
	result := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		home, err := os.Open("/proc/thread-self/ns/net")
		if err != nil {
			runtime.UnlockOSThread()
			result <- fmt.Errorf("open this thread's network namespace: %w", err)
			return
		}
		defer func() { _ = home.Close() }()
		err = fn()
		if unix.Setns(int(home.Fd()), unix.CLONE_NEWNET) == nil {
			runtime.UnlockOSThread()
		}
		result <- err
	}()
	return <-result
}

// makeNamespace unshares a thread's network and gives the new namespace a name by
// mounting it, as `ip netns add` does.
func makeNamespace(ctx context.Context, name string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := shareNamespaceDir(); err != nil {
		return err
	}
	path := Path(name)
	file, err := os.OpenFile(filepath.Clean(path), os.O_CREATE|os.O_RDONLY, 0o400)
	if err != nil {
		return err
	}
	if err := file.Close(); err != nil {
		return err
	}
	err = awayFromHome(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("unshare: %w", err)
		}
		if err := unix.Mount("/proc/thread-self/ns/net", path, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("mount on %s: %w", path, err)
		}
		return nil
	})
	if err != nil {
		_ = os.Remove(path)
	}
	return err
}

// shareNamespaceDir makes the directory of named namespaces a shared mount, as
// iproute2 expects: otherwise a namespace deleted here would live on as a mount in
// other mount namespaces.
func shareNamespaceDir() error {
	if err := os.MkdirAll(namespaceDir, 0o755); err != nil { //nolint:gosec // as iproute2 makes it
		return err
	}
	unlock, err := lockNamespaceDir()
	if err != nil {
		return err
	}
	defer unlock()
	err = unix.Mount("", namespaceDir, "none", unix.MS_SHARED|unix.MS_REC, "")
	if !errors.Is(err, unix.EINVAL) {
		return wrapMount(err) // it is a mount already
	}
	if err := os.WriteFile(mountedMark, nil, 0o600); err != nil {
		return err
	}
	if err := unix.Mount(namespaceDir, namespaceDir, "none", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return wrapMount(err)
	}
	return wrapMount(unix.Mount("", namespaceDir, "none", unix.MS_SHARED|unix.MS_REC, ""))
}

// unshareNamespaceDir undoes shareNamespaceDir when no namespace is left.
func unshareNamespaceDir() error {
	if _, err := os.Stat(mountedMark); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	unlock, err := lockNamespaceDir()
	if err != nil {
		return err
	}
	defer unlock()
	entries, err := os.ReadDir(namespaceDir)
	if err != nil || len(entries) > 0 {
		return err
	}
	if err := unix.Unmount(namespaceDir, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) {
		return wrapMount(err)
	}
	if err := os.Remove(mountedMark); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// lockNamespaceDir keeps two creators from mounting the directory twice.
func lockNamespaceDir() (func(), error) {
	file, err := os.OpenFile(lockFile, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(file.Fd()), unix.LOCK_EX); err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", lockFile, err), file.Close())
	}
	return func() { _ = file.Close() }, nil
}

func wrapMount(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("share %s: %w", namespaceDir, err)
}
