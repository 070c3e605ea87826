// SPDX-License-Identifier: Apache-2.0

package kubeconfig

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"syscall"

	"go.yaml.in/yaml/v3"
)

// temporarySuffix begins the names of files that are not finished.
const temporarySuffix = ".kubectl-openstack-"

// file is a kubeconfig as it was read.
type file struct {
	// path is how it is called, and real where it is.
	path, real string
	exists     bool
	data       []byte
	root       *yaml.Node
}

// read reads all files.
func (s Store) read() ([]file, error) {
	var all []file
	for _, path := range s.Paths {
		if err := s.before(StepRead, path); err != nil {
			return nil, wrapped(path, err)
		}
		target, err := resolve(path)
		if err != nil {
			return nil, err
		}
		one := file{path: path, real: target}
		data, err := os.ReadFile(target) //nolint:gosec // whoever runs the program says which file
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return nil, trouble(Unwritable, path, "cannot be read: %v", err)
		default:
			one.exists, one.data = true, data
			if one.root, err = parse(path, data); err != nil {
				return nil, err
			}
		}
		all = append(all, one)
	}
	return all, nil
}

// backup copies a file as it was read.
func (s Store) backup(one file) (string, error) {
	if err := s.before(StepBackup, one.path); err != nil {
		return "", wrapped(one.path, err)
	}
	name := one.real + s.timestamp()
	for attempt := 1; ; attempt++ {
		copied, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600) //nolint:gosec // whoever runs the program says which file
		if errors.Is(err, fs.ErrExist) && attempt < 100 {
			name = one.real + s.timestamp() + "-" + strconv.Itoa(attempt)
			continue
		}
		if err != nil {
			return "", wrapped(one.path, err)
		}
		_, err = copied.Write(one.data)
		if err = errors.Join(err, copied.Sync(), copied.Close()); err != nil {
			return "", wrapped(one.path, errors.Join(err, os.Remove(name)))
		}
		return name, nil
	}
}

// replace puts another file in a file's place, unless that has changed in the meantime.
func (s Store) replace(one file, data []byte) (err error) {
	if err := s.before(StepCreate, one.path); err != nil {
		return wrapped(one.path, err)
	}
	dir := filepath.Dir(one.real)
	for _, old := range litter(one.real) { // nobody else writes while this one has the lock
		_ = os.Remove(old)
	}
	made, err := os.CreateTemp(dir, filepath.Base(one.real)+temporarySuffix) // it has mode 0600
	if err != nil {
		return wrapped(one.path, err)
	}
	defer func() {
		if err != nil {
			_ = made.Close()
			_ = os.Remove(made.Name())
		}
	}()
	keepOwner(one.real, made)
	if err := s.fill(one, made, data); err != nil {
		return wrapped(one.path, err)
	}
	if err := s.before(StepRename, one.path); err != nil {
		return wrapped(one.path, err)
	}
	if !one.unchanged() {
		return errChanged
	}
	if err := os.Rename(made.Name(), one.real); err != nil {
		return wrapped(one.path, err)
	}
	syncDir(dir)
	// The file is the new one from here on, whatever else happens.
	return s.before(StepDone, one.path)
}

// fill writes in two halves, so that a test can stop between them.
func (s Store) fill(one file, made *os.File, data []byte) error {
	half := len(data) / 2
	if _, err := made.Write(data[:half]); err != nil {
		return err
	}
	if err := s.before(StepWrite, one.path); err != nil {
		return err
	}
	if _, err := made.Write(data[half:]); err != nil {
		return err
	}
	if err := s.before(StepSync, one.path); err != nil {
		return err
	}
	return errors.Join(made.Sync(), made.Close())
}

// unchanged tells that a file is still what was read.
func (f file) unchanged() bool {
	data, err := os.ReadFile(f.real)
	if errors.Is(err, fs.ErrNotExist) {
		return !f.exists
	}
	return err == nil && f.exists && bytes.Equal(data, f.data)
}

// keepOwner leaves a user his file when root changes it for him.
func keepOwner(path string, made *os.File) {
	info, err := os.Stat(path)
	if err != nil || os.Geteuid() != 0 {
		return
	}
	if owner, ok := info.Sys().(*syscall.Stat_t); ok {
		_ = made.Chown(int(owner.Uid), int(owner.Gid))
	}
}

// syncDir makes a rename last. Some file systems cannot do that for directories.
func syncDir(dir string) {
	if opened, err := os.Open(dir); err == nil { //nolint:gosec // whoever runs the program says which file
		_ = opened.Sync()
		_ = opened.Close()
	}
}
