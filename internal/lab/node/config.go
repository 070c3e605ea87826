// SPDX-License-Identifier: Apache-2.0

// Package node runs real Kubernetes nodes of the lab: containerd, kubelet and
// kube-proxy in network, mount, host name and process namespaces of their own, on
// the cluster LAN. Every path that they use is the usual one and private to the
// node; the machine they run on sees none of their files, mounts, ports or kernel
// settings.
//
// A node is one process, its holder: it is the first process of the node's process
// namespace, so that killing it ends everything on the node at once, as pulling a
// plug does. Start makes the namespaces and runs the holder; Main is the holder.
package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/cloudveneto/caas/internal/lab/network"
)

// Config describes a node. All fields without a default are required.
type Config struct {
	// Lab, Cluster and Name identify the node. Name is unique in the lab and is the
	// Node's name.
	Lab     string `json:"lab"`
	Cluster string `json:"cluster"`
	Name    string `json:"name"`
	// Dir holds everything of the node; Stop removes it.
	Dir string `json:"dir"`
	// RunDir is where the holder's process record is kept, under the name
	// node-<Name>; Dir when empty.
	RunDir string `json:"runDir"`

	// LAN is the name of the cluster LAN's network namespace, Address the node's
	// address on it with its prefix length, and Gateway its default route.
	LAN     string       `json:"lan"`
	Address netip.Prefix `json:"address"`
	Gateway netip.Addr   `json:"gateway"`
	// PodSubnet is the node's part of ClusterCIDR, all pods' addresses.
	PodSubnet   netip.Prefix `json:"podSubnet"`
	ClusterCIDR netip.Prefix `json:"clusterCIDR"`

	// Server is the API server's URL, CAFile the certificate that signs its and every
	// client's. With BootstrapToken the kubelet asks for its certificates.
	Server         string `json:"server"`
	CAFile         string `json:"caFile"`
	BootstrapToken string `json:"bootstrapToken"`
	// ProxyKubeconfig is a kubeconfig file for kube-proxy, whose user is
	// system:kube-proxy.
	ProxyKubeconfig string `json:"proxyKubeconfig"`

	// Binaries is the directory of kubelet and kube-proxy.
	Binaries string `json:"binaries"`
	// Executable is the program that calls Main when it is run with the arguments
	// "node-init" and a path; the running one when empty.
	Executable string `json:"executable"`
	// Registry is the address of the registry that all images come from.
	Registry string `json:"registry"`
	// Images are directories of OCI layouts that the node has from the start.
	Images []string `json:"images,omitempty"`
	// SandboxImage is the name of the image that holds pods' namespaces;
	// registry.k8s.io/pause:3.10.1 when empty.
	SandboxImage string `json:"sandboxImage"`

	// ClusterDNS is the cluster's name server, ClusterDomain its zone; cluster.local
	// when empty.
	ClusterDNS    netip.Addr `json:"clusterDNS"`
	ClusterDomain string     `json:"clusterDomain"`
	// Labels and Taints are what the node registers with.
	Labels map[string]string `json:"labels,omitempty"`
	Taints []corev1.Taint    `json:"taints,omitempty"`
	// Kubelet are further fields of the KubeletConfiguration; they win.
	Kubelet map[string]any `json:"kubelet,omitempty"`
}

// command is the argument with which Executable becomes a holder.
const command = "node-init"

// complete fills in what has a default and reports everything that is wrong.
func (c *Config) complete() error {
	c.RunDir = orDefault(c.RunDir, c.Dir)
	c.ClusterDomain = orDefault(c.ClusterDomain, "cluster.local")
	c.SandboxImage = orDefault(c.SandboxImage, "registry.k8s.io/pause:3.10.1")
	var problems []error
	if c.Executable == "" {
		self, err := os.Executable()
		c.Executable = self
		problems = append(problems, err)
	}
	for field, value := range map[string]string{
		"lab": c.Lab, "cluster": c.Cluster, "name": c.Name, "dir": c.Dir, "lan": c.LAN, "caFile": c.CAFile,
		"bootstrapToken": c.BootstrapToken, "proxyKubeconfig": c.ProxyKubeconfig, "binaries": c.Binaries, "registry": c.Registry,
	} {
		if value == "" {
			problems = append(problems, fmt.Errorf("%s is required", field))
		}
	}
	if strings.ContainsAny(c.Name+c.Lab, "/ ") {
		problems = append(problems, errors.New("lab and name cannot have slashes or spaces"))
	}
	if server, err := url.Parse(c.Server); err != nil || server.Scheme != "https" || server.Host == "" {
		problems = append(problems, fmt.Errorf("server %q: want https://host:port", c.Server))
	}
	if !filepath.IsAbs(c.Dir) {
		problems = append(problems, fmt.Errorf("dir %q: want an absolute path", c.Dir))
	}
	for field, valid := range map[string]bool{
		"address": c.Address.IsValid(), "gateway": c.Gateway.IsValid(), "podSubnet": c.PodSubnet.IsValid(),
		"clusterCIDR": c.ClusterCIDR.IsValid(), "clusterDNS": c.ClusterDNS.IsValid(),
	} {
		if !valid {
			problems = append(problems, fmt.Errorf("%s is required", field))
		}
	}
	if err := errors.Join(problems...); err != nil {
		return fmt.Errorf("node %q: %w", c.Name, err)
	}
	return nil
}

func orDefault(value, otherwise string) string {
	if value == "" {
		return otherwise
	}
	return value
}

// Namespace is the name of the node's network namespace.
func (c *Config) Namespace() string { return namespace(c.Lab, c.Name) }

func namespace(lab, name string) string { return "caas-" + lab + "-" + name }

// netNS is the path of the node's network namespace.
func (c *Config) netNS() string { return network.Path(c.Namespace()) }

// recordName names the holder's process record.
func recordName(node string) string { return "node-" + node }

// cgroup is the node's path in every cgroup hierarchy.
func cgroup(lab, node string) string { return filepath.Join(cgroupParent(lab), node) }

func cgroupParent(lab string) string { return filepath.Join("/caas-lab", lab) }

// path is a file or directory of the node.
func (c *Config) path(elements ...string) string {
	return filepath.Join(append([]string{c.Dir}, elements...)...)
}

// Log is the log file of one of the node's components: holder, containerd, kubelet
// or kube-proxy.
func Log(dir, component string) string { return filepath.Join(dir, "log", component+".log") }

// Components are the names that Log takes.
func Components() []string { return []string{"holder", "containerd", "kubelet", "kube-proxy"} }

const configFile = "config.json"

// load reads the configuration that Start wrote.
func load(path string) (*Config, error) {
	data, err := os.ReadFile(filepath.Clean(path))
	if err != nil {
		return nil, fmt.Errorf("read node configuration: %w", err)
	}
	config := &Config{}
	if err := json.Unmarshal(data, config); err != nil {
		return nil, fmt.Errorf("decode node configuration: %w", err)
	}
	if err := config.complete(); err != nil {
		return nil, err
	}
	return config, nil
}
