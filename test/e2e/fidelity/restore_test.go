// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package fidelity_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cloudveneto/caas/internal/lab"
	"github.com/cloudveneto/caas/internal/lab/kube"
	"github.com/cloudveneto/caas/internal/lab/proc"
)

// backup copies a cluster's storage, for which etcd stops for a moment.
func (w *world) backup(t *testing.T, cluster string) string {
	t.Helper()
	config, copied := w.plane(t, cluster).Config(), filepath.Join(t.TempDir(), "etcd")
	run := filepath.Join(config.Dir, "run")
	etcd, err := proc.Load(run, "etcd")
	require.NoError(t, err)
	spec := etcd.Spec()
	require.NoError(t, etcd.Kill())
	require.NoError(t, os.CopyFS(copied, os.DirFS(filepath.Join(config.Dir, "etcd"))))
	_, err = proc.Start(t.Context(), run, spec)
	require.NoError(t, err)
	client, err := w.client(cluster)
	require.NoError(t, err)
	eventually(t.Context(), t, "the cluster answers again", func() (bool, string) {
		_, err := client.CoreV1().Nodes().List(t.Context(), metav1.ListOptions{Limit: 1})
		return err == nil, describeError(err)
	})
	return copied
}

// goBack puts a backup in place of a cluster's storage, and starts its control plane anew, as whoever restores a cluster
// does.
func (w *world) goBack(t *testing.T, cluster, backup string) {
	t.Helper()
	plane := w.plane(t, cluster)
	require.NoError(t, plane.Kill())
	data := filepath.Join(plane.Config().Dir, "etcd")
	require.NoError(t, os.RemoveAll(data))
	require.NoError(t, os.CopyFS(data, os.DirFS(backup)))
	_, err := kube.Start(t.Context(), plane.Config())
	require.NoError(t, err)
}

// restartTenancy starts the webhooks anew, which keep an index of what there is.
func (w *world) restartTenancy(t *testing.T) {
	t.Helper()
	for _, name := range w.lab.TenancyProcesses() {
		process, err := w.lab.Process(name)
		require.NoError(t, err)
		require.NoError(t, process.Kill())
		require.NoError(t, w.lab.StartTenancyProcess(t.Context(), name))
	}
	for _, name := range w.lab.TenancyProcesses() {
		require.NoError(t, w.lab.AwaitTenancyProcess(t.Context(), name))
	}
}

// restartKubelets ends the kubelets of a cluster's nodes; the nodes start them again.
func (w *world) restartKubelets(t *testing.T, nodes ...string) {
	t.Helper()
	holders := map[int]bool{}
	for _, node := range nodes {
		holder, err := w.lab.Process("node-" + node)
		require.NoError(t, err)
		holders[holder.PID()] = true
	}
	ended := 0
	paths, err := filepath.Glob("/proc/[0-9]*")
	require.NoError(t, err)
	for _, path := range paths {
		command, err := os.ReadFile(filepath.Join(path, "cmdline"))
		program, _, _ := strings.Cut(string(command), "\x00")
		if err != nil || filepath.Base(program) != "kubelet" || !descends(path, holders) {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(path))
		require.NoError(t, err)
		require.NoError(t, syscall.Kill(pid, syscall.SIGKILL))
		ended++
	}
	require.Equal(t, len(nodes), ended, "kubelets")
}

// descends tells whether one of the processes is an ancestor.
func descends(path string, ancestors map[int]bool) bool {
	for range 10 {
		content, err := os.ReadFile(filepath.Join(path, "stat"))
		if err != nil {
			return false
		}
		fields := strings.Fields(string(content)[strings.LastIndex(string(content), ")")+1:])
		parent, err := strconv.Atoi(fields[1])
		if err != nil || parent <= 1 {
			return false
		}
		if ancestors[parent] {
			return true
		}
		path = fmt.Sprintf("/proc/%d", parent)
	}
	return false
}

// targetRestored sets the target back to a moment at which it had a pod that has been deleted since, and did not have
// one that was created since.
func targetRestored(t *testing.T, r *room) {
	steady := r.create(t, r.shell("steady", "sleep 3600"))
	deleted := r.create(t, r.shell("deleted", "sleep 3600"))
	r.awaitPhase(t, "steady", corev1.PodRunning)
	r.awaitPhase(t, "deleted", corev1.PodRunning)
	before := r.awaitFar(t, steady)
	copied := r.backup(t, lab.CaaS)
	t.Cleanup(func() { r.restore(t) })
	r.delete(t, "deleted", 1)
	r.awaitGone(t, deleted)
	created := r.create(t, r.shell("created", "sleep 3600"))
	r.awaitPhase(t, "created", corev1.PodRunning)

	r.goBack(t, lab.CaaS, copied)
	r.restartTenancy(t)
	r.restartKubelets(t, "caas-1", "caas-2", "caas-3")
	began := time.Now()
	eventually(t.Context(), t, "what nobody has is collected", func() (bool, string) { return len(r.far(t, deleted)) == 0, "" })
	seen := r.awaitPhase(t, "created", corev1.PodFailed)
	assert.Contains(t, []string{"RemotePodDeleted", "RemotePodLost"}, seen.Status.Reason, "the target does not know of it")
	allEnded(t, seen)
	assert.Empty(t, r.far(t, created))
	awaitNode(t, r.af, r.node)
	assert.Equal(t, "fine\n", r.run(t, r.shell("later", "echo fine")))
	t.Logf("in step again after %s", time.Since(began).Round(time.Millisecond))
	now := r.far(t, steady)
	if assert.Len(t, now, 1) {
		assert.Equal(t, before.UID, now[0].UID)
	}
	assert.Equal(t, corev1.PodRunning, r.get(t, "steady").Status.Phase)
}

// originRestored does the same to the origin.
func originRestored(t *testing.T, r *room) {
	steady := r.create(t, r.shell("steady", "sleep 3600"))
	deleted := r.create(t, r.shell("deleted", "sleep 3600"))
	r.awaitPhase(t, "steady", corev1.PodRunning)
	r.awaitPhase(t, "deleted", corev1.PodRunning)
	before := r.awaitFar(t, steady)
	copied := r.backup(t, lab.AF)
	t.Cleanup(func() { r.restore(t) })
	r.delete(t, "deleted", 1)
	r.awaitGone(t, deleted)
	created := r.create(t, r.shell("created", "sleep 3600"))
	r.awaitPhase(t, "created", corev1.PodRunning)

	r.goBack(t, lab.AF, copied)
	r.restartKubelets(t, "af-1")
	began := time.Now()
	eventually(t.Context(), t, "what the origin does not know of is collected", func() (bool, string) { return len(r.far(t, created)) == 0, "" })
	seen := r.awaitPod(t, "deleted", "it is over, and not run twice", ended)
	assert.Equal(t, corev1.PodFailed, seen.Status.Phase)
	assert.Empty(t, r.far(t, deleted))
	assert.Equal(t, "fine\n", r.run(t, r.shell("later", "echo fine")))
	t.Logf("in step again after %s", time.Since(began).Round(time.Millisecond))
	now := r.far(t, steady)
	if assert.Len(t, now, 1) {
		assert.Equal(t, before.UID, now[0].UID)
		assert.Nil(t, now[0].DeletionTimestamp)
	}
	assert.Equal(t, corev1.PodRunning, r.get(t, "steady").Status.Phase)
}
