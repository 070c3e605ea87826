// SPDX-License-Identifier: Apache-2.0

//go:build integration

package montecarlo_test

import (
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/cloudveneto/caas/examples/montecarlo"
	"github.com/cloudveneto/caas/internal/lab/gobuild"
	"github.com/cloudveneto/caas/internal/lab/kube"
	"github.com/cloudveneto/caas/internal/lab/kubetest"
)

// The README's command must work on a real API server, in a namespace that enforces the strictest Pod Security level, and
// give one pod per index.
func TestIntegrationApply(t *testing.T) {
	t.Parallel()
	cluster := kubetest.Start(t, kubetest.Options{ControllerManager: true})
	programs, err := kube.Build(t.Context(), gobuild.Config{})
	require.NoError(t, err)
	kubectl := func(args ...string) {
		command := exec.CommandContext(t.Context(), filepath.Join(programs, "kubectl"),
			append([]string{"--kubeconfig", cluster.AdminKubeconfig()}, args...)...)
		output, err := command.CombinedOutput()
		require.NoError(t, err, string(output))
	}
	kubectl("create", "namespace", montecarlo.Namespace)
	client := cluster.Client()
	_, err = client.CoreV1().Namespaces().Patch(t.Context(), montecarlo.Namespace, types.MergePatchType,
		[]byte(`{"metadata":{"labels":{"pod-security.kubernetes.io/enforce":"restricted"}}}`), metav1.PatchOptions{})
	require.NoError(t, err)
	kubectl("apply", "-k", ".")

	configMap, err := client.CoreV1().ConfigMaps(montecarlo.Namespace).Get(t.Context(), montecarlo.ConfigMapName, metav1.GetOptions{})
	require.NoError(t, err)
	assert.Equal(t, map[string]string{
		montecarlo.ScriptKey: montecarlo.Script(), montecarlo.DeckKey: montecarlo.Deck(),
	}, configMap.Data)

	var pods *corev1.PodList
	require.Eventually(t, func() bool {
		pods, err = client.CoreV1().Pods(montecarlo.Namespace).List(t.Context(), metav1.ListOptions{})
		return err == nil && len(pods.Items) == montecarlo.Completions
	}, time.Minute, 100*time.Millisecond)
	indices := map[string]bool{}
	for i := range pods.Items {
		indices[pods.Items[i].Annotations[batchv1.JobCompletionIndexAnnotation]] = true
		names := []string{}
		for _, variable := range pods.Items[i].Spec.Containers[0].Env {
			names = append(names, variable.Name)
		}
		assert.Contains(t, names, "JOB_COMPLETION_INDEX")
	}
	assert.Len(t, indices, montecarlo.Completions)

	kubectl("apply", "-k", ".") // a second time changes nothing
	kubectl("delete", "-k", ".", "--wait=false")
}
