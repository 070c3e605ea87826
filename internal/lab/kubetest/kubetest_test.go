// SPDX-License-Identifier: Apache-2.0

//go:build integration

package kubetest_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/cloudveneto/caas/internal/lab/kubetest"
	"github.com/cloudveneto/caas/internal/lab/proc"
)

var shared = kubetest.NewShared(kubetest.Options{})

func TestMain(m *testing.M) { shared.Main(m) }

func testPod(name string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "main", Image: "example.org/image"}}},
	}
}

func TestIntegrationStartFull(t *testing.T) {
	var runDir string
	t.Run("a pod is made and scheduled nowhere", func(t *testing.T) {
		began := time.Now()
		cluster := kubetest.Start(t, kubetest.Options{ControllerManager: true, Scheduler: true})
		t.Logf("started in %s", time.Since(began))
		runDir = filepath.Join(cluster.Dir, "run")
		all, err := proc.All(runDir)
		require.NoError(t, err)
		require.Len(t, all, 4)

		pods := cluster.Client().CoreV1().Pods(metav1.NamespaceDefault)
		_, err = pods.Create(t.Context(), testPod("lonely"), metav1.CreateOptions{})
		require.NoError(t, err)
		require.EventuallyWithT(t, func(c *assert.CollectT) {
			pod, err := pods.Get(t.Context(), "lonely", metav1.GetOptions{})
			require.NoError(c, err)
			require.NotEmpty(c, pod.Status.Conditions)
			assert.Equal(c, corev1.PodReasonUnschedulable, pod.Status.Conditions[0].Reason)
		}, 20*time.Second, 50*time.Millisecond)
		t.Cleanup(func() {
			for _, p := range all {
				assert.True(t, p.Alive(), "%s runs until the test ends", p.Name())
			}
		})
	})
	left, err := proc.All(runDir)
	require.NoError(t, err)
	assert.Empty(t, left)
	_, err = os.Stat(runDir)
	assert.ErrorIs(t, err, os.ErrNotExist)
}

func TestIntegrationSharedIsOneCluster(t *testing.T) {
	one, other := shared.Cluster(t), shared.Cluster(t)
	assert.Equal(t, one.RESTConfig().Host, other.RESTConfig().Host)
	_, err := one.Client().CoreV1().ConfigMaps(metav1.NamespaceDefault).Create(t.Context(),
		&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "note"}}, metav1.CreateOptions{})
	require.NoError(t, err)
	_, err = other.Client().CoreV1().ConfigMaps(metav1.NamespaceDefault).Get(t.Context(), "note", metav1.GetOptions{})
	assert.NoError(t, err)
}

func TestIntegrationKubeconfig(t *testing.T) {
	cluster := shared.Cluster(t)
	tests := map[string]struct {
		user      string
		groups    []string
		forbidden bool
	}{
		"a user without rights": {user: "alice", forbidden: true},
		"a user by the group":   {user: "bob", groups: []string{"system:masters"}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			path := cluster.Kubeconfig(tc.user, tc.groups...)
			info, err := os.Stat(path)
			require.NoError(t, err)
			assert.Equal(t, os.FileMode(0o600), info.Mode().Perm())
			config, err := clientcmd.BuildConfigFromFlags("", path)
			require.NoError(t, err)
			client, err := kubernetes.NewForConfig(config)
			require.NoError(t, err)
			_, err = client.CoreV1().Nodes().List(t.Context(), metav1.ListOptions{})
			assert.Equal(t, tc.forbidden, apierrors.IsForbidden(err), "%v", err)
		})
	}
}
