// SPDX-License-Identifier: Apache-2.0

package gobuild

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// progressInterval is how often a running build is reported.
const progressInterval = time.Second

// Target says what to build.
type Target struct {
	// Name is the program's file name.
	Name string
	// Module is the directory of its module, relative to the root of the source tree.
	Module string
	// Package is the main package within the module, such as "./kube-all", or an import path.
	Package string
	// LDFlags are the linker's flags.
	LDFlags string
	// Links are further names of the program, made as symbolic links beside it.
	Links []string
}

// Config is the input of Build.
type Config struct {
	Target Target
	// Source is the root of the source tree; empty means what FindSource finds.
	Source string
	// Cache is the cache directory; empty means what CacheDir says.
	Cache string
	// Progress, when not nil, is told about a build every second, with the time since it began. It is not called when
	// the cache has the program already.
	Progress func(step string, elapsed time.Duration)
}

// Build returns a directory with the program and its links, building them unless the cache has them. It may take
// minutes. Concurrent calls, also of other processes, build once.
func Build(ctx context.Context, cfg Config) (string, error) {
	cfg, err := cfg.complete()
	if err != nil {
		return "", err
	}
	moduleDir := filepath.Join(cfg.Source, cfg.Target.Module)
	toolchain, err := toolchain(ctx, moduleDir)
	if err != nil {
		return "", err
	}
	key, err := cfg.Target.Key(moduleDir, toolchain)
	if err != nil {
		return "", err
	}
	dir := filepath.Join(cfg.Cache, "bin", cfg.Target.Name+"-"+key)
	if built(dir) {
		return dir, nil
	}
	began := time.Now()
	report := func(step string) { cfg.Progress(step, time.Since(began)) }
	unlock, err := lock(ctx, dir+".lock", func() { report("waiting for another build of " + cfg.Target.Name) })
	if err != nil {
		return "", fmt.Errorf("build %s: %w", cfg.Target.Name, err)
	}
	defer unlock()
	if built(dir) {
		return dir, nil
	}
	if err := cfg.Target.buildInto(ctx, moduleDir, dir, report); err != nil {
		return "", fmt.Errorf("build %s: %w", cfg.Target.Name, err)
	}
	return dir, nil
}

func (c Config) complete() (Config, error) {
	var err error
	if c.Source == "" {
		if c.Source, err = FindSource(""); err != nil {
			return c, err
		}
	}
	if c.Cache == "" {
		if c.Cache, err = CacheDir(); err != nil {
			return c, err
		}
	}
	if c.Progress == nil {
		c.Progress = func(string, time.Duration) {}
	}
	return c, os.MkdirAll(filepath.Join(c.Cache, "bin"), 0o750)
}

// buildInto builds beside dir and moves the result there at once.
func (t Target) buildInto(ctx context.Context, moduleDir, dir string, report func(step string)) error {
	tmp, err := os.MkdirTemp(filepath.Dir(dir), "."+t.Name+"-*")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(tmp) }() // nothing is left there after success
	out := filepath.Join(tmp, "out")
	if err := os.Mkdir(out, 0o750); err != nil {
		return err
	}
	cmd := goCommand(ctx, moduleDir, "build", "-trimpath", "-buildvcs=false", "-ldflags", t.LDFlags, "-o", filepath.Join(out, t.Name), t.Package)
	cmd.Env = append(cmd.Env, "CGO_ENABLED=0")
	if err := runReporting(cmd, func() { report("building " + t.Name) }); err != nil {
		return err
	}
	for _, link := range t.Links {
		if err := os.Symlink(t.Name, filepath.Join(out, link)); err != nil {
			return err
		}
	}
	return os.Rename(out, dir)
}

// runReporting runs the command and calls report at once and every second. Its error carries what the command said.
func runReporting(cmd *exec.Cmd, report func()) error {
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Start(); err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	ticker := time.NewTicker(progressInterval)
	defer ticker.Stop()
	for {
		report()
		select {
		case <-ticker.C:
		case err := <-done:
			if err != nil {
				return fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args, " "), err, bytes.TrimSpace(output.Bytes()))
			}
			return nil
		}
	}
}

// toolchain returns the version of Go that builds the module.
func toolchain(ctx context.Context, moduleDir string) (string, error) {
	cmd := goCommand(ctx, moduleDir, "env", "GOVERSION", "GOOS", "GOARCH")
	out, err := cmd.Output()
	if errors.Is(err, exec.ErrNotFound) {
		return "", errors.New("the go command is not in PATH, and the lab builds its programs with it")
	}
	if err != nil {
		return "", fmt.Errorf("find version of go: %w", err)
	}
	return strings.Join(strings.Fields(string(out)), " "), nil
}

// goCommand returns a go command that sees the module alone, and does not change it.
func goCommand(ctx context.Context, moduleDir string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "go", args...) //nolint:gosec // the arguments are this package's own
	cmd.Dir = moduleDir
	cmd.Env = append(os.Environ(), "GOFLAGS=-mod=readonly", "GOWORK=off")
	return cmd
}

func built(dir string) bool {
	_, err := os.Stat(dir)
	return !errors.Is(err, fs.ErrNotExist)
}
