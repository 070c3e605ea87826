// SPDX-License-Identifier: Apache-2.0

package mtconfig

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

// access is who may do what with a file.
type access struct {
	mode fs.FileMode
	// uid and gid are its owner's; -1 is whoever it is.
	uid, gid int
}

// access of a file with a mode. Those of whom the webhooks read secrets are theirs.
func (i *installer) access(mode fs.FileMode, theirs bool) access {
	if !theirs || mode != secretMode {
		return access{mode: mode, uid: -1, gid: -1}
	}
	return access{mode: mode, uid: i.uid, gid: i.gid}
}

// problem says what is wrong with a file's mode and owner; empty if nothing is, or there is no file.
func (a access) problem(path string) (string, error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	if mode := info.Mode().Perm(); mode != a.mode {
		text := fmt.Sprintf("its mode is %o, not %o", mode, a.mode)
		if a.mode == secretMode && mode&0o077 != 0 {
			text += ": others than its owner may read it"
		}
		return text, nil
	}
	stat, known := info.Sys().(*syscall.Stat_t)
	if known && a.uid >= 0 && (int(stat.Uid) != a.uid || int(stat.Gid) != a.gid) {
		return fmt.Sprintf("it belongs to %d:%d, not to %d:%d", stat.Uid, stat.Gid, a.uid, a.gid), nil
	}
	return "", nil
}

// give sets a file's mode and owner.
func (a access) give(path string) error {
	if err := os.Chmod(path, a.mode); err != nil || a.uid < 0 {
		return err
	}
	return os.Chown(path, a.uid, a.gid)
}

// repair sets the mode and owner of a file whose content is right, if they are not.
func (i *installer) repair(name string, want access) error {
	path := i.site.path(name)
	problem, err := want.problem(path)
	if err == nil && problem != "" {
		err = want.give(path)
		i.written = append(i.written, name)
	}
	if err != nil {
		return fmt.Errorf("repair %s: %w", name, err)
	}
	return nil
}
