// SPDX-License-Identifier: Apache-2.0

//go:build e2e

// Package labtest is what the end-to-end tests have in common: one world for all tests of a package, made by the first
// that needs it and removed at the end, also when the tests are interrupted.
//
//	var shared labtest.World[world]
//
//	func TestMain(m *testing.M) { os.Exit(shared.Run(m, labtest.Remove("mine"))) }
//
//	func theWorld(t *testing.T) *world { t.Helper(); return shared.Get(t, newWorld) }
package labtest

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/cloudveneto/caas/internal/lab"
)

const (
	removeTimeout = 2 * time.Minute
	// interruptedCode is what a shell gives a program that an interrupt has ended.
	interruptedCode = 130
)

// World is what all tests of a package share. Its zero value is ready.
type World[W any] struct {
	once  sync.Once
	world *W
	err   error
}

// Open makes a world. Its context is done when it returns, or when the tests are interrupted. What it returns beside an
// error is what there is to remove.
type Open[W any] func(ctx context.Context, logf func(format string, args ...any)) (*W, error)

// Get returns the world, made by the first caller. If that fails, all callers fail.
func (s *World[W]) Get(t *testing.T, open Open[W]) *W {
	t.Helper()
	s.once.Do(func() {
		ctx, stop := interruptible()
		defer stop()
		s.world, s.err = open(ctx, t.Logf)
	})
	require.NoError(t, s.err, "the tests' world came up")
	return s.world
}

// Run runs the tests, and remove when they have ended or were interrupted. It returns the code to exit with. remove has
// two minutes, and Made.
func (s *World[W]) Run(m *testing.M, remove func(ctx context.Context, interrupted bool) error) (code int) {
	interrupted, stop := interruptible()
	defer stop()
	done := make(chan int, 1)
	go func() { done <- m.Run() }() // nothing ends tests but the end of the process
	select {
	case code = <-done:
	case <-interrupted.Done():
	}
	s.Made()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(interrupted), removeTimeout)
	defer cancel()
	if err := remove(ctx, interrupted.Err() != nil); err != nil {
		_, _ = fmt.Fprintln(os.Stderr, "remove what the tests made:", err)
	}
	if interrupted.Err() != nil {
		return interruptedCode
	}
	return code
}

// Made waits until nobody makes the world, and sees to it that nobody does any more. It returns what there is, or nil.
func (s *World[W]) Made() *W {
	s.once.Do(func() { s.err = errors.New("the tests are at their end") })
	return s.world
}

// interruptible is a context that is done when the process is to end.
func interruptible() (context.Context, context.CancelFunc) {
	return signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
}

// Kept says that labs are to outlive their tests, for looking at them.
func Kept() bool { return os.Getenv("CAAS_KEEP_LAB") != "" }

// Remove takes a lab down, unless it is kept and the tests came to their end.
func Remove(name string) func(ctx context.Context, interrupted bool) error {
	return func(ctx context.Context, interrupted bool) error {
		if Kept() && !interrupted {
			return nil
		}
		return Down(ctx, name)
	}
}

// Down takes a lab down.
func Down(ctx context.Context, name string) error {
	_, err := lab.Down(ctx, name, nil)
	return err
}

// Up makes a lab of the built programs and tells logf of each step.
func Up(ctx context.Context, config lab.Config, logf func(format string, args ...any)) (*lab.Lab, error) {
	bin, err := Bin()
	if err != nil {
		return nil, err
	}
	config.Executable = filepath.Join(bin, "caas-lab")
	config.Progress = func(p lab.Progress) {
		if p.Done {
			logf("%s (%s)", p.Step, p.Elapsed.Round(time.Millisecond))
		}
	}
	if _, err := lab.Up(ctx, config); err != nil {
		return nil, err
	}
	return lab.Open(config.Name)
}

// Bin is where make build put the programs.
func Bin() (string, error) {
	dir := os.Getenv("CAAS_BIN")
	if dir == "" {
		return "", errors.New("CAAS_BIN names the directory of the built programs; run the tests by make e2e")
	}
	return filepath.Abs(dir)
}

// NeedRoot skips a test that is not run by root, but not in CI, where that is a mistake.
func NeedRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		require.Empty(t, os.Getenv("CI"), "a lab needs root")
		t.Skip("SKIPPED: a lab needs root")
	}
}

// Parallel is how many tests of a package run at the same time, unless -parallel says it. TestMain calls it first.
func Parallel(n int) {
	flag.Parse()
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if !given {
		_ = flag.Set("test.parallel", strconv.Itoa(n)) // a flag of the testing package's own
	}
}
