// SPDX-License-Identifier: Apache-2.0

package image

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// nameAnnotation is where containerd looks for an image's full name when it imports.
const nameAnnotation = "io.containerd.image.name"

const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

func writeLayout(dir string, recipe Recipe, layer v1.Layer) error {
	base := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	image, err := mutate.AppendLayers(base, layer)
	if err != nil {
		return fmt.Errorf("append layer: %w", err)
	}
	config, err := image.ConfigFile()
	if err != nil {
		return fmt.Errorf("read configuration: %w", err)
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", runtime.GOARCH
	config.Config = v1.Config{
		Entrypoint: recipe.Entrypoint, Cmd: recipe.Command, User: recipe.User,
		Env: environment(recipe.Environment),
	}
	if image, err = mutate.ConfigFile(image, config); err != nil {
		return fmt.Errorf("set configuration: %w", err)
	}
	target, err := layout.Write(dir, empty.Index)
	if err != nil {
		return fmt.Errorf("write layout: %w", err)
	}
	err = target.AppendImage(image,
		layout.WithAnnotations(map[string]string{nameAnnotation: recipe.Reference}),
		layout.WithPlatform(v1.Platform{OS: "linux", Architecture: runtime.GOARCH}))
	if err != nil {
		return fmt.Errorf("write layout: %w", err)
	}
	return nil
}

func environment(values map[string]string) []string {
	var list []string
	if _, ok := values["PATH"]; !ok {
		list = append(list, "PATH="+defaultPath)
	}
	for _, key := range slices.Sorted(maps.Keys(values)) {
		list = append(list, key+"="+values[key])
	}
	return list
}

// Open returns the one image in the OCI layout at dir.
func Open(dir string) (v1.Image, error) { //nolint:ireturn // the library's own type for images is an interface
	index, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		return nil, fmt.Errorf("open image layout: %w", err)
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		return nil, fmt.Errorf("open image layout %s: %w", dir, err)
	}
	if len(manifest.Manifests) != 1 {
		return nil, fmt.Errorf("image layout %s has %d images, want one", dir, len(manifest.Manifests))
	}
	image, err := index.Image(manifest.Manifests[0].Digest)
	if err != nil {
		return nil, fmt.Errorf("open image layout %s: %w", dir, err)
	}
	return image, nil
}

// layoutSize is the size of an image's layers; an error when the layout is not whole.
func layoutSize(dir string) (int64, error) {
	image, err := Open(dir)
	if err != nil {
		return 0, err
	}
	layers, err := image.Layers()
	if err != nil {
		return 0, fmt.Errorf("list layers: %w", err)
	}
	var total int64
	for _, layer := range layers {
		size, err := layer.Size()
		if err != nil {
			return 0, fmt.Errorf("measure layer: %w", err)
		}
		total += size
	}
	return total, nil
}

// Archive writes the OCI layout at dir to out as a tar archive, which containerd
// imports under the image's name.
func Archive(ctx context.Context, dir string, out io.Writer) error {
	writer := tar.NewWriter(out)
	err := filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
		if err := errors.Join(err, ctx.Err()); err != nil {
			return err
		}
		if !entry.Type().IsRegular() {
			return nil
		}
		return archiveFile(writer, dir, path)
	})
	if err := errors.Join(err, writer.Close()); err != nil {
		return fmt.Errorf("archive image layout %s: %w", dir, err)
	}
	return nil
}

func archiveFile(writer *tar.Writer, dir, path string) error {
	name, err := filepath.Rel(dir, path)
	if err != nil {
		return err
	}
	file, err := os.Open(filepath.Clean(path))
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	if err := writer.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: info.Size()}); err != nil {
		return err
	}
	_, err = io.Copy(writer, file)
	return err
}
