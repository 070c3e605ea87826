// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/cloudveneto/caas/internal/lab/network"
	"github.com/cloudveneto/caas/internal/lab/node"
	"github.com/cloudveneto/caas/internal/lab/proc"
)

// stopGrace is how long a lab's own processes may take to end; clusters are killed.
const stopGrace = 2 * time.Second

// Down ends and removes everything of a lab, whatever state it is in, and whatever of it is left. It is no error if there
// is none; existed tells.
func Down(ctx context.Context, name string, progress func(Progress)) (existed bool, err error) {
	l, err := at(name)
	if err != nil {
		return false, err
	}
	if os.Geteuid() != 0 {
		return false, errors.New("only root can take a lab down")
	}
	unlock, err := lockLabs(ctx, func(string) {})
	if err != nil {
		return false, err
	}
	defer unlock()
	namespaces, err := l.namespaces()
	if err != nil {
		return false, err
	}
	existed = exists(l.dir) || len(namespaces) > 0
	return existed, l.down(ctx, progress)
}

// down goes on after an error as far as it can.
func (l *Lab) down(ctx context.Context, progress func(Progress)) error {
	var errs []error
	for _, step := range []struct {
		name string
		do   func(ctx context.Context) error
	}{
		{"stop OpenStack", l.stopOpenStack},
		{"stop nodes and processes", l.stopProcesses},
		{"stop control planes", l.stopControlPlanes},
		{"remove the network", l.removeNetwork},
		{"remove files", l.removeFiles},
	} {
		errs = append(errs, runStep(ctx, progress, step.name, func(ctx context.Context, _ func(string)) error { return step.do(ctx) }))
	}
	return errors.Join(errs...)
}

// stopProcesses ends the nodes, all at once, and what else was started in the lab.
func (l *Lab) stopProcesses(ctx context.Context) error {
	names, err := l.nodeNames()
	if err != nil {
		return err
	}
	var group errgroup.Group
	for _, name := range names {
		group.Go(func() error {
			return node.Stop(ctx, node.Removal{Lab: l.Name(), Name: name, Dir: l.nodeDir(name), RunDir: l.runDir()})
		})
	}
	nodesErr := group.Wait()
	processes, err := l.processes()
	if err != nil {
		return errors.Join(nodesErr, err)
	}
	for _, process := range processes {
		group.Go(func() error { return process.Stop(ctx, stopGrace) })
	}
	return errors.Join(nodesErr, group.Wait())
}

// nodeNames are the nodes of which anything is left: a directory or a network namespace.
func (l *Lab) nodeNames() ([]string, error) {
	namespaces, err := l.namespaces()
	if err != nil {
		return nil, err
	}
	var names []string
	for _, namespace := range namespaces {
		if name, isNode := strings.CutPrefix(namespace, l.lan()+"-"); isNode && !isMachine(name) {
			names = append(names, name)
		}
	}
	entries, err := os.ReadDir(l.path("nodes"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list nodes: %w", err)
	}
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// namespaces are the lab's network namespaces: the LAN's, and those of nodes and machines. Another lab's name may begin
// with this one's, so what follows must be the name of a node or a machine.
func (l *Lab) namespaces() ([]string, error) {
	entries, err := os.ReadDir(filepath.Dir(l.NetNS()))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list network namespaces: %w", err)
	}
	own := map[string]bool{l.lan(): true}
	for _, p := range plans() {
		for _, n := range p.nodes(maxNodes) {
			own[l.lan()+"-"+n.name] = true
		}
	}
	var names []string
	for _, entry := range entries {
		rest, behind := strings.CutPrefix(entry.Name(), l.lan()+"-")
		if own[entry.Name()] || behind && isMachine(rest) {
			names = append(names, entry.Name())
		}
	}
	return names, nil
}

func (l *Lab) stopControlPlanes(context.Context) error {
	var errs []error
	for _, cluster := range l.clusters() {
		processes, err := proc.All(cluster.dir("run"))
		errs = append(errs, err)
		for _, process := range processes {
			errs = append(errs, process.Kill())
		}
	}
	return errors.Join(errs...)
}

// removeNetwork ends what still runs in the lab's network namespaces, started by whomever, and removes them. It also ends
// a supervisor whose record is lost.
func (l *Lab) removeNetwork(ctx context.Context) error {
	namespaces, err := l.namespaces()
	if err != nil {
		return err
	}
	errs := []error{killAll(ctx, runsProgram(l.executable()))}
	for _, namespace := range namespaces {
		errs = append(errs, killAll(ctx, inNamespace(network.Path(namespace))), network.Delete(ctx, namespace))
	}
	return errors.Join(errs...)
}

func (l *Lab) removeFiles(context.Context) error {
	if err := os.RemoveAll(l.dir); err != nil {
		return fmt.Errorf("remove files of lab: %w", err)
	}
	return nil
}
