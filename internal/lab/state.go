// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/cloudveneto/caas/internal/lab/network"
	"github.com/cloudveneto/caas/internal/lab/nodeimage"
	"github.com/cloudveneto/caas/internal/lab/proc"
)

const (
	// StateEnv names the environment variable with the directory of all labs.
	StateEnv = "CAAS_LAB_STATE"

	defaultStateDir = "/var/lib/caas-lab"
	stateFile       = "lab.json"
	supervisorName  = "supervisor"
)

// ErrNoLab is returned by Open when there is no lab of that name.
var ErrNoLab = errors.New("no such lab")

// state is what is kept of a lab on disk.
type state struct {
	Name string `json:"name"`
	// Nodes are the numbers of nodes by cluster.
	Nodes map[string]int `json:"nodes"`
	// HostPorts are the ports on the machine's loopback, by cluster and by other doors.
	HostPorts map[string]int `json:"hostPorts"`
	// Tokens are the bootstrap tokens by cluster.
	Tokens map[string]string `json:"tokens"`
	// Binaries, CoreDNS and Images are in the cache.
	Binaries string            `json:"binaries"`
	CoreDNS  string            `json:"coreDNS"`
	Images   map[string]string `json:"images"`
	// NoTenancy tells that the CaaS cluster has no webhooks and no users but those with certificates.
	NoTenancy bool `json:"noTenancy,omitempty"`
	// Programs is the directory of this repository's programs that the lab runs.
	Programs string `json:"programs,omitempty"`
	// OpenStack tells that the lab has a cloud, VMs that its servers are virtual machines.
	OpenStack bool `json:"openStack,omitempty"`
	VMs       bool `json:"vms,omitempty"`
	// NodeImage is what the cloud's servers boot.
	NodeImage nodeimage.Image `json:"nodeImage,omitzero"`
	// Complete tells that Up came to its end.
	Complete bool `json:"complete"`
}

// Lab is a lab with its files. Whether it runs is for Status to tell.
type Lab struct {
	dir   string
	state state
}

// Open finds the lab of that name. The error is ErrNoLab when there is none.
func Open(name string) (*Lab, error) {
	l, err := at(name)
	if err != nil {
		return nil, err
	}
	if err := l.load(); errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %q has no files in %s", ErrNoLab, name, l.dir)
	} else if err != nil {
		return nil, err
	}
	return l, nil
}

// Names lists the labs that have files on this machine.
func Names() ([]string, error) {
	entries, err := os.ReadDir(stateDir())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list labs: %w", err)
	}
	var names []string
	for _, entry := range entries {
		if entry.IsDir() && checkName(entry.Name()) == nil {
			names = append(names, entry.Name())
		}
	}
	return names, nil
}

// at is the lab with that name, whether there is one or not.
func at(name string) (*Lab, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	return &Lab{dir: filepath.Join(stateDir(), name), state: state{Name: name}}, nil
}

// checkName keeps names usable as parts of those of directories, network namespaces and nodes.
func checkName(name string) error {
	const maxLength = 20
	allowed := func(r rune) bool { return r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-' }
	if name == "" || len(name) > maxLength || strings.Trim(name, "-") != name ||
		strings.ContainsFunc(name, func(r rune) bool { return !allowed(r) }) {
		return fmt.Errorf("lab name %q: want at most %d lower-case letters, digits and, inside, dashes", name, maxLength)
	}
	return nil
}

func stateDir() string {
	if dir := os.Getenv(StateEnv); dir != "" {
		return filepath.Clean(dir)
	}
	return defaultStateDir
}

func (l *Lab) load() error {
	data, err := os.ReadFile(filepath.Clean(l.path(stateFile)))
	if err != nil {
		return fmt.Errorf("read state of lab %q: %w", l.Name(), err)
	}
	if err := json.Unmarshal(data, &l.state); err != nil {
		return fmt.Errorf("decode state of lab %q: %w", l.Name(), err)
	}
	return nil
}

// save stores the state so that a reader sees either the old or the new one.
func (l *Lab) save() error {
	data, err := json.MarshalIndent(l.state, "", "  ")
	if err != nil {
		return fmt.Errorf("encode state: %w", err)
	}
	tmp := l.path("." + stateFile)
	if err := os.WriteFile(tmp, append(data, '\n'), 0o600); err != nil {
		return fmt.Errorf("write state: %w", err)
	}
	if err := os.Rename(tmp, l.path(stateFile)); err != nil {
		return fmt.Errorf("write state: %w", err)
	}
	return nil
}

// Name returns the lab's name.
func (l *Lab) Name() string { return l.state.Name }

// Dir returns the directory with all files of the lab.
func (l *Lab) Dir() string { return l.dir }

// NetNS returns the path of the LAN's network namespace.
func (l *Lab) NetNS() string { return network.Path(l.lan()) }

// Registry returns the registry's address inside the LAN.
func (l *Lab) Registry() string { return registryAddress().String() }

// lan is the name of the LAN's network namespace, and the beginning of those of the nodes'.
func (l *Lab) lan() string { return "caas-" + l.state.Name }

func (l *Lab) path(elem ...string) string { return filepath.Join(append([]string{l.dir}, elem...)...) }

func (l *Lab) runDir() string            { return l.path("run") }
func (l *Lab) nodeDir(n string) string   { return l.path("nodes", n) }
func (l *Lab) logFile(p string) string   { return l.path("log", p+".log") }
func (l *Lab) executable() string        { return l.path("bin", "caas-lab") }
func dnsName(cluster string) string      { return "coredns-" + cluster }
func (l *Lab) complete() bool            { return l.state.Complete }
func (l *Lab) nodesOf(p plan) []nodePlan { return p.nodes(l.state.Nodes[p.name]) }

// processes are those of the lab that are neither a control plane's nor inside a node.
func (l *Lab) processes() ([]*proc.Process, error) { return proc.All(l.runDir()) }
