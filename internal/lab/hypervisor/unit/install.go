// SPDX-License-Identifier: Apache-2.0

package unit

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// installDir is where links to enabled units are made.
const installDir = "/etc/systemd/system"

// State says whether a unit is started at boot, in systemd's words.
func State(root, name string) (string, error) {
	unit, err := Load(root, name)
	if errors.Is(err, ErrMasked) {
		return "masked", nil
	}
	if err != nil {
		return "", err
	}
	links := unit.links()
	if len(links) == 0 {
		return "static", nil
	}
	for link := range links {
		if _, err := os.Lstat(filepath.Join(root, link)); err == nil {
			return "enabled", nil
		}
	}
	return "disabled", nil
}

// Enable makes the links that the unit's [Install] section names, and says which.
func Enable(root, name string) ([]string, error) {
	unit, err := Load(root, name)
	if err != nil {
		return nil, err
	}
	links := unit.links()
	var done []string
	for _, link := range slices.Sorted(maps.Keys(links)) {
		path := filepath.Join(root, link)
		if current, err := os.Readlink(path); err == nil && current == links[link] {
			continue
		}
		if err := replaceLink(links[link], path); err != nil {
			return done, fmt.Errorf("enable %s: %w", unit.Name, err)
		}
		done = append(done, fmt.Sprintf("Created symlink %s → %s.", link, links[link]))
	}
	for _, also := range unit.Words("Install", "Also") {
		if FullName(also) == unit.Name {
			continue
		}
		more, err := Enable(root, also)
		done = append(done, more...)
		if err != nil && !errors.Is(err, ErrNotFound) {
			return done, err
		}
	}
	return done, nil
}

// Disable removes every link to the unit that Enable could have made, and says which.
func Disable(root, name string) ([]string, error) {
	name = FullName(name)
	var done []string
	paths, err := filepath.Glob(filepath.Join(root, installDir, "*.*", name))
	if err != nil {
		return nil, err
	}
	unit, err := Load(root, name)
	switch {
	case err == nil:
		for link := range unit.links() {
			paths = append(paths, filepath.Join(root, link))
		}
	case !errors.Is(err, ErrNotFound) && !errors.Is(err, ErrMasked):
		return nil, err
	}
	for _, path := range slices.Compact(slices.Sorted(slices.Values(paths))) {
		if info, err := os.Lstat(path); err != nil || info.Mode().Type() != fs.ModeSymlink {
			continue
		}
		if err := os.Remove(path); err != nil {
			return done, fmt.Errorf("disable %s: %w", name, err)
		}
		done = append(done, fmt.Sprintf("Removed %q.", strings.TrimPrefix(path, root)))
	}
	return done, nil
}

// Mask makes a unit impossible to start.
func Mask(root, name string) error {
	path := filepath.Join(root, installDir, FullName(name))
	if info, err := os.Lstat(path); err == nil && info.Mode().Type() != fs.ModeSymlink {
		return fmt.Errorf("mask %s: %s is a file", name, path)
	}
	return replaceLink(os.DevNull, path)
}

// Unmask undoes Mask.
func Unmask(root, name string) error {
	path := filepath.Join(root, installDir, FullName(name))
	if !masked(path) {
		return nil
	}
	return os.Remove(path)
}

func replaceLink(target, path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil { //nolint:gosec // the usual mode of the directory
		return err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.Symlink(target, path)
}

// links are the links that enable the unit and what they point to.
func (u *Unit) links() map[string]string {
	links := map[string]string{}
	for key, suffix := range map[string]string{"WantedBy": ".wants", "RequiredBy": ".requires"} {
		for _, by := range u.Words("Install", key) {
			links[filepath.Join(installDir, u.expand(by)+suffix, u.Name)] = u.Path
		}
	}
	for _, alias := range u.Words("Install", "Alias") {
		links[filepath.Join(installDir, u.expand(alias))] = u.Path
	}
	return links
}

// Wanted are the names of the units that are started with a unit.
func Wanted(root, name string) ([]string, error) {
	names := map[string]bool{}
	for _, dir := range dirs() {
		for _, suffix := range []string{".wants", ".requires"} {
			entries, err := os.ReadDir(filepath.Join(root, dir, FullName(name)+suffix))
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				return nil, fmt.Errorf("read what %s wants: %w", name, err)
			}
			for _, entry := range entries {
				names[entry.Name()] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(names)), nil
}
