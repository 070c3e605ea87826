// SPDX-License-Identifier: Apache-2.0

// Package nodeimage builds the image of the lab's virtual machines, the one that sites
// build, too: it runs deploy/images/debian12.sh and keeps what that makes in the lab's
// cache, under a name that depends on everything that goes into it.
//
//	image, err := nodeimage.Build(ctx, nodeimage.Config{})
//	// image.Root is the lower layer of machines that are namespaces
//
// It imports the lab's other builders: gobuild, image and kube. Building needs root.
package nodeimage

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/cloudveneto/caas/internal/lab/gobuild"
	"github.com/cloudveneto/caas/internal/lab/image"
	"github.com/cloudveneto/caas/internal/lab/kube"
)

const (
	rootName = "root"
	diskName = "disk.qcow2"
)

// Config says what is wanted. The zero value is for machines that are namespaces.
type Config struct {
	// Source is the root of the source tree; empty means what gobuild.FindSource finds.
	Source string
	// Cache is the lab's cache directory; empty means what gobuild.CacheDir says.
	Cache string
	// Kubernetes is a directory with kubelet and kube-proxy; empty means what kube.Build
	// makes.
	Kubernetes string
	// VM asks for the disk, which takes another minute when it is not in the cache.
	VM bool
	// Progress, when not nil, is told about a build every second, with the time since it
	// began. It is called from one goroutine at a time.
	Progress func(step string, elapsed time.Duration)
}

// Image is a finished image. Nothing in it may be changed: other labs use it, too.
type Image struct {
	// Root is a directory with the root file system, without a kernel: the lower layer of
	// an overlay.
	Root string
	// Disk is a qcow2 image that boots by itself; Kernel and Initrd are those in it, for
	// starting it without its boot loader, with the arguments that KernelArguments
	// returns. All are empty unless asked for.
	Disk, Kernel, Initrd string
}

// KernelArguments are what the disk's kernel needs to be told when it is started directly.
// Emulated processors are slow enough without work-arounds for the bugs of real ones.
func KernelArguments() string {
	return "root=LABEL=osn-root ro console=tty0 console=ttyS0,115200 net.ifnames=0 quiet mitigations=off"
}

// Build returns the image, from the cache if it is there. Builders of the same image in
// other processes are waited for.
func Build(ctx context.Context, config Config) (Image, error) {
	built, err := build(ctx, config)
	if err != nil {
		return Image{}, fmt.Errorf("build node image: %w", err)
	}
	return built, nil
}

func build(ctx context.Context, config Config) (Image, error) {
	if err := config.complete(ctx); err != nil {
		return Image{}, err
	}
	pause, err := config.pause(ctx)
	if err != nil {
		return Image{}, err
	}
	key, err := config.key(pause)
	if err != nil {
		return Image{}, err
	}
	base := filepath.Join(config.Cache, "nodeimages", "debian12-"+key)
	if err := config.ensure(ctx, base, pause, rootName, "dir"); err != nil {
		return Image{}, err
	}
	result := Image{Root: filepath.Join(base, rootName)}
	if !config.VM {
		return result, nil
	}
	if err := config.ensure(ctx, base+"-vm", pause, diskName, "qcow2"); err != nil {
		return Image{}, err
	}
	result.Disk = filepath.Join(base+"-vm", diskName)
	result.Kernel, result.Initrd = result.Disk+".vmlinuz", result.Disk+".initrd"
	return result, nil
}

func (c *Config) complete(ctx context.Context) error {
	var err error
	if c.Source, err = gobuild.FindSource(c.Source); err != nil {
		return err
	}
	if c.Cache == "" {
		if c.Cache, err = gobuild.CacheDir(); err != nil {
			return err
		}
	}
	if c.Progress == nil {
		c.Progress = func(string, time.Duration) {}
	}
	if c.Kubernetes == "" {
		c.Kubernetes, err = kube.Build(ctx, gobuild.Config{Source: c.Source, Cache: c.Cache, Progress: c.Progress})
	}
	return err
}

// pause builds the container image that every pod needs, and without which a node whose
// registry is slow would be slow to start its first pod.
func (c *Config) pause(ctx context.Context) (image.Image, error) {
	recipe, err := image.Load(filepath.Join(c.Source, "hack", "images", "pause.yaml"))
	if err != nil {
		return image.Image{}, err
	}
	return image.Build(ctx, image.Options{Source: c.Source, Cache: c.Cache, Progress: c.Progress}, recipe)
}

// ensure makes the directory final with what the script makes in format, called name,
// unless it is there.
func (c *Config) ensure(ctx context.Context, final string, pause image.Image, name, format string) error {
	if exists(final) {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(final), 0o750); err != nil {
		return err
	}
	report := startReport(c.Progress)
	defer report.stop()
	report.step("waiting for another build of the node image")
	unlock, err := lock(ctx, final+".lock")
	if err != nil {
		return err
	}
	defer unlock()
	if exists(final) {
		return nil
	}
	work, err := os.MkdirTemp(filepath.Dir(final), ".build-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(work) }()
	out := filepath.Join(work, "out")
	if err := os.Mkdir(out, 0o750); err != nil {
		return err
	}
	archive := filepath.Join(work, "pause.tar")
	if err := writeArchive(ctx, pause.Layout, archive); err != nil {
		return err
	}
	err = c.run(ctx, report, []string{
		"--format", format, "--output", filepath.Join(out, name), "--image", archive, "--sandbox-image", pause.Reference,
		"--kubelet", filepath.Join(c.Kubernetes, "kubelet"), "--kube-proxy", filepath.Join(c.Kubernetes, "kube-proxy"),
	})
	if err != nil {
		return err
	}
	return os.Rename(out, final)
}

func writeArchive(ctx context.Context, layout, path string) error {
	file, err := os.Create(filepath.Clean(path))
	if err != nil {
		return err
	}
	return errors.Join(image.Archive(ctx, layout, file), file.Close())
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
