// SPDX-License-Identifier: Apache-2.0

//go:build integration

package kwok_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/cloudveneto/caas/internal/lab/kubetest"
	"github.com/cloudveneto/caas/internal/lab/kwok"
)

const (
	timeout  = 60 * time.Second
	interval = 50 * time.Millisecond
)

var shared = kubetest.NewShared(kubetest.Options{ControllerManager: true, Scheduler: true})

func TestMain(m *testing.M) { shared.Main(m) }

func podSpec(policy corev1.RestartPolicy) corev1.PodSpec {
	return corev1.PodSpec{
		NodeSelector:  map[string]string{"pool": "fake"},
		Tolerations:   []corev1.Toleration{{Key: "fake", Operator: corev1.TolerationOpExists}},
		RestartPolicy: policy,
		Containers:    []corev1.Container{{Name: "main", Image: "example.org/image"}},
		InitContainers: []corev1.Container{
			{Name: "first", Image: "example.org/image"},
		},
	}
}

func TestIntegrationFakeNodes(t *testing.T) {
	cluster := shared.Cluster(t)
	client := cluster.Client()
	nodes, err := kwok.Start(t.Context(), kwok.Config{
		Client: client, Kubeconfig: cluster.AdminKubeconfig(), Dir: t.TempDir(), Nodes: 3,
		Labels: map[string]string{"pool": "fake"}, Taints: []string{"fake=true:NoSchedule"}, EndWithStarter: true,
	})
	require.NoError(t, err)
	t.Cleanup(func() {
		ctx := context.WithoutCancel(t.Context()) // it is cancelled by now
		require.NoError(t, nodes.Stop(ctx))
		left, err := client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
		require.NoError(t, err)
		assert.Empty(t, left.Items)
	})
	assert.Equal(t, []string{"fake-1", "fake-2", "fake-3"}, nodes.Names)

	t.Run("many pods run and are deleted", func(t *testing.T) { burst(t, client) })

	tests := map[string]struct {
		annotations map[string]string
		atLeast     time.Duration
	}{
		"a job completes at once":    {nil, 0},
		"a job completes after 1.5s": {map[string]string{kwok.RunForAnnotation: "1.5s"}, 1500 * time.Millisecond},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			job, err := client.BatchV1().Jobs(metav1.NamespaceDefault).Create(t.Context(), &batchv1.Job{
				ObjectMeta: metav1.ObjectMeta{GenerateName: "job-"},
				Spec: batchv1.JobSpec{Template: corev1.PodTemplateSpec{
					ObjectMeta: metav1.ObjectMeta{Annotations: tc.annotations}, Spec: podSpec(corev1.RestartPolicyNever),
				}},
			}, metav1.CreateOptions{})
			require.NoError(t, err)
			began := time.Now()
			require.EventuallyWithT(t, func(c *assert.CollectT) {
				job, err := client.BatchV1().Jobs(metav1.NamespaceDefault).Get(t.Context(), job.Name, metav1.GetOptions{})
				require.NoError(c, err)
				assert.EqualValues(c, 1, job.Status.Succeeded)
			}, timeout, interval)
			assert.GreaterOrEqual(t, time.Since(began), tc.atLeast)
		})
	}
}

func TestIntegrationStartRefuses(t *testing.T) {
	tests := map[string]struct {
		change func(*kwok.Config)
		want   string
	}{
		"no nodes":      {func(c *kwok.Config) { c.Nodes = 0 }, "cannot make 0 nodes"},
		"no kubeconfig": {func(c *kwok.Config) { c.Kubeconfig = "" }, "must be given"},
		"bad taint":     {func(c *kwok.Config) { c.Taints = []string{"only-a-key"} }, "is not key=value:Effect"},
		"bad size":      {func(c *kwok.Config) { c.CPU = "many" }, fmt.Sprintf("cpu %q", "many")},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			cluster := shared.Cluster(t)
			cfg := kwok.Config{Client: cluster.Client(), Kubeconfig: cluster.AdminKubeconfig(), Dir: t.TempDir(), Nodes: 1}
			tc.change(&cfg)
			_, err := kwok.Start(t.Context(), cfg)
			require.ErrorContains(t, err, tc.want)
		})
	}
}

func burst(t *testing.T, client *kubernetes.Clientset) {
	t.Helper()
	const replicas = 200
	labels := map[string]string{"app": "burst"}
	pods := client.CoreV1().Pods(metav1.NamespaceDefault)
	list := func() []corev1.Pod {
		found, err := pods.List(t.Context(), metav1.ListOptions{LabelSelector: "app=burst"})
		require.NoError(t, err)
		return found.Items
	}
	_, err := client.AppsV1().ReplicaSets(metav1.NamespaceDefault).Create(t.Context(), &appsv1.ReplicaSet{
		ObjectMeta: metav1.ObjectMeta{Name: "burst"},
		Spec: appsv1.ReplicaSetSpec{
			Replicas: new(int32(replicas)), Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: podSpec(corev1.RestartPolicyAlways)},
		},
	}, metav1.CreateOptions{})
	require.NoError(t, err)
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		set, err := client.AppsV1().ReplicaSets(metav1.NamespaceDefault).Get(t.Context(), "burst", metav1.GetOptions{})
		require.NoError(c, err)
		assert.EqualValues(c, replicas, set.Status.ReadyReplicas)
	}, timeout, interval)
	addresses := map[string]bool{}
	for _, pod := range list() {
		addresses[pod.Status.PodIP] = true
		assert.NotEmpty(t, pod.Status.HostIP)
		assert.NotNil(t, pod.Status.StartTime)
		assert.Len(t, pod.Status.InitContainerStatuses, 1)
		assert.Equal(t, int32(0), pod.Status.InitContainerStatuses[0].State.Terminated.ExitCode)
		assert.True(t, *pod.Status.ContainerStatuses[0].Started)
	}
	assert.Len(t, addresses, replicas, "every pod has an address of its own")

	background := metav1.DeletePropagationBackground
	require.NoError(t, client.AppsV1().ReplicaSets(metav1.NamespaceDefault).Delete(t.Context(), "burst",
		metav1.DeleteOptions{PropagationPolicy: &background}))
	require.Eventually(t, func() bool { return len(list()) == 0 }, timeout, interval)
}
