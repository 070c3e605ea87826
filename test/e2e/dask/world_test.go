// SPDX-License-Identifier: Apache-2.0

//go:build e2e

// Package dask_test runs the dask example: a scheduler and clients on a node of the
// remote cluster, workers on the virtual node, each a Deployment of its own as dask's
// operator makes them, in numbers that rise and fall.
package dask_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/stretchr/testify/require"
	"k8s.io/client-go/kubernetes"
	ctrl "sigs.k8s.io/controller-runtime"

	"github.com/cloudveneto/caas/internal/lab"
	"github.com/cloudveneto/caas/internal/lab/offload"
	"github.com/cloudveneto/caas/test/e2e/labtest"
)

const (
	labName         = "dask"
	node            = "caas-virtual"
	remoteNamespace = "cms"
	// managed selects what the sidecar made, originUID says for which pod.
	managed   = "app.kubernetes.io/managed-by=interlink-sidecar"
	originUID = "offload.infn.it/uid"

	// patience is for forty Python programs that start at once, on a machine that is busy.
	patience = 10 * time.Minute
)

// world is a lab with an offloading path.
type world struct {
	lab      *lab.Lab
	af, caas *kubernetes.Clientset
	path     *offload.Path
}

//nolint:gochecknoglobals // TestMain has to know of it
var shared labtest.World[world]

// TestMain removes the lab at the end, also when it is interrupted.
func TestMain(m *testing.M) {
	ctrl.SetLogger(logr.Discard()) // clients have nothing to say here
	os.Exit(shared.Run(m, labtest.Remove(labName)))
}

func newWorld(ctx context.Context, logf func(string, ...any)) (*world, error) {
	l, err := labtest.Up(ctx, lab.Config{Name: labName}, logf)
	if err != nil {
		return nil, err
	}
	w := &world{lab: l}
	if w.af, w.caas, err = labtest.Clients(l); err != nil {
		return nil, err
	}
	bin, err := labtest.Bin()
	if err != nil {
		return nil, err
	}
	w.path, err = offload.New(ctx, offload.Config{Lab: l, BinDir: bin, Node: node, RemoteNamespace: remoteNamespace})
	if err != nil {
		return nil, err
	}
	ready, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return w, errors.Join(w.path.StartAll(ctx), w.path.AwaitReady(ready))
}

// used is the processor time that the path's three programs have used.
func (w *world) used(t *testing.T) time.Duration {
	t.Helper()
	const userTime, systemTime, tick = 11, 12, 10 * time.Millisecond // in /proc/PID/stat, behind the program's name
	pids, err := w.path.PIDs()
	require.NoError(t, err)
	var sum time.Duration
	for name, pid := range pids {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		require.NoError(t, err, name)
		fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
		for _, field := range []int{userTime, systemTime} {
			ticks, err := strconv.Atoi(fields[field])
			require.NoError(t, err)
			sum += time.Duration(ticks) * tick
		}
	}
	return sum
}

// kubectl runs kubectl against the remote cluster, in the directory of the example.
func (w *world) kubectl(ctx context.Context, t *testing.T, args ...string) string {
	t.Helper()
	cluster, err := w.lab.Cluster(lab.AF)
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	command := exec.CommandContext(ctx, w.lab.Kubectl(), append([]string{"--kubeconfig=" + cluster.Kubeconfig()}, args...)...)
	command.Dir = "../../../examples/dask"
	var out, problems bytes.Buffer
	command.Stdout, command.Stderr = &out, &problems
	require.NoError(t, command.Run(), "kubectl %v: %s", args, &problems)
	return out.String()
}

// eventually waits until done says true; the text beside it says how things stand.
func eventually(ctx context.Context, t *testing.T, what string, done func() (bool, string)) {
	t.Helper()
	labtest.Eventually(ctx, t, patience, what, done)
}
