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
	"os"
	"testing"
	"time"

	"github.com/go-logr/logr"
	ctrl "sigs.k8s.io/controller-runtime"

	"github.com/cloudveneto/caas/test/e2e/labtest"
)

const (
	labName = "tenancy"
	// atOnce is how many attacks run at the same time: many of them wait.
	atOnce = 6

	patience = 90 * time.Second
	interval = 50 * time.Millisecond
)

//nolint:gochecknoglobals // one world serves all tests of the package
var shared labtest.World[world]

// TestMain removes the lab at the end, also when it is interrupted.
func TestMain(m *testing.M) {
	labtest.Parallel(atOnce)
	ctrl.SetLogger(logr.Discard()) // clients have nothing to say here
	os.Exit(shared.Run(m, remove))
}

// remove leaves a lab that is kept also when the tests were interrupted: the next ones take it as it is.
func remove(ctx context.Context, _ bool) error {
	if w := shared.Made(); w != nil {
		w.close()
	}
	if labtest.Kept() {
		return nil
	}
	return labtest.Down(ctx, labName)
}

// theWorld returns the world, made by the first caller.
func theWorld(t *testing.T) *world {
	t.Helper()
	labtest.NeedRoot(t)
	return shared.Get(t, newWorld)
}

func newWorld(ctx context.Context, logf func(string, ...any)) (*world, error) {
	w := &world{}
	return w, w.open(ctx, logf)
}
