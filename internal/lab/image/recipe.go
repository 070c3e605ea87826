// SPDX-License-Identifier: Apache-2.0

// Package image builds the lab's container images without a registry and without
// a container runtime: from files of this machine, from Go programs of this
// repository, and from Debian packages. Finished images are OCI layouts in a cache
// directory, under a name that depends on everything they were built from, so that
// one which is there is the right one.
package image

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	"sigs.k8s.io/yaml"
)

// Recipe says what is in an image.
type Recipe struct {
	// Reference is the image's full name with its tag.
	Reference string `json:"reference"`
	// Files are copied from this machine.
	Files []File `json:"files,omitempty"`
	// Programs are compiled from the repository.
	Programs []Program `json:"programs,omitempty"`
	// Debian is a root file system below Files and Programs.
	Debian *Debian `json:"debian,omitempty"`
	// Entrypoint, Command, Environment and User are what a container runs.
	Entrypoint  []string          `json:"entrypoint,omitempty"`
	Command     []string          `json:"command,omitempty"`
	Environment map[string]string `json:"environment,omitempty"`
	User        string            `json:"user,omitempty"`
}

// File is one file of this machine.
type File struct {
	// Source is its path here, Path the one in the image.
	Source string `json:"source"`
	Path   string `json:"path"`
	// Applets adds a link beside it for each name that `Source --list` prints, as
	// busybox does.
	Applets bool `json:"applets,omitempty"`
}

// Program is a Go program, compiled without cgo.
type Program struct {
	// Package is what `go build` takes, relative to the repository; Path is the
	// program's path in the image.
	Package string `json:"package"`
	Path    string `json:"path"`
}

// Debian is a root file system made of packages of this machine's release and from
// its package sources.
type Debian struct {
	// Packages are installed with what they depend on, but not what they recommend.
	Packages []string `json:"packages"`
	// Exclude are patterns of paths that are left out; a star stands for anything.
	Exclude []string `json:"exclude,omitempty"`
}

// Load reads the recipe in the YAML file at path.
func Load(path string) (Recipe, error) {
	data, err := os.ReadFile(filepath.Clean(path))
	if err != nil {
		return Recipe{}, fmt.Errorf("read image recipe: %w", err)
	}
	var recipe Recipe
	if err := yaml.UnmarshalStrict(data, &recipe); err != nil {
		return Recipe{}, fmt.Errorf("decode image recipe %s: %w", path, err)
	}
	if err := recipe.validate(); err != nil {
		return Recipe{}, fmt.Errorf("image recipe %s: %w", path, err)
	}
	return recipe, nil
}

// LoadAll reads the recipes *.yaml in dir, in the order of their names.
func LoadAll(dir string) ([]Recipe, error) {
	paths, err := filepath.Glob(filepath.Join(dir, "*.yaml"))
	if err != nil {
		return nil, fmt.Errorf("list image recipes: %w", err)
	}
	if len(paths) == 0 {
		return nil, fmt.Errorf("no image recipes in %s", dir)
	}
	slices.Sort(paths)
	recipes := make([]Recipe, 0, len(paths))
	for _, path := range paths {
		recipe, err := Load(path)
		if err != nil {
			return nil, err
		}
		recipes = append(recipes, recipe)
	}
	return recipes, nil
}

// validate reports everything that is wrong with the recipe.
func (r *Recipe) validate() error {
	var problems []error
	if _, err := name.NewTag(r.Reference, name.StrictValidation); err != nil {
		problems = append(problems, fmt.Errorf("reference: %w", err))
	}
	if len(r.Files) == 0 && len(r.Programs) == 0 && r.Debian == nil {
		problems = append(problems, errors.New("no files, no programs and no Debian packages"))
	}
	for _, file := range r.Files {
		if !path.IsAbs(file.Path) || !filepath.IsAbs(file.Source) {
			problems = append(problems, fmt.Errorf("file %q as %q: want absolute paths", file.Source, file.Path))
		}
	}
	for _, program := range r.Programs {
		if !path.IsAbs(program.Path) || !strings.HasPrefix(program.Package, "./") {
			problems = append(problems, fmt.Errorf("program %q as %q: want ./package and an absolute path", program.Package, program.Path))
		}
	}
	if r.Debian != nil && len(r.Debian.Packages) == 0 {
		problems = append(problems, errors.New("debian: no packages"))
	}
	return errors.Join(problems...)
}
