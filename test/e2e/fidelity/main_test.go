// SPDX-License-Identifier: Apache-2.0

//go:build e2e

// Package fidelity_test holds the offloading path to its specification's twenty hard
// cases of pods that are the same pods elsewhere, and to the further ones beside them:
// real clusters, real programs, and what kubectl shows at the origin compared with what
// really runs at the target.
//
// Every case is known by its number. Cases have namespaces of their own and run beside
// each other, except those that take away what all need.
package fidelity_test

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/stretchr/testify/require"
	ctrl "sigs.k8s.io/controller-runtime"

	"github.com/cloudveneto/caas/internal/lab"
)

const (
	labName = "fidelity"
	// atOnce is how many cases that work run at the same time, beside those that wait.
	atOnce = 12
	// parallel is what the testing package lets run: a case that has no turn yet counts for it.
	parallel = "1000"

	cleanupTimeout = 2 * time.Minute
)

//nolint:gochecknoglobals // one world serves all tests of the package
var shared struct {
	once  sync.Once
	world *world
	err   error
}

// TestMain removes the lab at the end, also when it is interrupted.
func TestMain(m *testing.M) {
	flag.Parse()
	ctrl.SetLogger(logr.Discard()) // clients have nothing to say here
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if !given {
		_ = flag.Set("test.parallel", parallel) // a flag of the testing package's own
	}
	interrupted, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	go func() {
		<-interrupted.Done()
		if interrupted.Err() != nil {
			down()
			os.Exit(130)
		}
	}()
	code := m.Run()
	down()
	_ = stop // the process ends here; until then a signal is still wanted
	os.Exit(code)
}

//nolint:gochecknoglobals // taken down once, by whoever comes first
var downOnce sync.Once

func down() {
	downOnce.Do(func() {
		shared.once.Do(func() {}) // nobody makes one now
		if os.Getenv("CAAS_KEEP_LAB") != "" {
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), cleanupTimeout)
		defer cancel()
		if _, err := lab.Down(ctx, labName, nil); err != nil {
			fmt.Fprintln(os.Stderr, "remove the lab:", err)
		}
	})
}

// theWorld returns the world, made by the first caller.
func theWorld(t *testing.T) *world {
	t.Helper()
	if os.Geteuid() != 0 {
		require.Empty(t, os.Getenv("CI"), "these tests need root")
		t.Skip("SKIPPED: the lab needs root")
	}
	shared.once.Do(func() {
		made := &world{}
		if shared.err = made.open(context.Background(), t.Logf); shared.err == nil {
			shared.world = made
		}
	})
	require.NoError(t, shared.err, "the lab came up")
	return shared.world
}
