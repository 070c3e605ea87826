// SPDX-License-Identifier: Apache-2.0

package kubeconfig

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// lockPatience is how long to wait for another program. kubectl itself does not wait at all.
	lockPatience = 10 * time.Second
	lockPause    = 25 * time.Millisecond
	// lockMark is in locks of this program. Kubectl's are empty.
	lockMark = "kubectl-openstack\n"
)

// lock takes the same lock as kubectl: a file beside the kubeconfig that must not be there yet.
// This program's locks have a file lock on them, too, which ends with the process; so one that was
// left behind is told from one that is held.
func (s Store) lock(ctx context.Context, path string) (unlock func(), err error) {
	name := path + ".lock"
	ctx, cancel := context.WithTimeout(ctx, s.patience())
	defer cancel()
	ticker := time.NewTicker(lockPause)
	defer ticker.Stop()
	for {
		held, err := tryLock(name)
		if err != nil {
			return nil, trouble(Unwritable, path, "cannot be changed: %v", err)
		}
		if held != nil {
			return func() {
				_ = os.Remove(name)
				_ = held.Close()
			}, nil
		}
		select {
		case <-ctx.Done():
			return nil, trouble(Locked, path, "is being changed by another program; if there is none, remove %s", name)
		case <-ticker.C:
		}
	}
}

func (s Store) patience() time.Duration {
	if s.Patience > 0 {
		return s.Patience
	}
	return lockPatience
}

// tryLock returns the lock, or nil if somebody else holds it.
func tryLock(name string) (held *os.File, err error) {
	// The lock appears with its mark and its file lock at once: it is made elsewhere, and linked.
	made, err := os.CreateTemp(filepath.Dir(name), filepath.Base(name)+".new-")
	if err != nil {
		return nil, err
	}
	defer func() {
		_ = os.Remove(made.Name())
		if held != made {
			_ = made.Close()
		}
	}()
	if _, err := made.WriteString(lockMark); err != nil {
		return nil, err
	}
	if err := exclusive(made); err != nil {
		return nil, err
	}
	switch err := os.Link(made.Name(), name); {
	case err == nil:
		return made, nil
	case errors.Is(err, fs.ErrExist):
		return takeOver(name)
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.ENOSYS), errors.Is(err, unix.EMLINK):
		return plainLock(name) // a file system without links
	default:
		return nil, err
	}
}

func plainLock(name string) (*os.File, error) {
	file, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600) //nolint:gosec // whoever runs the program says which file
	if errors.Is(err, fs.ErrExist) {
		return nil, nil //nolint:nilnil // somebody else holds it
	}
	return file, err
}

// takeOver takes a lock that a run of this program has left behind when it was killed.
func takeOver(name string) (*os.File, error) {
	file, err := os.OpenFile(name, os.O_RDWR|unix.O_NOFOLLOW, 0) //nolint:gosec // whoever runs the program says which file
	if err != nil {
		return nil, nil //nolint:nilnil,nilerr // it is gone, or kubectl's, which nobody can read
	}
	content := make([]byte, len(lockMark)+1)
	n, _ := file.Read(content)
	if string(content[:n]) != lockMark || exclusive(file) != nil || !stillThere(file, name) {
		return nil, file.Close() // somebody else holds it
	}
	return file, nil
}

// stillThere tells that a lock has not been removed while it was being opened.
func stillThere(file *os.File, name string) bool {
	mine, err := file.Stat()
	if err != nil {
		return false
	}
	there, err := os.Lstat(name)
	return err == nil && os.SameFile(mine, there)
}

func exclusive(file *os.File) error {
	if err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return fmt.Errorf("lock %s: %w", file.Name(), err)
	}
	return nil
}

// abandoned is how old a lock's file is that never became a lock.
const abandoned = time.Minute

// litter are files that killed runs have left beside a kubeconfig.
func litter(path string) []string {
	dir, base := filepath.Dir(path), filepath.Base(path)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	var found []string
	for _, entry := range entries {
		info, err := entry.Info()
		if err != nil {
			continue
		}
		old := strings.HasPrefix(entry.Name(), base+".lock.new-") && time.Since(info.ModTime()) > abandoned
		if old || strings.HasPrefix(entry.Name(), base+temporarySuffix) {
			found = append(found, filepath.Join(dir, entry.Name()))
		}
	}
	return found
}
