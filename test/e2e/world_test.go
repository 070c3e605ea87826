// SPDX-License-Identifier: Apache-2.0

//go:build e2e

// Package e2e_test looks at the project from outside: real clusters, real
// programs, kubectl. It needs root and Debian's packages (make deps).
package e2e_test

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/cloudveneto/caas/internal/lab"
	"github.com/cloudveneto/caas/internal/lab/kwok"
	"github.com/cloudveneto/caas/internal/lab/offload"
	"github.com/cloudveneto/caas/test/e2e/labtest"
)

const (
	labName   = "e2e"
	fakeLabel = "lab.caas/fake"
)

// world is the lab with an offloading path to some of its nodes.
type world struct {
	lab             *lab.Lab
	af, caas        *kubernetes.Clientset
	path            *offload.Path
	node            string
	namespace       string
	remoteNamespace string
	// originAPI is the address of the origin's API server as its pods see it.
	originAPI string
	// startFakeNodes starts them once.
	startFakeNodes func() error
	// cleanup outlives a test's own context.
	cleanup context.Context //nolint:containedctx // t.Context() is done when cleanups run
}

//nolint:gochecknoglobals // one lab serves all tests of the package
var shared labtest.World[world]

// TestMain removes the lab at the end, also when it is interrupted.
func TestMain(m *testing.M) { os.Exit(shared.Run(m, labtest.Remove(labName))) }

// theWorld returns the lab with a path to its real nodes, made by the first caller.
func theWorld(t *testing.T) *world {
	t.Helper()
	return shared.Get(t, newWorld)
}

func newWorld(ctx context.Context, logf func(string, ...any)) (*world, error) {
	l, err := labtest.Up(ctx, lab.Config{Name: labName}, logf)
	if err != nil {
		return nil, err
	}
	w := &world{
		lab: l, namespace: "analysis", remoteNamespace: "cms", node: "caas-virtual", originAPI: "10.88.0.1", cleanup: context.WithoutCancel(ctx),
	}
	w.startFakeNodes = sync.OnceValue(w.makeFakeNodes)
	for name, client := range map[string]**kubernetes.Clientset{lab.AF: &w.af, lab.CaaS: &w.caas} {
		cluster, err := l.Cluster(name)
		if err != nil {
			return nil, err
		}
		config, err := cluster.RESTConfig()
		if err != nil {
			return nil, err
		}
		if *client, err = kubernetes.NewForConfig(config); err != nil {
			return nil, err
		}
	}
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: w.namespace}}
	if _, err := w.af.CoreV1().Namespaces().Create(ctx, namespace, metav1.CreateOptions{}); offload.IgnoreExisting(err) != nil {
		return nil, err
	}
	w.path, err = w.startPath(ctx, offload.Config{Node: w.node})
	return w, err
}

// startPath starts a path of its own programs, ready for pods.
func (w *world) startPath(ctx context.Context, config offload.Config) (*offload.Path, error) {
	bin, err := labtest.Bin()
	if err != nil {
		return nil, err
	}
	config.Lab, config.BinDir, config.RemoteNamespace = w.lab, bin, w.remoteNamespace
	path, err := offload.New(ctx, config)
	if err != nil {
		return nil, err
	}
	if err := path.StartAll(ctx); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	return path, path.AwaitReady(ctx)
}

func (w *world) makeFakeNodes() error {
	cluster, err := w.lab.Cluster(lab.CaaS)
	if err != nil {
		return err
	}
	pool, err := w.lab.SharedPool(offload.Project)
	if err != nil {
		return err
	}
	_, err = kwok.Start(w.cleanup, kwok.Config{
		Client: w.caas, Kubeconfig: cluster.InsideKubeconfig(), Dir: filepath.Join(w.lab.Dir(), "kwok"), Nodes: 5, NetNS: w.lab.NetNS(),
		Labels: map[string]string{fakeLabel: "true", lab.NodePoolLabel: pool}, Taints: []string{fakeLabel + "=true:NoSchedule"}, EndWithStarter: true,
	})
	return err
}

// onFakeNodes returns a world whose path leads to fake nodes, where pods seem to
// run at no cost.
func (w *world) onFakeNodes(t *testing.T) *world {
	t.Helper()
	require.NoError(t, w.startFakeNodes())
	fake := *w
	fake.node = "caas-fake"
	var err error
	fake.path, err = w.startPath(t.Context(), offload.Config{
		Node: fake.node, Index: 1, NodeSelector: map[string]string{fakeLabel: "true"},
		Tolerations: []corev1.Toleration{{Key: fakeLabel, Operator: corev1.TolerationOpExists}},
	})
	require.NoError(t, err)
	t.Cleanup(func() {
		assert.NoError(t, fake.path.StopAll(w.cleanup))
		assert.NoError(t, w.af.CoreV1().Nodes().Delete(w.cleanup, fake.node, metav1.DeleteOptions{}))
	})
	return &fake
}

// kubectl runs kubectl against the remote cluster, in the tests' namespace.
func (w *world) kubectl(t *testing.T, args ...string) string {
	t.Helper()
	cluster, err := w.lab.Cluster(lab.AF)
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	command := exec.CommandContext(ctx, w.lab.Kubectl(), append([]string{"--kubeconfig=" + cluster.Kubeconfig(), "--namespace=" + w.namespace}, args...)...)
	var out, problems bytes.Buffer
	command.Stdout, command.Stderr = &out, &problems
	require.NoError(t, command.Run(), "kubectl %v: %s", args, &problems)
	return out.String()
}

// caasNodes names the real nodes of the caas cluster.
func (w *world) caasNodes(t *testing.T) []string {
	t.Helper()
	nodes, err := w.caas.CoreV1().Nodes().List(t.Context(), metav1.ListOptions{LabelSelector: "!" + fakeLabel})
	require.NoError(t, err)
	names := make([]string, 0, len(nodes.Items))
	for _, node := range nodes.Items {
		names = append(names, node.Name)
	}
	return names
}
