// SPDX-License-Identifier: Apache-2.0

package hypervisor

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/cloudveneto/caas/internal/lab/network"
)

// Config describes where machines are made, and of what.
type Config struct {
	// Lab names the lab: it is part of the names of namespaces and cgroups. Required.
	Lab string
	// Dir has a directory for each machine. Required.
	Dir string
	// LAN is the network namespace that machines are plugged into, Bridge its bridge; the
	// LAN's usual one when empty. LAN is required.
	LAN, Bridge string
	// Root is the directory of the root file system that all machines start from. It MUST
	// NOT change while there are machines. Required.
	Root string
	// Executable is the program that calls guest.Init when it is run with the arguments
	// "machine-init" and a path, and guest.Systemctl for "machine-systemctl" and more; the
	// running one when empty.
	Executable string
	// Nameservers are what machines ask for names.
	Nameservers []netip.Addr
	// PodSubnet says which addresses the pods on a server have, by the server's own: the
	// LAN sends packets for those to the server. Without it nothing is routed.
	PodSubnet func(server netip.Addr) (netip.Prefix, bool)
	// SandboxImage is the image of pods' namespaces; that of Root's containerd when empty.
	SandboxImage string
	// EndWithStarter has the kernel end all machines with this process. It is for tests.
	EndWithStarter bool
}

func (c *Config) complete() error {
	var problems []error
	for field, value := range map[string]string{"lab": c.Lab, "dir": c.Dir, "LAN": c.LAN, "root": c.Root} {
		if value == "" {
			problems = append(problems, fmt.Errorf("%s is required", field))
		}
	}
	if strings.ContainsAny(c.Lab, "/ ") {
		problems = append(problems, errors.New("lab cannot have slashes or spaces"))
	}
	for field, path := range map[string]string{"dir": c.Dir, "root": c.Root} {
		if path != "" && !filepath.IsAbs(path) {
			problems = append(problems, fmt.Errorf("%s %q: want an absolute path", field, path))
		}
	}
	if c.Executable == "" {
		self, err := os.Executable()
		c.Executable = self
		problems = append(problems, err)
	}
	if err := errors.Join(problems...); err != nil {
		return fmt.Errorf("hypervisor: %w", err)
	}
	return nil
}

// machine names what belongs to one machine.
type machine struct {
	lab, id, dir string
}

func (c *Config) machine(id string) machine {
	return machine{lab: c.Lab, id: id, dir: filepath.Join(c.Dir, id)}
}

const (
	// recordName is the process record of a machine's holder in its directory.
	recordName = "holder"
	serverFile = "server.json"
	guestFile  = "guest.json"
)

func (m machine) path(elements ...string) string {
	return filepath.Join(append([]string{m.dir}, elements...)...)
}

// namespace is the name of the machine's network namespace, netNS its path.
func (m machine) namespace() string { return "caas-" + m.lab + "-" + m.id }
func (m machine) netNS() string     { return network.Path(m.namespace()) }

// cgroup is the machine's path in every cgroup hierarchy.
func (m machine) cgroup() string { return filepath.Join("/caas-lab", m.lab, m.id) }

// Console is the file with all that a machine printed.
func (m machine) console() string { return m.path("console.log") }
