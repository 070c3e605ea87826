// SPDX-License-Identifier: Apache-2.0

package dask_test

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"github.com/cloudveneto/caas/examples/dask"
)

// address is where workers and clients look for the scheduler.
const address = "tcp://" + dask.Scheduler + "." + dask.Namespace + ".svc.cluster.local:8786"

// The scheduler's manifest must decode without unknown fields, and its Service find it.
func TestScheduler(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile("scheduler.yaml")
	require.NoError(t, err)
	documents := strings.Split(string(data), "\n---\n")
	require.Len(t, documents, 3)
	var namespace corev1.Namespace
	var service corev1.Service
	var deployment appsv1.Deployment
	require.NoError(t, yaml.UnmarshalStrict([]byte(documents[0]), &namespace))
	require.NoError(t, yaml.UnmarshalStrict([]byte(documents[1]), &service))
	require.NoError(t, yaml.UnmarshalStrict([]byte(documents[2]), &deployment))

	assert.Equal(t, dask.Namespace, namespace.Name)
	assert.Equal(t, dask.Scheduler, service.Name)
	assert.Equal(t, dask.Scheduler, deployment.Name)
	assert.Equal(t, service.Spec.Selector, deployment.Spec.Selector.MatchLabels)
	assert.Subset(t, deployment.Spec.Template.Labels, service.Spec.Selector)
	ports := map[string]int32{}
	for _, port := range deployment.Spec.Template.Spec.Containers[0].Ports {
		ports[port.Name] = port.ContainerPort
	}
	for _, port := range service.Spec.Ports {
		assert.Equal(t, port.Port, ports[port.TargetPort.StrVal], port.Name)
	}
	assert.Equal(t, dask.ConfigMapName, deployment.Spec.Template.Spec.Volumes[1].ConfigMap.Name)
}

// A worker's manifest must be what the operator makes, and become another worker by another suffix.
func TestWorker(t *testing.T) {
	t.Parallel()
	const suffix = "fedcba9876"
	var deployment appsv1.Deployment
	require.NoError(t, yaml.UnmarshalStrict([]byte(strings.ReplaceAll(dask.Worker(), dask.WorkerSuffix, suffix)), &deployment))
	name := dask.Group + "-worker-" + suffix
	assert.Equal(t, name, deployment.Name)
	assert.Equal(t, dask.Namespace, deployment.Namespace)
	assert.EqualValues(t, 1, *deployment.Spec.Replicas)
	assert.Equal(t, deployment.Labels, deployment.Spec.Selector.MatchLabels, "all workers' selectors are alike")
	assert.Equal(t, deployment.Labels, deployment.Spec.Template.Labels)
	assert.Equal(t, dask.Group, deployment.Labels["dask.org/workergroup-name"])

	pod := deployment.Spec.Template.Spec
	assert.Equal(t, map[string]string{"virtual-node.interlink/type": "virtual-kubelet"}, pod.NodeSelector)
	require.Len(t, pod.Tolerations, 1)
	assert.Equal(t, "virtual-node.interlink/no-schedule", pod.Tolerations[0].Key)
	environment := map[string]string{}
	for _, variable := range pod.Containers[0].Env {
		environment[variable.Name] = variable.Value
	}
	assert.Equal(t, name, environment["DASK_WORKER_NAME"])
	assert.Equal(t, address, environment["DASK_SCHEDULER_ADDRESS"])
	assert.Contains(t, pod.Containers[0].Args, "--name=$(DASK_WORKER_NAME)")
}

// The client must find the scheduler and its program, and not go to the virtual node.
func TestClient(t *testing.T) {
	t.Parallel()
	var job batchv1.Job
	require.NoError(t, yaml.UnmarshalStrict([]byte(dask.Client()), &job))
	assert.Equal(t, dask.Namespace, job.Namespace)
	pod := job.Spec.Template.Spec
	assert.Empty(t, pod.NodeSelector)
	assert.Empty(t, pod.Tolerations)
	assert.Contains(t, pod.Containers[0].Env, corev1.EnvVar{Name: "DASK_SCHEDULER_ADDRESS", Value: address})
	assert.Equal(t, dask.ConfigMapName, pod.Volumes[1].ConfigMap.Name)
	assert.Equal(t, pod.Volumes[1].Name, pod.Containers[0].VolumeMounts[1].Name)
	assert.Contains(t, pod.Containers[0].Command, pod.Containers[0].VolumeMounts[1].MountPath+"/compute.py")
}

// The kustomization must name files that exist, and make the ConfigMap that the others mount.
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
			DisableNameSuffixHash bool `json:"disableNameSuffixHash"`
		} `json:"generatorOptions"`
	}
	data, err := os.ReadFile("kustomization.yaml")
	require.NoError(t, err)
	require.NoError(t, yaml.UnmarshalStrict(data, &kustomization))
	assert.Equal(t, dask.Namespace, kustomization.Namespace)
	assert.True(t, kustomization.GeneratorOptions.DisableNameSuffixHash)
	require.Len(t, kustomization.ConfigMapGenerator, 1)
	assert.Equal(t, dask.ConfigMapName, kustomization.ConfigMapGenerator[0].Name)
	for _, file := range append(kustomization.Resources, kustomization.ConfigMapGenerator[0].Files...) {
		assert.FileExists(t, file)
	}
}
