// SPDX-License-Identifier: Apache-2.0

package montecarlo_test

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"github.com/cloudveneto/caas/examples/montecarlo"
)

// The manifest must decode without unknown fields and use the names that programs take from this package.
func TestManifest(t *testing.T) {
	t.Parallel()
	documents := strings.Split(montecarlo.Manifest(), "\n---\n")
	require.Len(t, documents, 3)
	var namespace corev1.Namespace
	var secret corev1.Secret
	var job batchv1.Job
	require.NoError(t, yaml.UnmarshalStrict([]byte(documents[0]), &namespace))
	require.NoError(t, yaml.UnmarshalStrict([]byte(documents[1]), &secret))
	require.NoError(t, yaml.UnmarshalStrict([]byte(documents[2]), &job))

	assert.Equal(t, montecarlo.Namespace, namespace.Name)
	assert.Equal(t, montecarlo.Namespace, secret.Namespace)
	assert.Equal(t, montecarlo.SecretName, secret.Name)
	assert.NotEmpty(t, secret.StringData[montecarlo.SecretKey])

	assert.Equal(t, montecarlo.Namespace, job.Namespace)
	assert.Equal(t, montecarlo.JobName, job.Name)
	assert.Equal(t, batchv1.IndexedCompletion, *job.Spec.CompletionMode)
	assert.EqualValues(t, montecarlo.Completions, *job.Spec.Completions)
	assert.EqualValues(t, montecarlo.Completions, *job.Spec.Parallelism)

	pod := job.Spec.Template.Spec
	assert.Equal(t, map[string]string{"virtual-node.interlink/type": "virtual-kubelet"}, pod.NodeSelector)
	require.Len(t, pod.Tolerations, 1)
	assert.Equal(t, "virtual-node.interlink/no-schedule", pod.Tolerations[0].Key)
	require.Len(t, pod.Volumes, 1)
	assert.Equal(t, montecarlo.ConfigMapName, pod.Volumes[0].ConfigMap.Name)

	require.Len(t, pod.Containers, 1)
	container := pod.Containers[0]
	assert.Contains(t, container.Command, "/deck/"+montecarlo.ScriptKey)
	assert.Contains(t, container.Command, "--deck=/deck/"+montecarlo.DeckKey)
	assert.Equal(t, "RUN_KEY", container.Env[0].Name)
	require.NotNil(t, container.Env[0].ValueFrom.SecretKeyRef)
	assert.Equal(t, montecarlo.SecretName, container.Env[0].ValueFrom.SecretKeyRef.Name)
	assert.Equal(t, montecarlo.SecretKey, container.Env[0].ValueFrom.SecretKeyRef.Key)
	assert.Equal(t, pod.Volumes[0].Name, container.VolumeMounts[0].Name)
	assert.True(t, container.VolumeMounts[0].ReadOnly)
}

// The kustomization must name files that exist, and make the ConfigMap that the Job mounts.
func TestKustomization(t *testing.T) {
	t.Parallel()
	var kustomization struct {
		APIVersion         string   `json:"apiVersion"`
		Kind               string   `json:"kind"`
		Namespace          string   `json:"namespace"`
		Resources          []string `json:"resources"`
		ConfigMapGenerator []struct {
			Name  string   `json:"name"`
			Files []string `json:"files"`
		} `json:"configMapGenerator"`
		GeneratorOptions struct {
			DisableNameSuffixHash bool              `json:"disableNameSuffixHash"`
			Labels                map[string]string `json:"labels"`
		} `json:"generatorOptions"`
	}
	data, err := os.ReadFile("kustomization.yaml")
	require.NoError(t, err)
	require.NoError(t, yaml.UnmarshalStrict(data, &kustomization))
	assert.Equal(t, montecarlo.Namespace, kustomization.Namespace)
	assert.True(t, kustomization.GeneratorOptions.DisableNameSuffixHash)
	require.Len(t, kustomization.ConfigMapGenerator, 1)
	assert.Equal(t, montecarlo.ConfigMapName, kustomization.ConfigMapGenerator[0].Name)
	assert.ElementsMatch(t, []string{montecarlo.ScriptKey, montecarlo.DeckKey}, kustomization.ConfigMapGenerator[0].Files)
	for _, file := range append(kustomization.Resources, kustomization.ConfigMapGenerator[0].Files...) {
		assert.FileExists(t, file)
	}
}
