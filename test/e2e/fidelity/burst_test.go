// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package fidelity_test

import (
	"context"
	"fmt"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cloudveneto/caas/internal/lab"
	"github.com/cloudveneto/caas/internal/lab/kwok"
	"github.com/cloudveneto/caas/internal/lab/offload"
)

// burst creates a thousand pods at once, on fake nodes of the target, and deletes them all.
func burst(t *testing.T, r *room) {
	const many, machines = 1000, 10
	cluster, err := r.lab.Cluster(lab.CaaS)
	require.NoError(t, err)
	pool, err := r.lab.SharedPool(offload.Project)
	require.NoError(t, err)
	nodes, err := kwok.Start(t.Context(), kwok.Config{
		Client: r.caas, Kubeconfig: cluster.InsideKubeconfig(), Dir: filepath.Join(r.lab.Dir(), "kwok"), Nodes: machines, NetNS: r.lab.NetNS(),
		Labels: map[string]string{actedLabel: "true", actedMachineKey: "many", lab.NodePoolLabel: pool},
		Taints: []string{actedLabel + "=true:NoSchedule"}, EndWithStarter: true,
	})
	require.NoError(t, err)
	t.Cleanup(func() {
		ctx, cancel := cleanupContext(t)
		defer cancel()
		assert.NoError(t, nodes.Stop(ctx))
		for _, name := range nodes.Names {
			assert.NoError(t, ignoreMissing(r.caas.CoreV1().Nodes().Delete(ctx, name, metav1.DeleteOptions{})))
		}
	})
	began := time.Now()
	group, ctx := errgroup.WithContext(t.Context())
	group.SetLimit(32)
	for i := range many {
		group.Go(func() error {
			pod := r.shell("burst-"+strconv.Itoa(i), "sleep 3600")
			pod.Spec.AutomountServiceAccountToken = new(false)
			pod.Spec.NodeName, pod.Spec.NodeSelector = r.node, map[string]string{actedMachineKey: "many"}
			_, err := r.af.CoreV1().Pods(r.namespace).Create(ctx, pod, metav1.CreateOptions{})
			return err
		})
	}
	require.NoError(t, group.Wait())
	made := time.Since(began)
	eventually(t.Context(), t, "all run", func() (bool, string) {
		running := 0
		for _, pod := range r.pods(t.Context(), t) {
			require.False(t, ended(&pod), describe(&pod))
			if pod.Status.Phase == corev1.PodRunning {
				running++
			}
		}
		return running == many, fmt.Sprintf("%d run", running)
	})
	t.Logf("%d pods created in %s, all running after %s", many, made.Round(time.Millisecond), time.Since(began).Round(time.Millisecond))
	assert.Equal(t, many, len(r.left(t.Context(), t)), "one for each")
	began = time.Now()
	require.NoError(t, r.af.CoreV1().Pods(r.namespace).DeleteCollection(t.Context(), metav1.DeleteOptions{GracePeriodSeconds: new(int64(1))}, metav1.ListOptions{}))
	eventually(t.Context(), t, "all are gone at both ends", func() (bool, string) {
		here, there := len(r.pods(t.Context(), t)), len(r.left(t.Context(), t))
		return here+there == 0, fmt.Sprintf("%d at the origin, %d at the target", here, there)
	})
	t.Logf("all gone after %s", time.Since(began).Round(time.Millisecond))
}

func (r *room) pods(ctx context.Context, t *testing.T) []corev1.Pod {
	t.Helper()
	list, err := r.af.CoreV1().Pods(r.namespace).List(ctx, metav1.ListOptions{})
	require.NoError(t, err)
	return list.Items
}
