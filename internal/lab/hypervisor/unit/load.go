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

var (
	// ErrNotFound is the error for a unit without a file.
	ErrNotFound = errors.New("unit not found")
	// ErrMasked is the error for a unit that was made impossible to start.
	ErrMasked = errors.New("unit is masked")
)

// Unit is what the files of a unit say.
type Unit struct {
	// Name is the unit's own name, after an alias was followed.
	Name string
	// Path is its file and DropIns further ones, below the root.
	Path    string
	DropIns []string

	entries []entry
}

// dirs are where unit files are; the first one wins.
func dirs() []string {
	return []string{"/etc/systemd/system", "/run/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"}
}

// FullName adds .service to a name without a kind.
func FullName(name string) string {
	if kind := Kind(name); kind != "" {
		return name
	}
	return name + ".service"
}

// Kind is a unit's kind (service, target, …), empty when the name has none.
func Kind(name string) string {
	switch kind := strings.TrimPrefix(filepath.Ext(name), "."); kind {
	case "service", "target", "socket", "timer", "mount", "path", "slice", "swap", "automount", "device", "scope":
		return kind
	default:
		return ""
	}
}

// Template is the name of the template that an instance is made from, and the instance's
// own part of its name; the template is empty for other units.
func Template(name string) (template, instance string) {
	prefix, rest, ok := strings.Cut(name, "@")
	extension := filepath.Ext(rest)
	instance = strings.TrimSuffix(rest, extension)
	if !ok || instance == "" {
		return "", ""
	}
	return prefix + "@" + extension, instance
}

// Load reads the files of a unit. The error is ErrNotFound or ErrMasked if there is
// nothing to read.
func Load(root, name string) (*Unit, error) {
	name = FullName(name)
	if strings.Contains(name, "/") {
		return nil, fmt.Errorf("unit name %q has a slash", name)
	}
	path, err := find(root, name)
	if err != nil {
		return nil, fmt.Errorf("unit %s: %w", name, err)
	}
	unit := &Unit{Name: canonical(root, path, name), Path: path}
	if unit.DropIns, err = dropIns(root, unit.Name); err != nil {
		return nil, fmt.Errorf("unit %s: %w", name, err)
	}
	for _, file := range append([]string{path}, unit.DropIns...) {
		entries, err := read(filepath.Join(root, file))
		if err != nil {
			return nil, fmt.Errorf("unit %s: %s: %w", name, file, err)
		}
		unit.entries = append(unit.entries, entries...)
	}
	return unit, nil
}

func read(path string) ([]entry, error) {
	file, err := os.Open(filepath.Clean(path))
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	return parse(file)
}

// find returns the path of a unit's file, that of its template if it has none itself.
func find(root, name string) (string, error) {
	candidates := []string{name}
	if template, _ := Template(name); template != "" {
		candidates = append(candidates, template)
	}
	for _, candidate := range candidates {
		for _, dir := range dirs() {
			path := filepath.Join(dir, candidate)
			if masked(filepath.Join(root, path)) {
				return "", ErrMasked
			}
			if target, ok := resolve(root, path); ok {
				return target, nil
			}
		}
	}
	return "", ErrNotFound
}

func masked(path string) bool {
	target, err := os.Readlink(path)
	return err == nil && target == os.DevNull
}

// resolve follows links of unit files, whose targets are paths below the root.
func resolve(root, path string) (string, bool) {
	const longest = 8
	for range longest {
		target, err := os.Readlink(filepath.Join(root, path))
		if err != nil {
			break // a plain file, or nothing
		}
		if !filepath.IsAbs(target) {
			target = filepath.Join(filepath.Dir(path), target)
		}
		path = filepath.Clean(target)
	}
	info, err := os.Stat(filepath.Join(root, path))
	return path, err == nil && info.Mode().IsRegular()
}

// canonical is the name of a unit that was asked for by name and found in path: an alias is
// a link to a file of another name.
func canonical(root, path, name string) string {
	found := filepath.Base(path)
	if template, _ := Template(name); template == found {
		return name
	}
	if _, err := os.Stat(filepath.Join(root, path)); err != nil {
		return name
	}
	return found
}

// dropIns are the paths of a unit's further files in the order in which they count. Of two
// with the same name, that in the first directory is read.
func dropIns(root, name string) ([]string, error) {
	names := []string{name}
	if template, _ := Template(name); template != "" {
		names = append(names, template)
	}
	found := map[string]string{}
	for _, dir := range dirs() {
		for _, unit := range names {
			if err := addDropIns(root, filepath.Join(dir, unit+".d"), found); err != nil {
				return nil, err
			}
		}
	}
	paths := make([]string, 0, len(found))
	for _, base := range slices.Sorted(maps.Keys(found)) {
		if !masked(filepath.Join(root, found[base])) {
			paths = append(paths, found[base])
		}
	}
	return paths, nil
}

// addDropIns adds those of a directory whose names are new to found.
func addDropIns(root, path string, found map[string]string) error {
	entries, err := os.ReadDir(filepath.Join(root, path))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if _, known := found[entry.Name()]; !known && filepath.Ext(entry.Name()) == ".conf" {
			found[entry.Name()] = filepath.Join(path, entry.Name())
		}
	}
	return nil
}
