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
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/go-logr/logr"
	ctrl "sigs.k8s.io/controller-runtime"

	"github.com/cloudveneto/caas/internal/lab/network"
	"github.com/cloudveneto/caas/test/e2e/labtest"
)

const (
	prefix = "caas-drills-"
	// atOnce is how many drills run at the same time: they mostly wait, but Nova has one worker.
	atOnce = 5
)

//nolint:gochecknoglobals // one world serves all drills
var shared labtest.World[world]

// TestMain removes the world at the end, also when it is interrupted.
func TestMain(m *testing.M) {
	labtest.Parallel(atOnce)
	ctrl.SetLogger(logr.Discard()) // clients have nothing to say here
	os.Exit(shared.Run(m, remove))
}

func remove(ctx context.Context, _ bool) error {
	if w := shared.Made(); w != nil {
		return w.close(ctx)
	}
	return nil
}

// theWorld returns the world, made by the first caller.
func theWorld(t *testing.T) *world {
	t.Helper()
	return shared.Get(t, newWorld)
}

func newWorld(ctx context.Context, logf func(string, ...any)) (*world, error) {
	removeStale()
	w := &world{}
	return w, w.open(ctx, logf)
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
