// SPDX-License-Identifier: Apache-2.0

package jupyter_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"github.com/cloudveneto/caas/examples/jupyter"
)

// The manifest must decode without unknown fields, and be the pod that the guide describes.
func TestManifest(t *testing.T) {
	t.Parallel()
	documents := strings.Split(jupyter.Manifest(), "\n---\n")
	require.Len(t, documents, 5)
	var (
		namespace corev1.Namespace
		account   corev1.ServiceAccount
		secret    corev1.Secret
		envs      corev1.ConfigMap
		pod       corev1.Pod
	)
	for i, object := range []any{&namespace, &account, &secret, &envs, &pod} {
		require.NoError(t, yaml.UnmarshalStrict([]byte(documents[i]), object))
	}
	assert.Equal(t, jupyter.Namespace, namespace.Name)
	assert.Equal(t, jupyter.Token, secret.StringData["token"])
	assert.Equal(t, jupyter.Namespace, pod.Namespace)
	assert.Equal(t, jupyter.Pod, pod.Name)
	assert.Equal(t, account.Name, pod.Spec.ServiceAccountName)

	require.Len(t, pod.Spec.InitContainers, 1)
	helper, notebook := pod.Spec.InitContainers[0], pod.Spec.Containers[0]
	assert.Equal(t, jupyter.Helper, helper.Name)
	assert.Equal(t, corev1.ContainerRestartPolicyAlways, *helper.RestartPolicy)
	assert.Equal(t, secret.Name, helper.Env[1].ValueFrom.SecretKeyRef.Name)
	assert.Equal(t, jupyter.Notebook, notebook.Name)
	assert.Contains(t, notebook.Env, corev1.EnvVar{Name: "HOME", Value: jupyter.Home})
	assert.EqualValues(t, 8888, notebook.Ports[0].ContainerPort)
	assert.Equal(t, notebook.Ports[0].Name, notebook.ReadinessProbe.HTTPGet.Port.StrVal)
	assert.Equal(t, []string{"/bin/sh", "/envs/setup.sh"}, notebook.Lifecycle.PostStart.Exec.Command)
	assert.Contains(t, envs.Data, "setup.sh")
	gpus := notebook.Resources.Limits["nvidia.com/gpu"]
	assert.EqualValues(t, 1, gpus.Value())
	preferred := pod.Spec.Affinity.NodeAffinity.PreferredDuringSchedulingIgnoredDuringExecution[0].Preference.MatchExpressions[0]
	assert.Equal(t, corev1.NodeSelectorRequirement{Key: "accelerator", Operator: corev1.NodeSelectorOpIn, Values: []string{jupyter.Model}}, preferred)

	volumes := map[string]corev1.VolumeSource{}
	for i := range pod.Spec.Volumes {
		volumes[pod.Spec.Volumes[i].Name] = pod.Spec.Volumes[i].VolumeSource
	}
	for _, mount := range notebook.VolumeMounts {
		assert.Contains(t, volumes, mount.Name)
		if mount.MountPath == "/var/run/secrets/kubernetes.io/serviceaccount" {
			assert.NotNil(t, volumes[mount.Name].EmptyDir)
		}
	}
	assert.Equal(t, envs.Name, volumes["envs"].ConfigMap.Name)
}

// The site's part must be about the pod's volume, and name the claim.
func TestSite(t *testing.T) {
	t.Parallel()
	var pod corev1.Pod
	documents := strings.Split(jupyter.Manifest(), "\n---\n")
	require.NoError(t, yaml.UnmarshalStrict([]byte(documents[len(documents)-1]), &pod))
	var claim corev1.PersistentVolumeClaim
	require.NoError(t, yaml.UnmarshalStrict([]byte(jupyter.ClaimManifest()), &claim))
	assert.Equal(t, jupyter.Claim, claim.Name)
	var site struct {
		Policy struct {
			Volumes []struct {
				Match  map[string]string   `json:"match"`
				Target corev1.VolumeSource `json:"target"`
			} `json:"volumes"`
			KeepNodeAffinity bool                `json:"keepNodeAffinity"`
			Tolerations      []corev1.Toleration `json:"tolerations"`
		} `json:"policy"`
		Capacity struct {
			Labels []string `json:"labels"`
		} `json:"capacity"`
	}
	require.NoError(t, yaml.UnmarshalStrict([]byte(jupyter.Policy()), &site))
	home := pod.Spec.Volumes[0].NFS
	assert.Equal(t, map[string]string{"kind": "nfs", "server": home.Server, "path": home.Path}, site.Policy.Volumes[0].Match)
	assert.Equal(t, claim.Name, site.Policy.Volumes[0].Target.PersistentVolumeClaim.ClaimName)
	assert.True(t, site.Policy.KeepNodeAffinity)
	assert.Equal(t, []string{"accelerator"}, site.Capacity.Labels)
}
