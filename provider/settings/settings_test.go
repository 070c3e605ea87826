// SPDX-License-Identifier: Apache-2.0

package settings_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"

	"github.com/cloudveneto/caas/provider/settings"
)

func load(t *testing.T, content string) (*settings.Settings, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config.yaml")
	require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
	return settings.Load(path, settings.Environment{NodeName: "far-away", KubeletPort: "10250", PodIP: "192.0.2.7"})
}

func TestUpstreamsFile(t *testing.T) {
	t.Parallel()
	s, err := load(t, `
InterlinkURL: "https://interlink.example.org"
InterlinkPort: 443
VerboseLogging: true
ErrorsOnlyLogging: false
ServiceAccount: interlink
Namespace: interlink
VKConfigPath: /etc/interlink/x.yaml
DisableProjectedVolumes: true
JobScriptBuilderURL: http://builder
DisableCSR: true
SkipDownwardAPIResolution: true
PodCIDR: {Subnet: 10.0.0.0/24, MinIP: 2, MaxIP: 200}
HTTP: {Insecure: true}
KubeletHTTP: {Insecure: true}
Resources:
  CPU: 10
  Memory: 20Gi
  Pods: "30"
  Accelerators:
  - {ResourceType: nvidia.com/gpu, Model: a100, Available: 2}
  - {ResourceType: nvidia.com/gpu, Model: h100, Available: "3"}
  - {ResourceType: example.org/widget, Available: 1}
NodeLabels: ["zone=north"]
NodeTaints:
- {Key: only, Value: batch, Effect: NoExecute}
- {Key: odd, Effect: Whatever}
Network: {EnableTunnel: false, FullMesh: false, WildcardDNS: example.org}
TLS: {Enabled: false, CertFile: /nowhere}
`)
	require.NoError(t, err)
	assert.Equal(t, "https://interlink.example.org:443", s.FarEnd.BaseURL)
	assert.True(t, s.FarEnd.Insecure)
	assert.Equal(t, "debug", s.LogLevel)
	assert.True(t, s.NoProjected)
	assert.True(t, s.Kubelet.SelfSigned)
	assert.Equal(t, "0.0.0.0:10250", s.Kubelet.Address)
	assert.Equal(t, "10.0.0.0/24", s.Node.PodCIDR)
	gpus, widgets := s.Node.Capacity["nvidia.com/gpu"], s.Node.Capacity["example.org/widget"]
	assert.Equal(t, int64(5), gpus.Value())
	assert.Equal(t, int64(1), widgets.Value())
	assert.Equal(t, int64(10), s.Node.Capacity.Cpu().Value())
	assert.Equal(t, int64(30), s.Node.Capacity.Pods().Value())
	assert.Equal(t, "h100", s.Node.Labels["nvidia-gpu-type"])
	assert.Equal(t, "north", s.Node.Labels["zone"])
	assert.Equal(t, "far-away", s.Node.Labels["kubernetes.io/hostname"])
	assert.Equal(t, []corev1.Taint{
		{Key: settings.TaintKey, Value: "true", Effect: corev1.TaintEffectNoSchedule},
		{Key: "only", Value: "batch", Effect: corev1.TaintEffectNoExecute},
		{Key: "odd", Effect: corev1.TaintEffectNoSchedule},
	}, s.Node.Taints)
}

func TestDefaults(t *testing.T) {
	t.Parallel()
	s, err := load(t, "InterlinkURL: unix:///run/interlink.sock\nInterlinkPort: 3000\n")
	require.NoError(t, err)
	assert.Equal(t, "unix:///run/interlink.sock", s.FarEnd.BaseURL)
	assert.Equal(t, int64(100), s.Node.Capacity.Cpu().Value())
	assert.Equal(t, 32, s.Workers)
	assert.Equal(t, 512, s.MaxSessions)
	assert.Equal(t, 5*time.Second, s.PingInterval)
	assert.Equal(t, 3, s.PingFailures)
	assert.InDelta(t, -1, s.ClientQPS, 0)
	assert.Equal(t, "kubernetes.io/kubelet-serving", s.Kubelet.SignerName)
	assert.Equal(t, "127.0.0.1:10248", s.OpsAddress)
	assert.False(t, s.Leader.Enabled)
}

func TestAllProblemsAreReported(t *testing.T) {
	t.Parallel()
	_, err := load(t, `
InterlinkURL: ftp://host
KubernetesApiAddr: 192.0.2.1
Network: {EnableTunnel: true, FullMesh: true}
Resources: {CPU: many, Accelerators: [{ResourceType: gpu, Available: 1}]}
NodeLabels: [novalue]
NodeTaints: [{Value: x}]
PingInterval: soon
VKTokenFile: /nowhere/token
KubeletCertFile: /x
TLS: {Enabled: true, CACertFile: /nowhere/ca.crt, CertFile: /x}
`)
	for _, part := range []string{
		"InterlinkURL", "KubernetesApiAddr", "Network.EnableTunnel", "Network.FullMesh", "Resources.CPU", `"gpu"`, "novalue",
		"NodeTaints", "PingInterval", "VKTokenFile", "KubeletCertFile", "TLS.CACertFile", "TLS.CertFile and TLS.KeyFile",
	} {
		require.ErrorContains(t, err, part)
	}
}

func TestUnknownKeysAreErrors(t *testing.T) {
	t.Parallel()
	_, err := load(t, "InterlinkURL: http://h\nInterlinkPrt: 3000\n")
	require.ErrorContains(t, err, "InterlinkPrt")
}

func TestTokenIsReadEachTime(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "token")
	far := settings.FarEnd{TokenFile: path}
	for _, token := range []string{"one", "two"} {
		require.NoError(t, os.WriteFile(path, []byte(token+"\n"), 0o600))
		read, err := far.Token()
		require.NoError(t, err)
		assert.Equal(t, token, read)
	}
}
