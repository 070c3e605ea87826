// SPDX-License-Identifier: Apache-2.0

//go:build bench

package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	ctrl "sigs.k8s.io/controller-runtime"

	"github.com/cloudveneto/caas/internal/bench"
	"github.com/cloudveneto/caas/internal/cli"
	"github.com/cloudveneto/caas/internal/logging"
)

const description = `osnode measures OpenStackNodes, each part on a control plane of its own that is gone afterwards:

  nova      many nodes at once on the lab's real OpenStack, beside the same number of bare servers (root)
  cycles    nodes made and deleted while OpenStack misbehaves and the controller is killed
  scale     how soon a pool decides on a node for a pod that cannot be scheduled
  idle      what hundreds of nodes cost while nothing happens

The figures are put into --out in place of earlier ones of the same names, one JSON object a line, and printed as a
table. It ends well when it measured, whatever the figures.`

// part is one of the measurements.
type part struct {
	name string
	run  func(ctx context.Context, o *options, report *bench.Report) error
}

// options are the flags.
type options struct {
	focus, out, binDir, keepLogs string
	progress                     io.Writer

	nova   novaOptions
	cycles cyclesOptions
	scale  scaleOptions
	idle   idleOptions
}

func newCommand() *cobra.Command {
	o := &options{}
	command := &cobra.Command{
		Use:   "osnode",
		Short: "Measure OpenStackNodes",
		Long:  description,
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.progress = cmd.OutOrStdout()
			return o.run(cmd.Context())
		},
	}
	flags := command.Flags()
	flags.StringVar(&o.focus, "focus", "", "one part: nova, cycles, scale or idle; empty for all")
	flags.StringVar(&o.out, "out", "bench/out/latest.json", "file for the figures")
	flags.StringVar(&o.binDir, "bin", os.Getenv("CAAS_BIN"), "directory of osnode-controller; CAAS_BIN when not given")
	flags.StringVar(&o.keepLogs, "keep-logs", "", "directory to put the logs into at the end")
	flags.IntVar(&o.nova.nodes, "nova-nodes", 200, "nova: nodes")
	flags.IntVar(&o.nova.projects, "nova-projects", 4, "nova: projects that the nodes are divided among")
	flags.IntVar(&o.nova.parallel, "nova-parallel", 20, "nova: requests at once for the bare servers; what the controller has")
	flags.IntVar(&o.cycles.cycles, "cycles", 10_000, "cycles: nodes to make and delete")
	flags.IntVar(&o.cycles.wave, "wave", 100, "cycles: nodes of a wave")
	flags.IntVar(&o.cycles.waves, "waves", 2, "cycles: waves at a time")
	flags.IntVar(&o.cycles.projects, "cycles-projects", 10, "cycles: projects")
	flags.Uint64Var(&o.cycles.seed, "seed", 1, "cycles: what chances follow from")
	flags.DurationVar(&o.cycles.crash, "crash", 30*time.Second, "cycles: mean time between crashes at any time; as many again follow a request for a server")
	flags.IntVar(&o.scale.pools, "scale-pools", 10, "scale: pools, each in a project of its own")
	flags.IntVar(&o.scale.rounds, "scale-rounds", 4, "scale: pods for each pool, one after another")
	flags.IntVar(&o.idle.nodes, "idle-nodes", 500, "idle: nodes")
	flags.IntVar(&o.idle.projects, "idle-projects", 20, "idle: projects that the nodes are divided among")
	flags.DurationVar(&o.idle.period, "idle-period", 5*time.Minute, "idle: how long to look")
	cli.LogFlags(command)
	return command
}

func (o *options) run(ctx context.Context) error {
	logger := logging.From(ctx)
	logging.CaptureKlog(logger)
	ctrl.SetLogger(logging.Logr(logger))
	if _, err := os.Stat(filepath.Join(o.binDir, controllerName)); err != nil {
		return fmt.Errorf("program %s: %w (run make build, and set --bin or CAAS_BIN)", controllerName, err)
	}
	parts := []part{{"scale", runScale}, {"idle", runIdle}, {"nova", runNova}, {"cycles", runCycles}}
	if o.focus != "" {
		parts = slices.DeleteFunc(parts, func(p part) bool { return p.name != o.focus })
	}
	if len(parts) == 0 {
		return fmt.Errorf("--focus %q: want nova, cycles, scale or idle", o.focus)
	}
	report := &bench.Report{Progress: o.progress}
	var failures []error
	for _, one := range parts {
		o.say("%s\n", one.name)
		if err := one.run(ctx, o, report); err != nil {
			failures = append(failures, fmt.Errorf("measure %s: %w", one.name, err))
		}
		if ctx.Err() != nil {
			break
		}
	}
	return errors.Join(append(failures, o.publish(report))...)
}

func (o *options) say(format string, args ...any) {
	_, _ = fmt.Fprintf(o.progress, format, args...)
}

// breakdown prints what a figure is made of, for each of n, the greatest part first.
func (o *options) breakdown(what string, parts map[string]float64, n float64) {
	const least = 0.005
	o.say("      %s:\n", what)
	for _, kind := range slices.SortedFunc(maps.Keys(parts), func(a, b string) int { return cmp.Compare(parts[b], parts[a]) }) {
		if each := parts[kind] / n; each >= least {
			o.say("      %8.2f  %s\n", each, kind)
		}
	}
}

// publish puts the figures into the file and prints them.
func (o *options) publish(report *bench.Report) error {
	if len(report.Figures) == 0 {
		return nil
	}
	known, err := figures(o.out)
	if err != nil {
		return err
	}
	all := &bench.Report{Figures: append(slices.DeleteFunc(known, func(old bench.Figure) bool {
		return slices.ContainsFunc(report.Figures, func(figure bench.Figure) bool { return figure.Name == old.Name })
	}), report.Figures...)}
	if err := all.WriteJSON(o.out); err != nil {
		return err
	}
	o.say("\n")
	if err := report.WriteTable(o.progress); err != nil {
		return err
	}
	o.say("\nwritten to %s\n", o.out)
	return nil
}

// figures are those in the file; none if there is no file.
func figures(path string) ([]bench.Figure, error) {
	content, err := os.ReadFile(filepath.Clean(path))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read figures: %w", err)
	}
	var all []bench.Figure
	lines := bufio.NewScanner(bytes.NewReader(content))
	for lines.Scan() {
		if strings.TrimSpace(lines.Text()) == "" {
			continue
		}
		var figure bench.Figure
		if err := json.Unmarshal(lines.Bytes(), &figure); err != nil {
			return nil, fmt.Errorf("read figures from %s: %w", path, err)
		}
		all = append(all, figure)
	}
	return all, lines.Err()
}
