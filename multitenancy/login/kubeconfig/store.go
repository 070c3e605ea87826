// SPDX-License-Identifier: Apache-2.0

package kubeconfig

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// Step is something that a write does. Each can fail, and the program can die at each.
type Step string

// The steps, in their order.
const (
	StepLock   Step = "lock"
	StepRead   Step = "read"
	StepBackup Step = "backup"
	StepCreate Step = "create"
	StepWrite  Step = "write"
	StepSync   Step = "sync"
	StepRename Step = "rename"
	StepDone   Step = "done"
)

// Steps are all of them.
func Steps() []Step {
	return []Step{StepLock, StepRead, StepBackup, StepCreate, StepWrite, StepSync, StepRename, StepDone}
}

// Faults make steps fail.
type Faults interface {
	// Before is called before a step; its error is the step's. It may end the process.
	Before(step Step, path string) error
}

// Store is the files that kubectl reads.
type Store struct {
	// Paths are the files, those that come first first.
	Paths []string
	// Now is time.Now if it is nil.
	Now func() time.Time
	// Patience is how long to wait for a lock; 10 s if it is 0.
	Patience time.Duration
	// Faults are for tests; nil otherwise.
	Faults Faults
}

// Paths are the files that kubectl reads: the one that is named, or those in $KUBECONFIG, or ~/.kube/config.
func Paths(explicit, variable, home string) []string {
	if explicit != "" {
		return []string{explicit}
	}
	var paths []string
	for _, path := range filepath.SplitList(variable) {
		if path != "" && !slices.Contains(paths, path) {
			paths = append(paths, path)
		}
	}
	if len(paths) == 0 {
		paths = []string{filepath.Join(home, ".kube", "config")}
	}
	return paths
}

// Result is what a change did.
type Result struct {
	// Written are the files that have changed, and Backups the copies of what was there before, where
	// something was replaced that this program has not made.
	Written, Backups []string
	// Path is the file with the contexts.
	Path string
}

// retries are for files that somebody changes without kubectl's lock.
const retries = 5

// errChanged is that a file has changed since it was read.
var errChanged = errors.New("it changes all the time")

func (s Store) before(step Step, path string) error {
	if s.Faults == nil {
		return nil
	}
	return s.Faults.Before(step, path)
}

// Apply makes a change. It writes entries into the file that has them already, and new ones and
// the context in use into the first file that exists, as kubectl does.
func (s Store) Apply(ctx context.Context, change Change) (Result, error) {
	unlock, err := s.lockAll(ctx)
	if err != nil {
		return Result{}, err
	}
	defer unlock()
	for range retries {
		var result Result
		if result, err = s.apply(change); !errors.Is(err, errChanged) {
			return result, err
		}
	}
	return Result{}, trouble(Unwritable, s.main(), "cannot be changed: %v", err)
}

// Check tells whether a change could be made as things are, without making it.
func (s Store) Check(change Change) error {
	files, err := s.read()
	if err != nil {
		return err
	}
	plan, err := s.plan(files, change)
	if err != nil {
		return err
	}
	for path := range plan {
		if err := writable(path); err != nil {
			return err
		}
	}
	return nil
}

// lockAll takes the locks of all files, always in the same order. A file behind a link has two names, and so two locks;
// one in a directory behind a link has one lock, however it is called.
func (s Store) lockAll(ctx context.Context) (unlock func(), err error) {
	var names []string
	for _, path := range s.Paths {
		target, err := resolve(path)
		if err != nil {
			return nil, err
		}
		names = append(names, settled(path), target)
	}
	slices.Sort(names)
	names = slices.Compact(names)
	var held []func()
	unlock = func() {
		for _, one := range slices.Backward(held) {
			one()
		}
	}
	main := settled(s.main())
	for _, name := range names {
		if _, err := os.Stat(filepath.Dir(name)); err != nil && name != main {
			continue // kubectl does not make directories for the others either
		}
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			unlock()
			return nil, trouble(Unwritable, name, "cannot be made: %v", err)
		}
		if err := s.before(StepLock, name); err != nil {
			unlock()
			return nil, err
		}
		one, err := s.lock(ctx, name)
		if err != nil {
			unlock()
			return nil, err
		}
		held = append(held, one)
	}
	return unlock, nil
}

// main is the file for what is new: the first that exists, or the last, as with kubectl.
func (s Store) main() string {
	for _, path := range s.Paths {
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	return s.Paths[len(s.Paths)-1]
}

// parts is what is to be done in one file.
type parts struct {
	entries []entry
	current *string
	// foreign tells that something is replaced that is somebody else's.
	foreign bool
}

func (s Store) apply(change Change) (Result, error) {
	result := Result{Path: s.main()}
	files, err := s.read()
	if err != nil {
		return result, err
	}
	plan, err := s.plan(files, change)
	if err != nil {
		return result, err
	}
	for _, file := range files {
		part, touched := plan[file.path]
		if !touched {
			continue
		}
		written, backup, err := s.rewrite(file, part)
		if err != nil {
			return result, err
		}
		if written {
			result.Written = append(result.Written, file.path)
		}
		if backup != "" {
			result.Backups = append(result.Backups, backup)
		}
	}
	return result, nil
}

// plan says which file gets what, and refuses what is somebody else's.
func (s Store) plan(files []file, change Change) (map[string]*parts, error) {
	plan := map[string]*parts{}
	of := func(path string) *parts {
		if plan[path] == nil {
			plan[path] = &parts{}
		}
		return plan[path]
	}
	for _, e := range change.entries() {
		path, known, mine := holder(files, e)
		switch {
		case known && !mine && !change.Force:
			return nil, trouble(Conflict, path,
				"has an entry %q in %s that kubectl-openstack has not made; -force overwrites it", e.name, e.section)
		case !known && e.remove:
			continue
		case !known:
			path = s.main()
		}
		part := of(path)
		part.foreign = part.foreign || known && !mine
		part.entries = append(part.entries, e)
	}
	s.planCurrent(files, change, of)
	return plan, nil
}

// holder is the first file that has an entry. Those of others are not looked at when one is to be removed.
func holder(files []file, e entry) (path string, known, mine bool) {
	for _, file := range files {
		all := list(file.root, e.section)
		at := index(all, e.name)
		if at < 0 {
			continue
		}
		mine := markOf(find(all[at], body(e.section))) != nil
		if mine || !e.remove {
			return file.path, true, mine
		}
	}
	return "", false, false
}

// planCurrent sets the context in use, or clears it when its context goes.
func (s Store) planCurrent(files []file, change Change, of func(path string) *parts) {
	if change.Current != "" {
		for _, file := range files {
			// The first file that names one is the one that counts.
			if named := text(find(file.root, current)); named != "" {
				if named != change.Current {
					of(file.path).current = &change.Current
				}
				return
			}
		}
		of(s.main()).current = &change.Current
		return
	}
	none := ""
	for _, file := range files {
		if named := text(find(file.root, current)); slices.Contains(change.Remove.Contexts, named) && of(file.path).entries != nil {
			of(file.path).current = &none
		}
	}
}

// rewrite makes a part of the change in one file.
func (s Store) rewrite(file file, part *parts) (written bool, backup string, err error) {
	data, anew, err := change(file.path, file.data, part.entries, part.current)
	if err != nil {
		return false, "", err
	}
	if file.exists && bytes.Equal(data, file.data) {
		return false, "", s.tighten(file)
	}
	if err := writable(file.path); err != nil {
		return false, "", err
	}
	if part.foreign || anew && file.exists {
		if backup, err = s.backup(file); err != nil {
			return false, "", err
		}
	}
	return true, backup, s.replace(file, data)
}

// tighten takes a file with tokens away from others.
func (s Store) tighten(file file) error {
	info, err := os.Stat(file.real)
	if err != nil || info.Mode().Perm()&0o077 == 0 {
		return nil //nolint:nilerr // it is as it was
	}
	if err := os.Chmod(file.real, info.Mode().Perm()&0o700); err != nil {
		return trouble(Unwritable, file.path, "can be read by others, which cannot be changed: %v", err)
	}
	return nil
}

// writable tells whether a file may be replaced: a file that nobody may write is meant to stay.
func writable(path string) error {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return trouble(Unwritable, path, "cannot be read: %v", err)
	}
	if info.Mode().Perm()&0o200 == 0 {
		return trouble(Unwritable, path, "is read-only; make it writable with chmod u+w, or name another file with KUBECONFIG")
	}
	return nil
}

func wrapped(path string, err error) error {
	if err == nil || errors.Is(err, errChanged) {
		return err
	}
	return trouble(Unwritable, path, "cannot be written, and is as it was: %v", err)
}

// resolve follows links to the file behind them, which need not be there.
func resolve(path string) (string, error) {
	const deepest = 40
	at := path
	for range deepest {
		target, err := os.Readlink(at)
		if err != nil {
			return settled(at), nil //nolint:nilerr // no link: this is the file
		}
		if !filepath.IsAbs(target) {
			target = filepath.Join(filepath.Dir(at), target)
		}
		at = target
	}
	return "", trouble(Unwritable, path, "is a link that leads round in circles")
}

// settled is the one name of a path among those that lead to it by links of its directory, which need not be there.
func settled(path string) string {
	if whole, err := filepath.Abs(path); err == nil {
		path = whole
	}
	dir, err := filepath.EvalSymlinks(filepath.Dir(path))
	if err != nil {
		return path
	}
	return filepath.Join(dir, filepath.Base(path))
}

// timestamp is what backups are called after.
func (s Store) timestamp() string {
	now := time.Now
	if s.Now != nil {
		now = s.Now
	}
	return fmt.Sprintf(".bak-%s", now().UTC().Format("20060102-150405"))
}
