// SPDX-License-Identifier: Apache-2.0

package bootstrap

import (
	_ "embed"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"
)

// Paths in the machine. The node image's units refer to them.
const (
	pathCA        = "/etc/kubernetes/ca.crt"
	pathBootstrap = "/etc/kubernetes/bootstrap-kubelet.conf"
	pathKubelet   = "/etc/kubernetes/kubelet.yaml"
	pathEnv       = "/etc/kubernetes/kubelet.env"
	pathProxy     = "/etc/kubernetes/kube-proxy.yaml"
	pathJoin      = "/etc/kubernetes/kubeadm-join.yaml"
	pathDiscovery = "/etc/kubernetes/kubeadm-discovery.conf"
	pathMetadata  = "/etc/kubernetes/block-metadata.nft"
	pathDropIn    = "/etc/systemd/system/kubelet.service.d/10-block-metadata.conf"
	pathDataDisk  = "/usr/local/sbin/osn-data-disk"
	pathMirrors   = "/etc/containerd/certs.d"

	// pathKubeconfig is where the kubelet keeps its own credentials, once it has joined.
	pathKubeconfig = "/var/lib/kubelet/kubeconfig"
)

//go:embed data-disk.sh
var dataDiskScript string

// blockMetadata drops what pods send to the metadata service. It can be read again and
// again: the first line makes the table known, so that it can be deleted.
const blockMetadata = `table inet osn_metadata
delete table inet osn_metadata
table inet osn_metadata {
    chain forward {
        type filter hook forward priority -10; policy accept;
        ip daddr 169.254.169.254 drop
        ip6 daddr fe80::a9fe:a9fe drop
    }
}
`

// file is an entry of write_files.
type file struct {
	Path        string `json:"path"`
	Permissions string `json:"permissions"`
	Content     string `json:"content"`
}

// cloudConfig is what the platform says to cloud-init.
type cloudConfig struct {
	WriteFiles []file     `json:"write_files,omitempty"`
	GrowPart   any        `json:"growpart,omitempty"`
	ResizeRoot bool       `json:"resize_rootfs,omitempty"`
	Mounts     [][]string `json:"mounts,omitempty"`
	RunCmd     [][]string `json:"runcmd,omitempty"`
}

func (c *cloudConfig) part(filename string) (part, error) {
	data, err := yaml.Marshal(c)
	if err != nil {
		return part{}, fmt.Errorf("encode cloud-config: %w", err)
	}
	return part{contentType: typeCloudConfig, filename: filename, content: "#cloud-config\n" + string(data)}, nil
}

// owned says what others must leave alone.
func (s *Settings) owned() (owned, error) {
	result := owned{
		paths: map[string]bool{},
		lists: []string{"write_files", "runcmd", "bootcmd", "mounts"},
		keys:  []string{"growpart", "resize_rootfs"},
	}
	// A machine's own values do not change which files there are.
	files, err := s.files(Node{})
	for _, file := range files {
		result.paths[file.Path] = true
	}
	return result, err
}

// prepare is the part before the site's: it starts nothing.
func (s *Settings) prepare(node Node) (part, error) {
	files, err := s.files(node)
	if err != nil {
		return part{}, err
	}
	config := cloudConfig{
		WriteFiles: files,
		GrowPart:   map[string]any{"mode": "auto", "devices": []string{"/"}},
		ResizeRoot: true,
		// cloud-init would mount an ephemeral disk on /mnt and use Nova's swap, with which
		// the kubelet would not start. A device alone means no mount.
		Mounts: [][]string{{"ephemeral0"}, {"swap"}},
	}
	if s.DataDisk.Policy != DataNone {
		device := "auto"
		if s.DataDisk.Policy == DataDevice {
			device = s.DataDisk.Device
		}
		config.RunCmd = append(config.RunCmd, []string{pathDataDisk, s.DataDisk.Filesystem, device})
	}
	return config.part("platform-01.cfg")
}

// start is the part after the site's; ok is false when nothing is to be started.
func (s *Settings) start() (start part, ok bool, err error) {
	config := cloudConfig{RunCmd: [][]string{{"systemctl", "daemon-reload"}}}
	switch s.Mode {
	case ModeKubelet:
		config.RunCmd = append(config.RunCmd, []string{"systemctl", "enable", "--now", "containerd", "kubelet"})
		if s.KubeProxy != nil {
			config.RunCmd = append(config.RunCmd, []string{"systemctl", "enable", "--now", "kube-proxy"})
		}
	case ModeKubeadm:
		config.RunCmd = append(config.RunCmd,
			[]string{"systemctl", "enable", "--now", "containerd"},
			[]string{"systemctl", "enable", "kubelet"}, // kubeadm starts it
			[]string{"kubeadm", "join", "--config", pathJoin})
	case ModeNone:
		return part{}, false, nil
	}
	start, err = config.part("platform-02.cfg")
	return start, true, err
}

// files are all that the platform writes. The token is in one of them only, which only
// root can read.
func (s *Settings) files(node Node) ([]file, error) {
	var (
		files    []file
		firstErr error
	)
	add := func(path, permissions, content string) {
		files = append(files, file{Path: path, Permissions: permissions, Content: content})
	}
	encode := func(value any) string {
		data, err := yaml.Marshal(value)
		if err != nil && firstErr == nil {
			firstErr = fmt.Errorf("encode configuration: %w", err)
		}
		return string(data)
	}
	add(pathCA, "0644", ending(s.CAData))
	switch s.Mode {
	case ModeKubeadm:
		add(pathDiscovery, "0600", encode(kubeconfig(s.Server, node.Token)))
		add(pathJoin, "0644", encode(joinConfig(node.NodeID)))
	case ModeKubelet:
		add(pathBootstrap, "0600", encode(kubeconfig(s.Server, node.Token)))
		config := kubeletConfig(s)
		maps.Copy(config, s.Kubelet)
		add(pathKubelet, "0644", encode(config))
		add(pathEnv, "0644", environment(node.NodeID))
		if s.KubeProxy != nil {
			add(pathProxy, "0644", encode(proxyConfig(s.KubeProxy, node.NodeID)))
		}
	case ModeNone:
		add(pathBootstrap, "0600", encode(kubeconfig(s.Server, node.Token)))
		add(pathEnv, "0644", environment(node.NodeID))
	}
	for _, registry := range slices.Sorted(maps.Keys(s.Mirrors)) {
		mirror, dir := s.Mirrors[registry], path.Join(pathMirrors, registry)
		add(path.Join(dir, "hosts.toml"), "0644", mirror.hosts(dir))
		if mirror.CAData != "" {
			add(path.Join(dir, "ca.crt"), "0644", ending(mirror.CAData))
		}
	}
	if s.BlockMetadata {
		add(pathMetadata, "0644", blockMetadata)
		add(pathDropIn, "0644", "[Service]\nExecStartPre=-/usr/sbin/nft -f "+pathMetadata+"\n")
	}
	if s.DataDisk.Policy != DataNone {
		// A text with tabs would be one long line in YAML.
		add(pathDataDisk, "0755", strings.ReplaceAll(dataDiskScript, "\t", "  "))
	}
	return files, firstErr
}

// ending makes a text end with one line feed, as a file of text does.
func ending(text string) string { return strings.TrimSpace(text) + "\n" }

func environment(nodeID string) string {
	return "KUBELET_EXTRA_ARGS=--hostname-override=" + nodeID + "\n"
}
