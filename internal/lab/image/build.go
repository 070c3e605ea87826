// SPDX-License-Identifier: Apache-2.0

package image

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cloudveneto/caas/internal/lab/gobuild"
)

const (
	// format is part of every key: raise it when the same recipe gives another image.
	format = "1"
	// progressInterval is how often a build that takes long says that it goes on.
	progressInterval = time.Second
)

// Options say where images are built from and kept.
type Options struct {
	// Source is the repository's root, for recipes with programs; empty means what
	// gobuild.FindSource finds.
	Source string
	// Cache is the lab's cache directory; empty means what gobuild.CacheDir says.
	Cache string
	// Progress, when set, hears at each step and every second what is being done and
	// how long the build has taken. It is called from one goroutine at a time.
	Progress func(step string, elapsed time.Duration)
}

// Image is a finished image in the cache.
type Image struct {
	// Reference is the image's full name with its tag.
	Reference string
	// Layout is the directory of its OCI layout.
	Layout string
	// Size is that of its compressed layers.
	Size int64
}

// Build returns the image that recipe describes, from the cache if it is there.
// Builders of the same image in other processes are waited for.
func Build(ctx context.Context, options Options, recipe Recipe) (Image, error) {
	if err := recipe.validate(); err != nil {
		return Image{}, fmt.Errorf("image recipe: %w", err)
	}
	if err := options.complete(recipe); err != nil {
		return Image{}, fmt.Errorf("build image %s: %w", recipe.Reference, err)
	}
	built, err := build(ctx, options, recipe)
	if err != nil {
		return Image{}, fmt.Errorf("build image %s: %w", recipe.Reference, err)
	}
	return built, nil
}

func (o *Options) complete(recipe Recipe) error {
	var err error
	if o.Cache == "" {
		if o.Cache, err = gobuild.CacheDir(); err != nil {
			return err
		}
	}
	if o.Source == "" && len(recipe.Programs) > 0 {
		o.Source, err = gobuild.FindSource("")
	}
	return err
}

func build(ctx context.Context, options Options, recipe Recipe) (Image, error) {
	root := filepath.Join(options.Cache, "images")
	if err := os.MkdirAll(root, 0o750); err != nil {
		return Image{}, err
	}
	unlock, err := lock(ctx, filepath.Join(root, ".lock-"+fileName(recipe.Reference)))
	if err != nil {
		return Image{}, err
	}
	defer unlock()
	work, err := os.MkdirTemp(root, ".build-")
	if err != nil {
		return Image{}, err
	}
	defer func() { _ = os.RemoveAll(work) }()

	report := startReport(options.Progress)
	defer report.stop()
	entries, err := gather(ctx, options, recipe, work)
	if err != nil {
		return Image{}, err
	}
	key, err := keyOf(recipe, entries)
	if err != nil {
		return Image{}, err
	}
	final := filepath.Join(root, key)
	if size, err := layoutSize(final); err == nil {
		return Image{Reference: recipe.Reference, Layout: final, Size: size}, nil
	}
	layer, err := writeLayer(ctx, recipe, entries, work, report)
	if err != nil {
		return Image{}, err
	}
	report.step("write")
	temporary := filepath.Join(work, "layout")
	if err := writeLayout(temporary, recipe, layer); err != nil {
		return Image{}, err
	}
	if err := replaceDir(temporary, final); err != nil {
		return Image{}, err
	}
	size, err := layoutSize(final)
	return Image{Reference: recipe.Reference, Layout: final, Size: size}, err
}

// keyOf names an image by all that decides its content.
func keyOf(recipe Recipe, entries []entry) (string, error) {
	sum := sha256.New()
	encoder := json.NewEncoder(sum)
	parts := []any{format, runtime.GOARCH, recipe}
	if recipe.Debian != nil {
		codename, err := codename()
		if err != nil {
			return "", err
		}
		parts = append(parts, codename)
	}
	for _, entry := range entries {
		parts = append(parts, entry.path, entry.link, entry.sum)
	}
	for _, part := range parts {
		if err := encoder.Encode(part); err != nil {
			return "", err
		}
	}
	return fileName(recipe.Reference) + "-" + hex.EncodeToString(sum.Sum(nil))[:16], nil
}

// fileName turns a reference into something readable without slashes and colons.
func fileName(reference string) string {
	base := reference[strings.LastIndex(reference, "/")+1:]
	return strings.ReplaceAll(base, ":", "-")
}

// replaceDir renames a finished directory to its final name. What is in the way is
// broken, because the caller has looked.
func replaceDir(from, to string) error {
	if err := os.RemoveAll(to); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.Rename(from, to)
}

// lock takes the lock file at path, which stays, and returns how to release it.
func lock(ctx context.Context, path string) (func(), error) {
	file, err := os.OpenFile(filepath.Clean(path), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for {
		err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { _ = file.Close() }, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), file.Close())
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(ctx.Err(), file.Close())
		case <-ticker.C:
		}
	}
}
