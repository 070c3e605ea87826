// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/cloudveneto/caas/internal/lab/proc"
)

const (
	configFile = "control-plane.json"
	// startAttempts is how often a control plane is started when somebody else takes a port that was free when chosen.
	startAttempts = 3
)

var (
	// errPortTaken is wrapped when a component could not listen.
	errPortTaken = errors.New("a port is taken")
	// errImpatient is wrapped when a component ended because the API server was not ready in time for it: ten seconds,
	// which a busy machine may need to make the first roles.
	errImpatient = errors.New("the API server took too long for it")
)

// Start starts a control plane and returns when it can be used: when its API server is ready and, with a
// controller-manager, the default ServiceAccount exists. When a component dies, the error shows the end of its log.
// On an error nothing is left running. In a directory of an earlier control plane, data, certificates and chosen ports
// are used again.
func Start(ctx context.Context, cfg Config) (*ControlPlane, error) {
	cfg, err := cfg.complete()
	if err != nil {
		return nil, err
	}
	given := cfg.Ports
	for attempt := 1; ; attempt++ {
		cfg.Ports = given
		if earlier, err := readConfig(cfg.Dir); err == nil && attempt == 1 {
			cfg.Ports = earlier.Ports
		}
		chosen, err := cfg.choosePorts(ctx)
		if err != nil {
			return nil, err
		}
		plane := &ControlPlane{cfg: cfg}
		err = plane.start(ctx)
		if err == nil {
			return plane, nil
		}
		err = errors.Join(fmt.Errorf("start control plane %q: %w", cfg.Name, err), plane.Kill())
		if !chosen || attempt == startAttempts || !errors.Is(err, errPortTaken) {
			return nil, err
		}
		if err := os.RemoveAll(cfg.Dir); err != nil {
			return nil, fmt.Errorf("clear directory of control plane: %w", err)
		}
	}
}

// Prepare writes the certificates and everything else that Start would, and starts nothing: for those who make what the
// API server is told to read, and need its CA for that. Where ports are chosen they are not known yet.
func Prepare(cfg Config) error {
	cfg, err := cfg.complete()
	if err != nil {
		return err
	}
	return (&ControlPlane{cfg: cfg}).prepare()
}

func (c *ControlPlane) start(ctx context.Context) error {
	if err := c.prepare(); err != nil {
		return err
	}
	if err := c.startComponents(ctx); err != nil {
		return err
	}
	return c.waitReady(ctx)
}

// startComponents starts all that do not run.
func (c *ControlPlane) startComponents(ctx context.Context) error {
	for _, component := range c.cfg.components() {
		if err := c.startComponent(ctx, component); err != nil {
			return err
		}
	}
	return nil
}

// startComponent starts a component unless it runs.
func (c *ControlPlane) startComponent(ctx context.Context, component string) error {
	_, err := proc.Start(ctx, c.cfg.runDir(), c.cfg.spec(component))
	if errors.Is(err, proc.ErrRunning) {
		return nil
	}
	return err
}

// prepare writes what the components read, unless an earlier start did.
func (c *ControlPlane) prepare() error {
	if err := os.MkdirAll(filepath.Join(c.cfg.Dir, "log"), 0o750); err != nil {
		return err
	}
	if _, err := os.Stat(c.Kubeconfig()); err != nil {
		if err := c.cfg.pki().create(c.cfg); err != nil {
			return err
		}
	}
	data, err := json.MarshalIndent(c.cfg, "", "  ")
	if err != nil {
		return fmt.Errorf("encode configuration: %w", err)
	}
	return os.WriteFile(filepath.Join(c.cfg.Dir, configFile), append(data, '\n'), 0o600)
}

func readConfig(dir string) (cfg Config, err error) {
	data, err := os.ReadFile(filepath.Clean(filepath.Join(dir, configFile)))
	if err != nil {
		return cfg, err
	}
	return cfg, json.Unmarshal(data, &cfg)
}

// dead returns an error that shows the end of the log of a component that does not run any more, or nil.
func (c *ControlPlane) dead() error {
	for _, component := range c.cfg.components() {
		p, err := proc.Load(c.cfg.runDir(), component)
		if err == nil && p.Alive() {
			continue
		}
		log := tail(c.cfg.logFile(component))
		err = fmt.Errorf("%s ended; the last lines of %s:\n%s", component, c.cfg.logFile(component), log)
		switch {
		case strings.Contains(log, "address already in use"):
			return fmt.Errorf("%w: %w", errPortTaken, err)
		case strings.Contains(log, "failed to wait for apiserver being healthy"):
			return fmt.Errorf("%w: %w", errImpatient, err)
		}
		return err
	}
	return nil
}

// tail returns the last lines of a file.
func tail(path string) string {
	const lines, window = 8, 8 << 10
	data, err := os.ReadFile(filepath.Clean(path))
	if err != nil {
		return err.Error()
	}
	data = data[max(0, len(data)-window):]
	all := strings.Split(strings.TrimSpace(string(data)), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
