// SPDX-License-Identifier: Apache-2.0

//go:build e2e

// Package drills_test breaks things around the OSNode controller: it kills the
// controller at the worst moments, loses and falsifies OpenStack's answers, and takes
// away what OpenStackNodes need, on a real Kubernetes control plane and the real
// services of OpenStack. What has to come out is exact: no machine is lost, none is
// made twice, nothing is left, and a node beside the trouble does not notice it.
//
// Machines are kubelets as the API server sees them, and nothing more. Every drill has
// an OpenStack project, a namespace, and a provider of the controller's configuration of
// its own, behind a proxy of its own that makes the trouble.
package drills_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/stretchr/testify/require"
	ctrl "sigs.k8s.io/controller-runtime"

	"github.com/cloudveneto/caas/internal/lab/network"
)

const (
	prefix = "caas-drills-"
	// atOnce is how many drills run at the same time: they mostly wait, but Nova has one worker.
	atOnce = "5"

	cleanupTimeout = time.Minute
)

//nolint:gochecknoglobals // one world serves all drills
var shared struct {
	once  sync.Once
	world *world
	err   error
}

// TestMain removes the world at the end, also when it is interrupted.
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
		down()
		os.Exit(130)
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
		if shared.world == nil {
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), cleanupTimeout)
		defer cancel()
		if err := shared.world.close(ctx); err != nil {
			fmt.Fprintln(os.Stderr, "remove the drills' world:", err)
		}
	})
}

// theWorld returns the world, made by the first caller.
func theWorld(t *testing.T) *world {
	t.Helper()
	shared.once.Do(func() {
		removeStale()
		shared.world = &world{}
		shared.err = shared.world.open(context.Background(), t.Logf)
	})
	require.NoError(t, shared.err, "the drills' world came up")
	return shared.world
}

// removeStale removes what test binaries have left that were killed; the kernel has killed their processes.
func removeStale() {
	dirs, _ := filepath.Glob(filepath.Join(os.TempDir(), prefix+"*")) // the patterns are well-formed
	namespaces, _ := filepath.Glob(network.Path(prefix + "*"))
	for _, path := range append(dirs, namespaces...) {
		pid, err := strconv.Atoi(strings.TrimPrefix(filepath.Base(path), prefix))
		if err != nil || !errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
			continue
		}
		_ = network.Delete(context.Background(), filepath.Base(path)) // or the next one does
		_ = os.RemoveAll(filepath.Join(os.TempDir(), filepath.Base(path)))
	}
}

// binDir is where make build put the programs.
func binDir() (string, error) {
	dir := os.Getenv("CAAS_BIN")
	if dir == "" {
		return "", errors.New("CAAS_BIN names the directory of the built programs; run the tests by make e2e")
	}
	return filepath.Abs(dir)
}
