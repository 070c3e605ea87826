// SPDX-License-Identifier: Apache-2.0

package bootstrap_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/cloudveneto/caas/osnode/bootstrap"
)

func TestValidate(t *testing.T) {
	t.Parallel()
	require.NoError(t, full(t).Validate())
	bad := bootstrap.Settings{
		Server: "http://user:word@api", CAData: "x", Mode: "ssh", ClusterDNS: []string{"dns"}, ClusterDomain: "a b",
		SystemReserved: map[string]string{"cpu": "lots", "memory": "-1"},
		Kubelet:        map[string]any{"authorization": map[string]any{"mode": "AlwaysAllow"}, "registerNode": false, "rotateCertificates": false},
		KubeProxy:      map[string]any{"hostnameOverride": "x"},
		Mirrors: map[string]bootstrap.Mirror{
			"../x": {Server: "http://a"}, "docker.io": {}, "quay.io": {Hosts: []string{"ftp://a"}, CAData: "-----BEGIN"},
		},
		DataDisk:      bootstrap.DataDisk{Policy: bootstrap.DataDevice, Device: "vdb", Filesystem: "vfat"},
		ExtraUserData: "#include\nx\n",
	}
	err := bad.Validate()
	for _, want := range []string{
		"server:", "caData:", "mode:", "clusterDNS[0]:", "clusterDomain:", "systemReserved[cpu]:", "systemReserved[memory]:",
		"kubelet.authorization:", "kubelet.registerNode:", "kubelet.rotateCertificates:", "kubeProxy.hostnameOverride:",
		"mirrors[../x]:", "mirrors[docker.io]:", "mirrors[quay.io].hosts[0]:", "mirrors[quay.io].caData:",
		"dataDisk:", "filesystem", "extraUserData:",
	} {
		require.ErrorContains(t, err, want)
	}
	assert.NotContains(t, err.Error(), "word")

	other := settings(t)
	other.Mode, other.Kubelet = bootstrap.ModeKubeadm, map[string]any{"maxPods": 1}
	require.ErrorContains(t, other.Validate(), "no effect in mode kubeadm")
	other = settings(t)
	other.ClusterDNS = nil
	require.ErrorContains(t, other.Validate(), "clusterDNS")
	other = settings(t)
	other.ExtraUserData = "#cloud-config\nwrite_files: [{path: /etc/kubernetes/ca.crt, content: x}]\n"
	require.ErrorContains(t, other.Validate(), "written by the platform")
	other = settings(t)
	other.CAData += key(t)
	require.ErrorContains(t, other.Validate(), "PRIVATE KEY")
}

// key is a private key, which has no business in a configuration.
func key(t *testing.T) string {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	data, err := x509.MarshalPKCS8PrivateKey(private)
	require.NoError(t, err)
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: data}))
}

func TestNode(t *testing.T) {
	t.Parallel()
	for name, node := range map[string]bootstrap.Node{
		"no name":    {Token: token},
		"bad name":   {NodeID: "a b", Token: token},
		"no token":   {NodeID: "n-1"},
		"bad token":  {NodeID: "n-1", Token: "abcdef.0123456789abcde\n"},
		"long token": {NodeID: "n-1", Token: token + "0"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := bootstrap.UserData(settings(t), node)
			require.Error(t, err)
			if node.Token != "" {
				assert.NotContains(t, err.Error(), node.Token)
			}
		})
	}
	var out bytes.Buffer
	logger := slog.New(slog.NewTextHandler(&out, nil))
	logger.Info("test", "node", bootstrap.Node{NodeID: "n-1", Token: token}, "settings", full(t))
	assert.NotContains(t, out.String(), token)
	assert.NotContains(t, out.String(), "site-command")
	assert.Contains(t, out.String(), "n-1")
}
