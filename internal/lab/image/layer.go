// SPDX-License-Identifier: Apache-2.0

package image

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"

	"github.com/google/go-containerregistry/pkg/compression"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// entry is one file of an image, or one link when link is set.
type entry struct {
	path   string // in the image, absolute
	source string // here
	link   string
	sum    string // of the content
}

// gather collects the recipe's files and compiles its programs into work.
func gather(ctx context.Context, options Options, recipe Recipe, work string) ([]entry, error) {
	var entries []entry
	for index, program := range recipe.Programs {
		binary := filepath.Join(work, fmt.Sprintf("program-%d", index))
		if err := compile(ctx, options.Source, program.Package, binary); err != nil {
			return nil, err
		}
		entries = append(entries, entry{path: program.Path, source: binary})
	}
	for _, file := range recipe.Files {
		entries = append(entries, entry{path: file.Path, source: file.Source})
		if !file.Applets {
			continue
		}
		links, err := applets(ctx, file)
		if err != nil {
			return nil, err
		}
		entries = append(entries, links...)
	}
	for index := range entries {
		if entries[index].link != "" {
			continue
		}
		sum, err := sumOf(entries[index].source)
		if err != nil {
			return nil, err
		}
		entries[index].sum = sum
	}
	return entries, nil
}

func compile(ctx context.Context, source, pkg, output string) error {
	command := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", output, pkg) //nolint:gosec // the recipe is part of the repository
	command.Dir = source
	command.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux")
	if text, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("compile %s: %w: %s", pkg, err, lastLines(text))
	}
	return nil
}

// applets asks a multi-call program for its names and links them to it.
func applets(ctx context.Context, file File) ([]entry, error) {
	output, err := exec.CommandContext(ctx, file.Source, "--list").Output() //nolint:gosec // the recipe is part of the repository
	if err != nil {
		return nil, fmt.Errorf("list the applets of %s: %w", file.Source, err)
	}
	base := path.Base(file.Path)
	var links []entry
	for name := range strings.FieldsSeq(string(output)) {
		if name != base {
			links = append(links, entry{path: path.Join(path.Dir(file.Path), name), link: base})
		}
	}
	return links, nil
}

func sumOf(source string) (string, error) {
	file, err := os.Open(filepath.Clean(source))
	if err != nil {
		return "", err
	}
	defer func() { _ = file.Close() }()
	sum := sha256.New()
	if _, err := io.Copy(sum, file); err != nil {
		return "", err
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

// writeLayer makes the image's one layer: the Debian root file system, if any, then
// the entries.
func writeLayer(ctx context.Context, recipe Recipe, entries []entry, work string, report *report) (v1.Layer, error) { //nolint:ireturn // the library has no other type for it
	file, err := os.Create(filepath.Clean(filepath.Join(work, "layer.tar")))
	if err != nil {
		return nil, err
	}
	writer := layerWriter{tar: tar.NewWriter(file), seen: map[string]bool{}}
	if recipe.Debian != nil {
		report.step("install packages")
		err = writer.addDebian(ctx, *recipe.Debian, work)
	} else {
		err = writer.addBase()
	}
	if err == nil {
		err = writer.addEntries(entries)
	}
	if err := errors.Join(err, writer.tar.Close(), file.Close()); err != nil {
		return nil, err
	}
	report.step("compress")
	return tarball.LayerFromFile(file.Name(), tarball.WithCompression(compression.ZStd), tarball.WithMediaType(types.OCILayerZStd))
}

// layerWriter writes a layer's archive.
type layerWriter struct {
	tar  *tar.Writer
	seen map[string]bool // directories written
}

// addBase writes what programs expect in an otherwise empty image.
func (w *layerWriter) addBase() error {
	for _, dir := range []tar.Header{{Name: "tmp/", Mode: 0o1777}, {Name: "etc/", Mode: 0o755}, {Name: "root/", Mode: 0o700}} {
		dir.Typeflag = tar.TypeDir
		w.seen[strings.Trim(dir.Name, "/")] = true
		if err := w.tar.WriteHeader(&dir); err != nil {
			return err
		}
	}
	if err := w.addContent("/etc/passwd", 0o644, "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n"); err != nil {
		return err
	}
	return w.addContent("/etc/group", 0o644, "root:x:0:\nnogroup:x:65534:\n")
}

func (w *layerWriter) addContent(name string, mode int64, content string) error {
	header := &tar.Header{Typeflag: tar.TypeReg, Name: strings.TrimPrefix(name, "/"), Mode: mode, Size: int64(len(content))}
	if err := w.tar.WriteHeader(header); err != nil {
		return err
	}
	_, err := io.WriteString(w.tar, content)
	return err
}

func (w *layerWriter) addEntries(entries []entry) error {
	for _, entry := range entries {
		if err := w.addParents(entry.path); err != nil {
			return err
		}
		if err := w.addEntry(entry); err != nil {
			return fmt.Errorf("add %s: %w", entry.path, err)
		}
	}
	return nil
}

func (w *layerWriter) addParents(name string) error {
	parent := strings.Trim(path.Dir(name), "/")
	if parent == "" || parent == "." || w.seen[parent] {
		return nil
	}
	if err := w.addParents("/" + parent); err != nil {
		return err
	}
	w.seen[parent] = true
	return w.tar.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: parent + "/", Mode: 0o755})
}

func (w *layerWriter) addEntry(entry entry) error {
	target := strings.TrimPrefix(entry.path, "/")
	if entry.link != "" {
		return w.tar.WriteHeader(&tar.Header{Typeflag: tar.TypeSymlink, Name: target, Linkname: entry.link, Mode: 0o777})
	}
	file, err := os.Open(filepath.Clean(entry.source))
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	if err := w.tar.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: target, Mode: 0o755, Size: info.Size()}); err != nil {
		return err
	}
	_, err = io.Copy(w.tar, file)
	return err
}

// lastLines is the end of a program's output, for an error message.
func lastLines(text []byte) string {
	const lineCount, length = 5, 1000
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	end := strings.Join(lines[max(0, len(lines)-lineCount):], "\n")
	return end[max(0, len(end)-length):]
}
