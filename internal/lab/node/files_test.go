// SPDX-License-Identifier: Apache-2.0

package node_test

import (
	"flag"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"github.com/cloudveneto/caas/internal/lab/node"
)

var update = flag.Bool("update", false, "write the golden files")

func example() node.Config {
	return node.Config{
		Lab: "lab", Cluster: "caas", Name: "caas-1", Dir: "/var/lib/lab/caas-1", LAN: "caas-lab",
		Address: netip.MustParsePrefix("10.88.0.11/24"), Gateway: netip.MustParseAddr("10.88.0.1"),
		PodSubnet: netip.MustParsePrefix("10.201.1.0/24"), ClusterCIDR: netip.MustParsePrefix("10.201.0.0/16"),
		Server: "https://10.88.0.1:6443", CAFile: "/ca.crt", BootstrapToken: "abcdef.0123456789abcdef",
		ProxyKubeconfig: "/proxy.kubeconfig", Binaries: "/bin", Executable: "/caas-lab", Registry: "10.88.0.1:5000",
		ClusterDNS: netip.MustParseAddr("10.88.0.53"),
		Labels:     map[string]string{"b": "2", "a": "1"},
		Taints:     []corev1.Taint{{Key: "reserved", Value: "yes", Effect: corev1.TaintEffectNoSchedule}},
		Kubelet:    map[string]any{"maxPods": 10, "syncFrequency": "10s"},
	}
}

func TestFilesAreAsExpected(t *testing.T) {
	t.Parallel()
	files, err := example().Files("/usr/lib/cni", "overlayfs", false, []byte("CA\n"), []byte("proxy\n"))
	require.NoError(t, err)
	var text strings.Builder
	for _, name := range slices.Sorted(maps.Keys(files)) {
		fmt.Fprintf(&text, "-- %s --\n%s\n", name, strings.TrimSuffix(string(files[name]), "\n"))
	}
	golden := filepath.Join("testdata", "files.golden")
	if *update {
		require.NoError(t, os.WriteFile(golden, []byte(text.String()), 0o600))
	}
	want, err := os.ReadFile(golden)
	require.NoError(t, err)
	assert.Empty(t, cmp.Diff(string(want), text.String()), "run the test with -update if this is meant")
}

func TestKubeletArguments(t *testing.T) {
	t.Parallel()
	arguments := example().KubeletArguments()
	assert.Contains(t, arguments, "--node-labels=a=1,b=2")
	assert.Contains(t, arguments, "--node-ip=10.88.0.11")
	assert.Contains(t, arguments, "--hostname-override=caas-1")
	config := example()
	config.Labels = nil
	assert.NotContains(t, strings.Join(config.KubeletArguments(), " "), "node-labels")
}

func TestExtraKubeletFieldsWin(t *testing.T) {
	t.Parallel()
	files, err := example().Files("/usr/lib/cni", "overlayfs", true, nil, nil)
	require.NoError(t, err)
	var kubelet map[string]any
	require.NoError(t, yaml.Unmarshal(files["kubernetes/kubelet.yaml"], &kubelet))
	assert.InDelta(t, 10, kubelet["maxPods"], 0)
	assert.Equal(t, "10s", kubelet["syncFrequency"])
	assert.Equal(t, "/caas-lab/lab/caas-1", kubelet["cgroupRoot"])
}

func TestContainerdFollowsTheMachine(t *testing.T) {
	t.Parallel()
	files, err := example().Files("/opt/cni/bin", "native", true, nil, nil)
	require.NoError(t, err)
	containerd := string(files["containerd.toml"])
	assert.Contains(t, containerd, "restrict_oom_score_adj = false")
	assert.Contains(t, containerd, `snapshotter = "native"`)
	assert.Contains(t, containerd, `bin_dir = "/opt/cni/bin"`)
}

func TestConfigurationProblemsAreAllReported(t *testing.T) {
	t.Parallel()
	err := node.Start(t.Context(), node.Config{Name: "a/b", Server: "http://x", Dir: "relative"})
	require.Error(t, err)
	for _, part := range []string{
		`node "a/b"`, "lab is required", "cluster is required", "caFile", "bootstrapToken", "proxyKubeconfig", "binaries",
		"registry", "address", "gateway", "podSubnet", "clusterCIDR", "clusterDNS", "https://host:port", "absolute path", "slashes",
	} {
		assert.ErrorContains(t, err, part)
	}
	require.Error(t, node.Stop(t.Context(), node.Removal{Lab: "lab", Name: "n", Dir: "relative"}))
}

// TestScriptInstallsWhatIsRequired compares the requirements with the list in the
// script that installs them.
func TestScriptInstallsWhatIsRequired(t *testing.T) {
	t.Parallel()
	script, err := os.ReadFile("../../../hack/install-packages.sh")
	require.NoError(t, err)
	list := regexp.MustCompile(`(?s)packages="(.*?)"`).FindSubmatch(script)
	require.Len(t, list, 2)
	packages := strings.Fields(string(list[1]))
	for _, requirement := range node.Requirements() {
		assert.Contains(t, packages, requirement.Package)
		assert.NotEmpty(t, requirement.Files)
	}
}
