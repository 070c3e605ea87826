// SPDX-License-Identifier: Apache-2.0

package bootstrap

import (
	"fmt"
	"maps"
	"path"
	"strings"
)

// kubeletConfig is the KubeletConfiguration but for the site's own fields. It does not
// say what depends on the image, such as the cgroup driver: the image has files in
// kubelet.conf.d for that, which the kubelet reads afterwards.
func kubeletConfig(s *Settings) map[string]any {
	config := map[string]any{
		"apiVersion": "kubelet.config.k8s.io/v1beta1",
		"kind":       "KubeletConfiguration",
		"authentication": map[string]any{
			"anonymous": map[string]any{"enabled": false},
			"webhook":   map[string]any{"enabled": true},
			"x509":      map[string]any{"clientCAFile": pathCA},
		},
		"authorization": map[string]any{"mode": "Webhook"},
		// The Node is there before the kubelet, which is content with that.
		"registerNode":       true,
		"rotateCertificates": true,
		"serverTLSBootstrap": true,
		"clusterDomain":      s.ClusterDomain,
		"clusterDNS":         s.ClusterDNS,
	}
	if len(s.SystemReserved) > 0 {
		config["systemReserved"] = s.SystemReserved
	}
	return config
}

// proxyConfig adds to a site's configuration of kube-proxy what depends on the machine.
func proxyConfig(site map[string]any, nodeID string) map[string]any {
	config := map[string]any{
		"apiVersion":       "kubeproxy.config.k8s.io/v1alpha1",
		"kind":             "KubeProxyConfiguration",
		"hostnameOverride": nodeID,
		"clientConnection": map[string]any{"kubeconfig": pathKubeconfig},
	}
	maps.Copy(config, site)
	return config
}

// joinConfig is for kubeadm, which takes the token from the discovery file.
func joinConfig(nodeID string) map[string]any {
	return map[string]any{
		"apiVersion": "kubeadm.k8s.io/v1beta4",
		"kind":       "JoinConfiguration",
		"discovery":  map[string]any{"file": map[string]any{"kubeConfigPath": pathDiscovery}},
		"nodeRegistration": map[string]any{
			"name":      nodeID,
			"criSocket": "unix:///run/containerd/containerd.sock",
			"taints":    []any{}, // the platform taints the Node
		},
	}
}

func kubeconfig(server, token string) map[string]any {
	const name = "osn"
	return map[string]any{
		"apiVersion": "v1",
		"kind":       "Config",
		"clusters": []any{map[string]any{"name": name, "cluster": map[string]any{
			"server": server, "certificate-authority": pathCA,
		}}},
		"users":           []any{map[string]any{"name": name, "user": map[string]any{"token": token}}},
		"contexts":        []any{map[string]any{"name": name, "context": map[string]any{"cluster": name, "user": name}}},
		"current-context": name,
	}
}

// hosts is the mirror's hosts.toml, for containerd; dir is where it lies.
func (m Mirror) hosts(dir string) string {
	var out strings.Builder
	if m.Server != "" {
		_, _ = fmt.Fprintf(&out, "server = %q\n", m.Server)
	}
	ca := ""
	if m.CAData != "" {
		ca = fmt.Sprintf("ca = %q\n", path.Join(dir, "ca.crt"))
	}
	for _, host := range m.Hosts {
		_, _ = fmt.Fprintf(&out, "\n[host.%q]\ncapabilities = [\"pull\", \"resolve\"]\n%s", host, ca)
	}
	return out.String()
}
