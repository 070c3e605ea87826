// SPDX-License-Identifier: Apache-2.0

//go:build bench

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
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
	var focus []string
	if o.focus != "" {
		focus = append(focus, o.focus)
	}
	chosen, err := bench.Choose(o.parts(), o.binDir, focus...)
	if err != nil {
		return err
	}
	report := &bench.Report{Progress: o.progress}
	return errors.Join(report.Run(ctx, chosen), report.Publish(o.out))
}

func (o *options) parts() []bench.Part {
	part := func(name string, run func(ctx context.Context, o *options, report *bench.Report) error) bench.Part {
		return bench.Part{Name: name, Programs: []string{controllerName}, Run: func(ctx context.Context, report *bench.Report) error {
			return run(ctx, o, report)
		}}
	}
	return []bench.Part{part("scale", runScale), part("idle", runIdle), part("nova", runNova), part("cycles", runCycles)}
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
