// SPDX-License-Identifier: Apache-2.0

package offload

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/cloudveneto/caas/internal/lab"
	"github.com/cloudveneto/caas/internal/lab/proc"
)

// The three processes of a path, in the order in which they are started.
const (
	Sidecar        = "interlink-sidecar"
	API            = "interlink-api"
	VirtualKubelet = "virtual-kubelet"
)

// Config describes a path.
type Config struct {
	Lab *lab.Lab
	// BinDir holds the three programs, and kubectl-openstack, with which the sidecar logs in.
	BinDir string
	// Node is the virtual node's name, and the path's.
	Node string
	// Index tells the ports of several paths in one lab apart, from 0 to 9.
	Index int
	// RemoteNamespace is where offloaded pods run on the caas cluster; it is made when absent. In a lab with tenants it
	// becomes one of the project CMS, whose member the sidecar's user is.
	RemoteNamespace string
	// NodeSelector and Tolerations place offloaded pods on some of the caas cluster's nodes.
	NodeSelector map[string]string
	Tolerations  []corev1.Toleration
	// Detour has each process call the next at an address of Links, where somebody MUST stand between the two.
	Detour bool
	// Pprof has the three processes serve profiles at their operations ports.
	Pprof bool
}

// Path is an offloading path whose files are written.
type Path struct {
	Config
	dir string
}

// New writes a path's certificates and configuration files and makes what it
// needs in both clusters. Nothing runs yet.
func New(ctx context.Context, config Config) (*Path, error) {
	programs, err := filepath.Abs(config.BinDir)
	if err != nil {
		return nil, fmt.Errorf("offloading path: %w", err)
	}
	config.BinDir = programs
	p := &Path{Config: config, dir: filepath.Join(config.Lab.Dir(), "offload", config.Node)}
	for _, name := range p.programs() {
		if _, err := os.Stat(filepath.Join(config.BinDir, name)); err != nil {
			return nil, fmt.Errorf("offloading path: program %s: %w (run make build)", name, err)
		}
	}
	if err := os.MkdirAll(p.dir, 0o700); err != nil {
		return nil, fmt.Errorf("offloading path: %w", err)
	}
	for _, step := range []func(context.Context) error{p.prepareCaaS, p.prepareOrigin, p.writeCertificates, p.writeConfigs} {
		if err := step(ctx); err != nil {
			return nil, fmt.Errorf("offloading path: %w", err)
		}
	}
	return p, nil
}

// Components names the three processes, in the order in which they are started.
func (p *Path) Components() []string { return []string{Sidecar, API, VirtualKubelet} }

func (p *Path) programs() []string {
	if p.Lab.Tenancy() {
		return append(p.Components(), loginProgram)
	}
	return p.Components()
}

// StartAll starts what does not run yet.
func (p *Path) StartAll(ctx context.Context) error {
	for _, name := range p.Components() {
		if err := p.Start(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

// Start starts one process unless it runs.
func (p *Path) Start(ctx context.Context, component string) error {
	if running, err := p.Lab.Process(p.process(component)); err == nil && running.Alive() {
		return nil
	}
	_, err := p.Lab.Start(ctx, p.spec(component))
	return err
}

// Kill ends one process with SIGKILL, as a crash or an out-of-memory kill does.
func (p *Path) Kill(_ context.Context, component string) error {
	running, err := p.Lab.Process(p.process(component))
	if err != nil {
		return fmt.Errorf("kill %s: %w", component, err)
	}
	return running.Kill()
}

// StopAll stops the three processes in good order.
func (p *Path) StopAll(ctx context.Context) error {
	var failures error
	names := p.Components()
	for i := range names {
		running, err := p.Lab.Process(p.process(names[len(names)-1-i]))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err == nil {
			err = running.Stop(ctx, 10*time.Second)
		}
		failures = errors.Join(failures, err)
	}
	return failures
}

// PIDs are the ids of the three processes by name.
func (p *Path) PIDs() (map[string]int, error) {
	pids := make(map[string]int, len(p.Components()))
	for _, name := range p.Components() {
		running, err := p.Lab.Process(p.process(name))
		if err != nil {
			return nil, fmt.Errorf("find %s: %w", name, err)
		}
		pids[name] = running.PID()
	}
	return pids, nil
}

// Dir is the directory with the path's files, which is the sidecar's home.
func (p *Path) Dir() string { return p.dir }

// process is the name of a component's process in the lab.
func (p *Path) process(component string) string { return component + "-" + p.Node }

func (p *Path) file(elem ...string) string {
	return filepath.Join(append([]string{p.dir}, elem...)...)
}

func (p *Path) spec(component string) proc.Spec {
	spec := proc.Spec{Name: p.process(component), Path: filepath.Join(p.BinDir, component)}
	switch component {
	case Sidecar:
		spec.Args = []string{"--config=" + p.file("sidecar.yaml")}
		spec.Env = []string{"HOME=" + p.dir, "XDG_CACHE_HOME=" + p.file("cache"), "XDG_CONFIG_HOME=" + p.dir}
	case API:
		spec.Args = []string{"--config=" + p.file("api.yaml")}
	case VirtualKubelet:
		spec.Args = []string{"--nodename=" + p.Node, "--configpath=" + p.file("virtual-kubelet.yaml")}
		spec.Env = []string{
			"KUBECONFIG=" + p.file("origin.kubeconfig"), "POD_IP=" + address,
			"KUBELET_URL=" + address, fmt.Sprintf("KUBELET_PORT=%d", p.kubeletPort()),
		}
	}
	if p.Pprof {
		spec.Args = append(spec.Args, "--pprof")
	}
	return spec
}

// Process is one of the three processes.
func (p *Path) Process(component string) (*proc.Process, error) {
	return p.Lab.Process(p.process(component))
}
