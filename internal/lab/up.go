// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/cloudveneto/caas/internal/lab/gobuild"
)

// cleanupTimeout bounds the removal of a lab that did not come up.
const cleanupTimeout = 2 * time.Minute

// Config describes a lab.
type Config struct {
	// Name distinguishes labs on one machine.
	Name string
	// Nodes are the numbers of nodes by cluster; a cluster that is not named keeps what it has, or gets the default.
	Nodes map[string]int
	// OpenStack adds a cloud. VMs adds one whose servers are virtual machines, one of which takes a minute to boot. A lab
	// that has one keeps it.
	OpenStack, VMs bool
	// Source is the root of the source tree, from which programs and images are built; found when empty.
	Source string
	// Cache is the cache directory; found when empty.
	Cache string
	// NoTenancy leaves out the webhooks that keep tenants apart, and Keystone: for finding out what they cost. A lab keeps
	// what it was made with.
	NoTenancy bool
	// Programs is the directory of this repository's programs that the lab runs; that of Executable when empty.
	Programs string
	// Executable is the program whose commands "supervise" and "node-init" the lab runs; the running one when empty.
	Executable string
	// Keep leaves a lab that does not come up as it is, for looking at it.
	Keep bool
	// Progress, when not nil, is told how it goes.
	Progress func(Progress)
}

func defaultNodes() map[string]int { return map[string]int{CaaS: 2, AF: 1} }

func (c Config) complete() (Config, error) {
	c, locateErr := c.locate()
	var selfErr error
	if c.Executable == "" {
		c.Executable, selfErr = os.Executable()
	}
	if c.Programs == "" {
		c.Programs = filepath.Dir(c.Executable)
	}
	errs := []error{checkName(c.Name), locateErr, selfErr}
	for cluster, count := range c.Nodes {
		if _, err := planOf(cluster); err != nil {
			errs = append(errs, err)
		} else if count < 0 || count > maxNodes {
			errs = append(errs, fmt.Errorf("cluster %s cannot have %d nodes: want 0 to %d", cluster, count, maxNodes))
		}
	}
	return c, errors.Join(errs...)
}

// locate finds the source tree and the cache.
func (c Config) locate() (Config, error) {
	var sourceErr, cacheErr error
	c.Source, sourceErr = gobuild.FindSource(c.Source)
	if c.Cache == "" {
		c.Cache, cacheErr = gobuild.CacheDir()
	}
	return c, errors.Join(sourceErr, cacheErr)
}

// Up makes the lab, or whatever is missing of it, and returns when all nodes are Ready. already tells that nothing was
// missing. A new lab that does not come up is removed again, unless Keep says otherwise; one that had been up is left.
func Up(ctx context.Context, cfg Config) (already bool, err error) {
	cfg, err = cfg.complete()
	if err != nil {
		return false, err
	}
	l, err := at(cfg.Name)
	if err != nil {
		return false, err
	}
	var unlock func()
	err = runStep(ctx, cfg.Progress, "check this machine", func(ctx context.Context, detail func(string)) (err error) {
		if err := checkMachine(ctx, stateDir(), cfg.Cache); err != nil {
			return err
		}
		if err := checkCloud(cfg); err != nil {
			return err
		}
		unlock, err = lockLabs(ctx, detail)
		return err
	})
	if err != nil {
		return false, err
	}
	defer unlock()
	if already, err = l.prepare(ctx, cfg); already || err != nil {
		return already, err
	}
	hadBeenUp := l.complete()
	if !hadBeenUp {
		if err := checkWatchers("/proc", l.watchers()); err != nil {
			return false, err
		}
	}
	err = l.up(ctx, cfg)
	if err == nil || cfg.Keep || hadBeenUp {
		return false, err
	}
	cleanup, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
	defer cancel()
	return false, errors.Join(err, l.down(cleanup, cfg.Progress))
}

// prepare reads what there is of the lab and merges what is wanted into it. It tells whether nothing is to be done.
func (l *Lab) prepare(ctx context.Context, cfg Config) (already bool, err error) {
	if err := l.load(); err != nil && !errors.Is(err, os.ErrNotExist) {
		return false, err
	}
	wanted, grown, err := l.wantedNodes(cfg)
	if err != nil {
		return false, err
	}
	if l.state.OpenStack && cfg.VMs && !l.state.VMs {
		return false, errors.New("the lab has an OpenStack whose servers are not virtual machines: take the lab down first")
	}
	grown = grown || (cfg.OpenStack || cfg.VMs) && !l.state.OpenStack
	if l.complete() && !grown && l.Status(ctx).Healthy() {
		return true, nil
	}
	l.state.Nodes = wanted
	if err := l.findPrograms(cfg); err != nil {
		return false, err
	}
	if cfg.OpenStack || cfg.VMs {
		l.state.OpenStack, l.state.VMs = true, cfg.VMs || l.state.VMs
	}
	return false, nil
}

// findPrograms decides whether a new lab has tenants, and looks for the programs that those need.
func (l *Lab) findPrograms(cfg Config) (err error) {
	if l.state.HostPorts == nil {
		l.state.NoTenancy = cfg.NoTenancy
	}
	if l.state.Programs, err = filepath.Abs(cfg.Programs); err != nil {
		return fmt.Errorf("find programs: %w", err)
	}
	return l.checkPrograms()
}

// wantedNodes merges the numbers of nodes that there are with those that are asked for.
func (l *Lab) wantedNodes(cfg Config) (wanted map[string]int, grown bool, err error) {
	wanted = defaultNodes()
	for _, cluster := range l.clusters() {
		has, exists := l.state.Nodes[cluster.Name]
		wants, given := cfg.Nodes[cluster.Name]
		switch {
		case !given && exists:
			wants = has
		case !given:
			wants = wanted[cluster.Name]
		case exists && wants < has:
			return nil, false, fmt.Errorf("cluster %s has %d nodes and cannot shrink to %d: take the lab down first", cluster.Name, has, wants)
		}
		wanted[cluster.Name] = wants
		grown = grown || wants != has || !exists
	}
	return wanted, grown, nil
}

type upStep struct {
	name string
	do   func(ctx context.Context, detail func(string)) error
}

// up runs all steps; each finds out by itself what there is to do.
func (l *Lab) up(ctx context.Context, cfg Config) error {
	steps := []upStep{
		{"build programs", func(ctx context.Context, detail func(string)) error { return l.buildPrograms(ctx, cfg, detail) }},
		{"build images", func(ctx context.Context, detail func(string)) error { return l.buildImages(ctx, cfg, detail) }},
		{"make the network", l.makeNetwork},
		{"start control planes", func(ctx context.Context, detail func(string)) error { return l.startControlPlanes(ctx, cfg, detail) }},
		{"start services", l.startServices},
		{"start " + l.countNodes() + " nodes", l.startNodes},
	}
	if l.state.OpenStack {
		steps = append(steps,
			upStep{"build the node image", func(ctx context.Context, detail func(string)) error { return l.buildNodeImage(ctx, cfg, detail) }},
			upStep{"start OpenStack", func(ctx context.Context, detail func(string)) error { return l.startOpenStack(ctx, cfg, detail) }},
		)
	}
	for _, step := range steps {
		if err := runStep(ctx, cfg.Progress, step.name, step.do); err != nil {
			return fmt.Errorf("%s: %w", step.name, err)
		}
	}
	l.state.Complete = true
	return l.save()
}

func (l *Lab) countNodes() string {
	sum := 0
	for _, count := range l.state.Nodes {
		sum += count
	}
	return strconv.Itoa(sum)
}

// installExecutable keeps a copy of the program that the lab's own processes run, so that they, and what they start
// anew, do not depend on a file which somebody may build again or remove.
func (l *Lab) installExecutable(from string) error {
	data, err := os.ReadFile(filepath.Clean(from))
	if err != nil {
		return fmt.Errorf("install executable: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(l.executable()), 0o750); err != nil {
		return fmt.Errorf("install executable: %w", err)
	}
	tmp := l.executable() + ".new"                         // the old one may be running, and cannot be written to
	if err := os.WriteFile(tmp, data, 0o700); err != nil { //nolint:gosec // it is a program
		return fmt.Errorf("install executable: %w", err)
	}
	if err := os.Rename(tmp, l.executable()); err != nil {
		return fmt.Errorf("install executable: %w", err)
	}
	return nil
}
