// SPDX-License-Identifier: Apache-2.0

package settings_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

func manifest(t *testing.T, name string) []string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("..", "..", "deploy", "virtual-kubelet", name))
	require.NoError(t, err)
	return strings.Split(string(data), "\n---\n")
}

// TestDeployedConfiguration holds the manifests to what this program reads.
func TestDeployedConfiguration(t *testing.T) {
	t.Parallel()
	var config corev1.ConfigMap
	require.NoError(t, yaml.UnmarshalStrict([]byte(manifest(t, "config.yaml")[0]), &config))
	token := filepath.Join(t.TempDir(), "token")
	require.NoError(t, os.WriteFile(token, []byte("t"), 0o600))
	const deployed = "/etc/interlink-token/token"
	text := config.Data["InterLinkConfig.yaml"]
	require.Contains(t, text, deployed)
	s, err := load(t, strings.ReplaceAll(text, deployed, token))
	require.NoError(t, err)
	assert.True(t, s.Leader.Enabled)
	assert.Equal(t, "interlink", s.Leader.Namespace)

	var deployment appsv1.Deployment
	require.NoError(t, yaml.UnmarshalStrict([]byte(manifest(t, "deployment.yaml")[0]), &deployment))
	container := deployment.Spec.Template.Spec.Containers[0]
	mounted := map[string]bool{}
	for _, mount := range container.VolumeMounts {
		mounted[mount.MountPath] = true
	}
	assert.True(t, mounted[filepath.Dir(deployed)], "the token's directory is mounted")
	assert.True(t, mounted[s.Kubelet.CertDir], "the certificate's directory is mounted")
	assert.Equal(t, config.Name, deployment.Spec.Template.Spec.Volumes[0].ConfigMap.Name)
}
