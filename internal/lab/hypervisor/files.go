// SPDX-License-Identifier: Apache-2.0

package hypervisor

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"golang.org/x/sys/unix"
	"sigs.k8s.io/yaml"

	"github.com/cloudveneto/caas/internal/lab/hypervisor/guest"
	"github.com/cloudveneto/caas/internal/lab/node"
)

// seedDir is where cloud-init looks for a config drive that is no drive.
const seedDir = "/var/lib/cloud/seed/config_drive/openstack/latest"

// files are what the machine finds on its disk because of the hardware that it is on.
func (m *Machines) files(machine machine, server Server) ([]guest.File, error) {
	metadata, err := json.Marshal(metadata(server))
	if err != nil {
		return nil, err
	}
	canLowerOOMScore, err := node.HasCapability(unix.CAP_SYS_RESOURCE)
	if err != nil {
		return nil, err
	}
	kubelet, err := yaml.Marshal(kubeletQuirks(canLowerOOMScore))
	if err != nil {
		return nil, err
	}
	containerd, err := m.containerdConfig(machine, canLowerOOMScore)
	if err != nil {
		return nil, err
	}
	files := []guest.File{
		{Path: seedDir + "/meta_data.json", Content: metadata, Mode: 0o600},
		{Path: "/etc/cloud/cloud.cfg.d/99-machine.cfg", Content: []byte(cloudInitConfig), Mode: 0o644},
		{Path: "/etc/kubernetes/kubelet.conf.d/90-machine.conf", Content: kubelet, Mode: 0o644},
		{Path: "/etc/containerd/config.toml", Content: containerd, Mode: 0o644, Once: true},
		{Path: "/etc/hostname", Content: []byte(server.Hostname + "\n"), Mode: 0o644, Once: true},
		{Path: "/etc/resolv.conf", Content: m.resolvConf(), Mode: 0o644, Once: true},
	}
	if len(server.UserData) > 0 {
		files = append(files, guest.File{Path: seedDir + "/user_data", Content: server.UserData, Mode: 0o600})
	}
	return files, nil
}

// metadata is the config drive's meta_data.json, as Nova writes it.
func metadata(server Server) map[string]any {
	data := map[string]any{
		"uuid": server.UUID, "name": server.Name, "hostname": server.Hostname, "project_id": server.ProjectID,
		"availability_zone": "nova", "launch_index": 0,
	}
	if len(server.Metadata) > 0 {
		data["meta"] = server.Metadata
	}
	if server.KeyData != "" {
		data["public_keys"] = map[string]string{server.KeyName: server.KeyData}
		data["keys"] = []map[string]string{{"name": server.KeyName, "type": "ssh", "data": server.KeyData}}
	}
	return data
}

// cloudInitConfig says what a probe for hardware would: where the metadata is, and that
// the network is there already.
const cloudInitConfig = `datasource_list: [ConfigDrive]
network: {config: disabled}
`

// kubeletQuirks are settings of the kubelet for a machine that is namespaces.
func kubeletQuirks(canLowerOOMScore bool) map[string]any {
	quirks := map[string]any{
		"apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration",
		"cgroupDriver": "cgroupfs",
		"failCgroupV1": false,
		"failSwapOn":   false,
		// The disk is shared with all machines: neither images nor pods go because it fills up.
		"imageGCHighThresholdPercent": 100,
		"imageGCLowThresholdPercent":  99,
		"evictionHard":                map[string]string{"memory.available": "100Mi", "nodefs.available": "1Gi", "imagefs.available": "1Gi"},
	}
	if !canLowerOOMScore {
		quirks["oomScoreAdj"] = 0
	}
	return quirks
}

func (m *Machines) resolvConf() []byte {
	var text strings.Builder
	for _, server := range m.config.Nameservers {
		fmt.Fprintf(&text, "nameserver %s\n", server)
	}
	return []byte(text.String())
}

// containerdConfig is the image's, for a machine without systemd. What the image says of
// images and plugins is kept.
func (m *Machines) containerdConfig(machine machine, canLowerOOMScore bool) ([]byte, error) {
	data, err := os.ReadFile(filepath.Join(m.config.Root, "etc/containerd/config.toml"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read the image's containerd configuration: %w", err)
	}
	snapshotter, err := node.Snapshotter(machine.dir)
	if err != nil {
		return nil, err
	}
	cni := "/usr/lib/cni"
	if _, err := os.Stat(filepath.Join(m.config.Root, cni)); err != nil {
		cni = "/opt/cni/bin"
	}
	const cri = `plugins."io.containerd.grpc.v1.cri"`
	lines := []string{
		"version = 2",
		"oom_score = 0",
		"[" + cri + "]",
		fmt.Sprintf("  restrict_oom_score_adj = %t", !canLowerOOMScore),
		"  disable_apparmor = true",
		"  netns_mounts_under_state_dir = true",
	}
	if sandbox := setting(string(data), "sandbox_image", m.config.SandboxImage); sandbox != "" {
		lines = append(lines, fmt.Sprintf("  sandbox_image = %q", sandbox))
	}
	lines = append(lines,
		"["+cri+".containerd]",
		`  default_runtime_name = "runc"`,
		fmt.Sprintf("  snapshotter = %q", snapshotter),
		"["+cri+".containerd.runtimes.runc]",
		`  runtime_type = "io.containerd.runc.v2"`,
		"["+cri+".containerd.runtimes.runc.options]",
		"  SystemdCgroup = false",
		"["+cri+".cni]",
		fmt.Sprintf("  bin_dir = %q", setting(string(data), "bin_dir", cni)),
		`  conf_dir = "/etc/cni/net.d"`,
		"["+cri+".registry]",
		`  config_path = "/etc/containerd/certs.d"`,
	)
	return []byte(strings.Join(lines, "\n") + "\n"), nil
}

// setting is the value of the first line that gives key a string.
func setting(toml, key, otherwise string) string {
	found := regexp.MustCompile(`(?m)^\s*` + regexp.QuoteMeta(key) + `\s*=\s*["']([^"']*)["']`).FindStringSubmatch(toml)
	if found == nil {
		return otherwise
	}
	return found[1]
}
