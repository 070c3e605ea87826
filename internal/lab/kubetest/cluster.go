// SPDX-License-Identifier: Apache-2.0

package kubetest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/cloudveneto/caas/internal/lab/gobuild"
	"github.com/cloudveneto/caas/internal/lab/kube"
)

const (
	startTimeout = 3 * time.Minute
	// reportEvery thins out the progress of a build for test logs.
	reportEvery = 20 * time.Second
)

// Options say what a cluster has besides etcd and kube-apiserver.
type Options struct {
	// ControllerManager runs kube-controller-manager. Without it there is no default ServiceAccount, so a pod must be
	// made with one that exists, or with the ServiceAccount admission plugin disabled.
	ControllerManager bool
	// Scheduler runs kube-scheduler.
	Scheduler bool
	// APIServerArgs are further arguments of kube-apiserver, for webhooks and the like.
	APIServerArgs []string
}

// Cluster is a running cluster as one test sees it.
type Cluster struct {
	// Dir holds the cluster's files and may be used for more of them.
	Dir string

	tb     testing.TB
	plane  *kube.ControlPlane
	config *rest.Config
}

// Start starts a cluster that ends with the test.
func Start(tb testing.TB, opts Options) *Cluster {
	tb.Helper()
	plane, err := start(tb.Context(), filepath.Join(tb.TempDir(), "cluster"), opts, tb.Logf)
	require.NoError(tb, err)
	tb.Cleanup(func() { require.NoError(tb, plane.Kill()) })
	return view(tb, plane)
}

// RESTConfig returns a copy of the administrator's client configuration, without client-side rate limits.
func (c *Cluster) RESTConfig() *rest.Config { return rest.CopyConfig(c.config) }

// Client returns a client with the administrator's rights.
func (c *Cluster) Client() *kubernetes.Clientset {
	c.tb.Helper()
	client, err := kubernetes.NewForConfig(c.RESTConfig())
	require.NoError(c.tb, err)
	return client
}

// Kubeconfig returns the path of a kubeconfig file for a user with groups, who has no rights by that alone.
func (c *Cluster) Kubeconfig(user string, groups ...string) string {
	c.tb.Helper()
	sum := sha256.Sum256([]byte(user + "\n" + strings.Join(groups, "\n")))
	path, err := c.plane.UserKubeconfig("user-"+hex.EncodeToString(sum[:8]), user, groups...)
	require.NoError(c.tb, err)
	return path
}

// AdminKubeconfig returns the path of the administrator's kubeconfig file.
func (c *Cluster) AdminKubeconfig() string { return c.plane.Kubeconfig() }

// ControlPlane returns the control plane itself: its CA, logs and addresses.
func (c *Cluster) ControlPlane() *kube.ControlPlane { return c.plane }

// view makes the cluster of one test.
func view(tb testing.TB, plane *kube.ControlPlane) *Cluster {
	tb.Helper()
	config, err := plane.RESTConfig()
	require.NoError(tb, err)
	return &Cluster{Dir: plane.Config().Dir, tb: tb, plane: plane, config: config}
}

// start builds the programs if need be and starts a control plane that dies with this process.
func start(ctx context.Context, dir string, opts Options, logf func(string, ...any)) (*kube.ControlPlane, error) {
	var reported time.Duration
	bin, err := kube.Build(ctx, gobuild.Config{Progress: func(step string, elapsed time.Duration) {
		if reported == 0 || elapsed-reported >= reportEvery {
			reported = max(elapsed, time.Nanosecond)
			logf("%s: %s", step, elapsed.Round(time.Second))
		}
	}})
	if err != nil {
		return nil, fmt.Errorf("build Kubernetes: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	return kube.Start(ctx, kube.Config{
		Name: "test", Dir: dir, BinDir: bin,
		ControllerManager: opts.ControllerManager, Scheduler: opts.Scheduler, APIServerArgs: opts.APIServerArgs,
		EndWithStarter: true,
	})
}
