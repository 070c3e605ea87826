// SPDX-License-Identifier: Apache-2.0

//go:build e2e

// Package tenancy_test attacks one member of a project with another's login, from outside:
// a real API server with its three webhooks, two processes of each, the proxy before it,
// users of a real Keystone and of a real OpenID provider, and nodes that run their pods.
//
// Every attack is one of the specification's, known by its number. It has to fail in the
// way that is specified, change nothing, and show nothing; and what the owner may do, the
// owner must be able to do.
package tenancy_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
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
	labName = "tenancy"
	// atOnce is how many attacks run at the same time: many of them wait.
	atOnce = "6"

	cleanupTimeout = 2 * time.Minute
	patience       = 90 * time.Second
	interval       = 50 * time.Millisecond
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
		_ = flag.Set("test.parallel", atOnce) // a flag of the testing package's own
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
		shared.once.Do(func() {}) // nobody starts one now
		if shared.world != nil {
			shared.world.close()
		}
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
		shared.world = &world{}
		shared.err = shared.world.open(context.Background(), t.Logf)
	})
	require.NoError(t, shared.err, "the lab came up")
	return shared.world
}

// binDir is where make build put the programs.
func binDir() (string, error) {
	dir := os.Getenv("CAAS_BIN")
	if dir == "" {
		return "", errors.New("CAAS_BIN names the directory of the built programs; run the tests by make e2e")
	}
	return filepath.Abs(dir)
}
