// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// InitCommand and SystemctlCommand are the arguments with which a program becomes Init and
// Systemctl.
const (
	InitCommand      = "machine-init"
	SystemctlCommand = "machine-systemctl"
)

// PIDFile is the file in the machine's directory with the number that its first process
// has outside.
const PIDFile = "holder.pid"

// Config is a machine's hardware.
type Config struct {
	// Dir has the machine's disks: upper and work of its root file system, disk for what is
	// not on it, log for the services' logs, and root to mount on.
	Dir string `json:"dir"`
	// Lower is the node image's root directory.
	Lower string `json:"lower"`
	// Cgroup is the machine's in every hierarchy.
	Cgroup string `json:"cgroup"`
	// Program is the one that is Init and Systemctl.
	Program  string `json:"program"`
	Hostname string `json:"hostname"`
	// VCPUs and MemoryMiB are what the machine sees; those of the real one when 0.
	VCPUs     int `json:"vcpus"`
	MemoryMiB int `json:"memoryMiB"`
	// EphemeralGiB is the size of the second disk; none when 0.
	EphemeralGiB int `json:"ephemeralGiB"`
	// Files are written before the machine boots.
	Files []File `json:"files"`
}

// File is a file of the machine.
type File struct {
	Path    string      `json:"path"`
	Content []byte      `json:"content"`
	Mode    fs.FileMode `json:"mode"`
	// Once leaves the file alone after the first boot.
	Once bool `json:"once,omitempty"`
}

func (c *Config) path(elements ...string) string {
	return filepath.Join(append([]string{c.Dir}, elements...)...)
}

// root is a path of the machine before its root is everyone's.
func (c *Config) root(elements ...string) string {
	return filepath.Join(append([]string{c.Dir, "root"}, elements...)...)
}

func load(path string) (*Config, error) {
	data, err := os.ReadFile(filepath.Clean(path))
	if err != nil {
		return nil, fmt.Errorf("read machine configuration: %w", err)
	}
	config := &Config{}
	if err := json.Unmarshal(data, config); err != nil {
		return nil, fmt.Errorf("decode machine configuration: %w", err)
	}
	return config, nil
}

// VarDir is on a disk of its own, because containers' overlays cannot lie on the overlay
// that the machine's root is. The directories in it are no mount points: one of them may
// become one when the machine has a disk for it.
const VarDir = "/var"

const (
	// privateDir is the machine's own view of what the lab put into it.
	privateDir = "/run/machine"
	// logDir has a log for each service.
	logDir = "/var/log/units"
	// searchPath is where programs are looked for.
	searchPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
)
