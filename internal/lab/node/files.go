// SPDX-License-Identifier: Apache-2.0

package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
	"sigs.k8s.io/yaml"
)

// bind is a directory of the node that lies over a directory of the machine.
type bind struct{ name, target string }

// binds are the paths that the node's programs write to.
func binds() []bind {
	return []bind{
		{"kubelet", "/var/lib/kubelet"},
		{"containerd", "/var/lib/containerd"},
		{"run-containerd", "/run/containerd"},
		{"lib-cni", "/var/lib/cni"},
		{"pods", "/var/log/pods"},
		{"containers", "/var/log/containers"},
		{"cni", "/etc/cni/net.d"},
		{"kubernetes", "/etc/kubernetes"},
		{"certs.d", "/etc/containerd/certs.d"},
	}
}

// KernelSettings are what the kubelet wants to see under /proc/sys, which it would
// otherwise change for the whole machine.
func KernelSettings() map[string]string {
	return map[string]string{
		"vm/overcommit_memory":      "1",
		"vm/panic_on_oom":           "0",
		"kernel/panic":              "10",
		"kernel/panic_on_oops":      "1",
		"kernel/keys/root_maxkeys":  "1000000",
		"kernel/keys/root_maxbytes": "25000000",
	}
}

// environmentOf is what the generated files depend on besides the configuration.
type environmentOf struct {
	// cniBinaries is where the CNI plugins are.
	cniBinaries string
	// snapshotter is containerd's, for the file system that Dir is on.
	snapshotter string
	// canLowerOOMScore tells whether this machine's root has CAP_SYS_RESOURCE.
	canLowerOOMScore bool
}

func look(dir string) (environmentOf, error) {
	var found environmentOf
	for _, dir := range cniDirectories() {
		if _, err := os.Stat(filepath.Join(dir, "ptp")); err == nil {
			found.cniBinaries = dir
			break
		}
	}
	if found.cniBinaries == "" {
		return found, fmt.Errorf("no CNI plugins in %s", strings.Join(cniDirectories(), " or "))
	}
	var err error
	if found.snapshotter, err = Snapshotter(dir); err != nil {
		return found, err
	}
	found.canLowerOOMScore, err = HasCapability(unix.CAP_SYS_RESOURCE)
	return found, err
}

// Snapshotter is the one that containerd can use when its root is in dir.
func Snapshotter(dir string) (string, error) {
	var stat unix.Statfs_t
	if err := unix.Statfs(dir, &stat); err != nil {
		return "", fmt.Errorf("look at %s: %w", dir, err)
	}
	if stat.Type == unix.OVERLAYFS_SUPER_MAGIC {
		return "native", nil // an overlay cannot lie on another one
	}
	return "overlayfs", nil
}

func cniDirectories() []string { return []string{"/usr/lib/cni", "/opt/cni/bin"} }

// HasCapability tells whether this process has a capability. Even root may lack one,
// for instance in a container.
func HasCapability(capability int) (bool, error) {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return false, fmt.Errorf("read capabilities: %w", err)
	}
	return data[capability/32].Effective&(1<<(capability%32)) != 0, nil
}

// files are the node's configuration files, by their path below the node's
// directory. They are pure text: the same configuration gives the same files.
func (c *Config) files(found environmentOf, ca, proxyKubeconfig []byte) (map[string][]byte, error) {
	var problems []error
	encode := func(value any) []byte {
		data, err := yaml.Marshal(value)
		problems = append(problems, err)
		return data
	}
	network, err := json.MarshalIndent(c.cniNetwork(), "", "  ")
	problems = append(problems, err)
	files := map[string][]byte{
		"containerd.toml":                  []byte(c.containerdConfig(found)),
		"certs.d/_default/hosts.toml":      []byte(c.registryHosts()),
		"cni/10-lab.conflist":              network,
		"kubernetes/ca.crt":                ca,
		"kubernetes/kubelet.yaml":          encode(c.kubeletConfig()),
		"kubernetes/kube-proxy.yaml":       encode(c.proxyConfig()),
		"kubernetes/kube-proxy.kubeconfig": proxyKubeconfig,
		"kubernetes/bootstrap.kubeconfig":  encode(c.bootstrapKubeconfig()),
	}
	for key, value := range KernelSettings() {
		files["sysctl/"+strings.ReplaceAll(key, "/", ".")] = []byte(value + "\n")
	}
	return files, errors.Join(problems...)
}

// containerdConfig is in containerd's format 2, which 1.x and 2.x read.
func (c *Config) containerdConfig(found environmentOf) string {
	const cri = `plugins."io.containerd.grpc.v1.cri"`
	lines := []string{
		"version = 2",
		`root = "/var/lib/containerd"`,
		`state = "/run/containerd"`,
		"oom_score = 0",
		"[grpc]",
		`  address = "/run/containerd/containerd.sock"`,
		`[plugins."io.containerd.internal.v1.opt"]`,
		`  path = "/var/lib/containerd/opt"`,
		"[" + cri + "]",
		fmt.Sprintf("  sandbox_image = %q", c.SandboxImage),
		fmt.Sprintf("  restrict_oom_score_adj = %t", !found.canLowerOOMScore),
		"  disable_apparmor = true",
		"  netns_mounts_under_state_dir = true",
		"  max_concurrent_downloads = 6",
		"[" + cri + ".containerd]",
		`  default_runtime_name = "runc"`,
		fmt.Sprintf("  snapshotter = %q", found.snapshotter),
		"[" + cri + ".containerd.runtimes.runc]",
		`  runtime_type = "io.containerd.runc.v2"`,
		"[" + cri + ".containerd.runtimes.runc.options]",
		"  SystemdCgroup = false",
		"[" + cri + ".cni]",
		fmt.Sprintf("  bin_dir = %q", found.cniBinaries),
		`  conf_dir = "/etc/cni/net.d"`,
		"[" + cri + ".registry]",
		`  config_path = "/etc/containerd/certs.d"`,
	}
	return strings.Join(lines, "\n") + "\n"
}

// registryHosts sends every registry's name to the lab's registry. Without the
// server line a missing image would be looked for in the real one, slowly.
func (c *Config) registryHosts() string {
	return fmt.Sprintf("server = \"http://%[1]s\"\n[host.\"http://%[1]s\"]\n  capabilities = [\"pull\", \"resolve\"]\n", c.Registry)
}

// cniNetwork gives each pod a point-to-point link: all its packets are routed, so
// that those to a Service and their answers pass the node's translation even when
// the other pod is on the same node.
func (c *Config) cniNetwork() map[string]any {
	return map[string]any{
		"cniVersion": "0.4.0",
		"name":       "lab",
		"plugins": []map[string]any{
			{
				"type": "ptp", "ipMasq": false,
				"ipam": map[string]any{
					"type":    "host-local",
					"ranges":  [][]map[string]any{{{"subnet": c.PodSubnet.String()}}},
					"routes":  []map[string]any{{"dst": "0.0.0.0/0"}},
					"dataDir": "/run/containerd/cni-ipam",
				},
			},
			{"type": "portmap", "capabilities": map[string]bool{"portMappings": true}},
		},
	}
}

func (c *Config) kubeletConfig() map[string]any {
	config := map[string]any{
		"apiVersion": "kubelet.config.k8s.io/v1beta1",
		"kind":       "KubeletConfiguration",
		"address":    "0.0.0.0",
		"authentication": map[string]any{
			"anonymous": map[string]any{"enabled": false},
			"webhook":   map[string]any{"enabled": true, "cacheTTL": "5s"},
			"x509":      map[string]any{"clientCAFile": "/etc/kubernetes/ca.crt"},
		},
		"authorization":            map[string]any{"mode": "Webhook"},
		"readOnlyPort":             0,
		"rotateCertificates":       true,
		"serverTLSBootstrap":       true,
		"containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
		"volumePluginDir":          "/var/lib/kubelet/volume-plugins",
		"cgroupDriver":             "cgroupfs",
		"cgroupRoot":               cgroup(c.Lab, c.Name),
		"failCgroupV1":             false,
		"failSwapOn":               false,
		"oomScoreAdj":              0,
		"clusterDNS":               []string{c.ClusterDNS.String()},
		"clusterDomain":            c.ClusterDomain,
		"resolvConf":               "", // the machine's name servers are not reachable from the LAN
		"maxPods":                  250,
		"kubeAPIQPS":               100,
		"kubeAPIBurst":             200,
		"serializeImagePulls":      false,
		"registryPullQPS":          0,
		// The disk is the machine's: neither images nor pods go because it fills up.
		"imageGCHighThresholdPercent": 100,
		"imageGCLowThresholdPercent":  99,
		"evictionHard":                map[string]string{"memory.available": "100Mi", "nodefs.available": "1Gi", "imagefs.available": "1Gi"},
	}
	if len(c.Taints) > 0 {
		config["registerWithTaints"] = c.Taints
	}
	maps.Copy(config, c.Kubelet)
	return config
}

func (c *Config) kubeletArguments() []string {
	arguments := []string{
		"--config=/etc/kubernetes/kubelet.yaml",
		"--kubeconfig=/etc/kubernetes/kubelet.kubeconfig",
		"--bootstrap-kubeconfig=/etc/kubernetes/bootstrap.kubeconfig",
		"--cert-dir=/var/lib/kubelet/pki",
		"--hostname-override=" + c.Name,
		"--node-ip=" + c.Address.Addr().String(),
	}
	if len(c.Labels) > 0 {
		var labels []string
		for _, key := range slices.Sorted(maps.Keys(c.Labels)) {
			labels = append(labels, key+"="+c.Labels[key])
		}
		arguments = append(arguments, "--node-labels="+strings.Join(labels, ","))
	}
	return arguments
}

// proxyConfig has the pods' addresses, so that what comes from elsewhere to a
// Service is masqueraded and its answer finds the way back through this node.
func (c *Config) proxyConfig() map[string]any {
	return map[string]any{
		"apiVersion":         "kubeproxy.config.k8s.io/v1alpha1",
		"kind":               "KubeProxyConfiguration",
		"mode":               "nftables",
		"clusterCIDR":        c.ClusterCIDR.String(),
		"hostnameOverride":   c.Name,
		"clientConnection":   map[string]any{"kubeconfig": "/etc/kubernetes/kube-proxy.kubeconfig"},
		"conntrack":          map[string]any{"maxPerCore": 0},
		"healthzBindAddress": "0.0.0.0:10256",
		"metricsBindAddress": "127.0.0.1:10249",
	}
}

func (c *Config) bootstrapKubeconfig() map[string]any {
	return map[string]any{
		"apiVersion":      "v1",
		"kind":            "Config",
		"current-context": c.Cluster,
		"clusters":        []map[string]any{{"name": c.Cluster, "cluster": map[string]any{"server": c.Server, "certificate-authority": "/etc/kubernetes/ca.crt"}}},
		"users":           []map[string]any{{"name": "bootstrap", "user": map[string]any{"token": c.BootstrapToken}}},
		"contexts":        []map[string]any{{"name": c.Cluster, "context": map[string]any{"cluster": c.Cluster, "user": "bootstrap"}}},
	}
}
