// SPDX-License-Identifier: Apache-2.0

//go:build bench

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	ctrl "sigs.k8s.io/controller-runtime"

	"github.com/cloudveneto/caas/internal/bench"
	"github.com/cloudveneto/caas/internal/cli"
	"github.com/cloudveneto/caas/internal/lab"
	"github.com/cloudveneto/caas/internal/lab/offload"
	"github.com/cloudveneto/caas/internal/lab/soak"
	"github.com/cloudveneto/caas/internal/logging"
)

const description = `soak makes a lab with an offloading path to fake nodes and has it work under random load, while what is between its
processes is disturbed and they are killed: pods, Deployments, Jobs, ConfigMaps and Secrets are made, changed and
deleted. Then the faults end. Both clusters have to agree, pod by pod, and the programs to hold no more memory than they
need; otherwise it fails, and shows the seed and the history of the pods concerned.

In a run of 10 minutes or more nothing is killed in the second half, so that one can see whether memory grows.

The figures are put into --out in place of earlier ones of the same names, one JSON object a line, and printed as a
table.`

const (
	labName       = "bench-soak"
	removeTimeout = 2 * time.Minute
)

// options are the flags.
type options struct {
	out, binDir, profiles string
	duration              time.Duration
	seed                  uint64
	keep                  bool
	progress              io.Writer
}

func newCommand() *cobra.Command {
	o := &options{}
	command := &cobra.Command{
		Use:   "soak",
		Short: "Soak the offloading path",
		Long:  description,
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.progress = cmd.OutOrStdout()
			return o.run(cmd.Context())
		},
	}
	flags := command.Flags()
	flags.DurationVar(&o.duration, "duration", 30*time.Minute, "how long there are load and faults")
	flags.Uint64Var(&o.seed, "seed", 1, "what chances follow from")
	flags.StringVar(&o.out, "out", "bench/out/latest.json", "file for the figures")
	flags.StringVar(&o.binDir, "bin", os.Getenv("CAAS_BIN"), "directory of the programs; CAAS_BIN when not given")
	flags.StringVar(&o.profiles, "profiles", "", "directory to put heap and goroutine profiles into at the end")
	flags.BoolVar(&o.keep, "keep", false, "leave the lab running")
	cli.LogFlags(command)
	return command
}

// programs are those that the part looks for before it begins.
func programs() []string {
	return []string{"caas-lab", offload.Sidecar, offload.API, offload.VirtualKubelet}
}

func (o *options) run(ctx context.Context) error {
	logger := logging.From(ctx)
	logging.CaptureKlog(logger)
	ctrl.SetLogger(logging.Logr(logger))
	chosen, err := bench.Choose([]bench.Part{{Name: "soak", Programs: programs(), Run: o.soak}}, o.binDir)
	if err != nil {
		return err
	}
	report := &bench.Report{Progress: o.progress}
	return errors.Join(report.Run(ctx, chosen), report.Publish(o.out))
}

// soak makes a lab for it, and removes it.
func (o *options) soak(ctx context.Context, report *bench.Report) (err error) {
	programs, err := filepath.Abs(o.binDir)
	if err != nil {
		return fmt.Errorf("find programs: %w", err)
	}
	_, err = lab.Up(ctx, lab.Config{
		Name: labName, NoTenancy: true, Nodes: map[string]int{lab.CaaS: 0, lab.AF: 0}, Executable: filepath.Join(programs, "caas-lab"),
		Progress: func(p lab.Progress) {
			if p.Done {
				o.say("  %s (%s)", p.Step, p.Elapsed.Round(time.Millisecond))
			}
		},
	})
	if err != nil {
		return err
	}
	if !o.keep {
		defer func() {
			down, cancel := context.WithTimeout(context.WithoutCancel(ctx), removeTimeout)
			defer cancel()
			_, failure := lab.Down(down, labName, nil)
			err = errors.Join(err, failure)
		}()
	}
	l, err := lab.Open(labName)
	if err != nil {
		return err
	}
	result, err := soak.Run(ctx, soak.Config{
		Lab: l, BinDir: programs, Seed: o.seed, Duration: o.duration, Profiles: o.profiles, Say: o.say,
	})
	var failure *soak.FailureError
	if err == nil || errors.As(err, &failure) && failure.Err == nil {
		tell(report, o.duration, result, failure)
	}
	return err
}

func (o *options) say(format string, args ...any) {
	_, _ = fmt.Fprintf(o.progress, format+"\n", args...)
}

const mib = 1 << 20

// tell adds the figures of a run that came to its end. Their names have no seed: figures are compared with each other.
func tell(report *bench.Report, duration time.Duration, result *soak.Result, failure *soak.FailureError) {
	problems := 0
	if failure != nil {
		problems = len(failure.Problems)
	}
	// 30m0s is 30m.
	name := "soak, " + strings.TrimSuffix(duration.String(), "0s")
	add := func(what string, value float64, unit string) { report.Add(name+", "+what, value, unit, bench.Lower) }
	report.Add(name+", pods", float64(result.Pods), "pods", bench.Higher)
	report.Add(name+", operations", float64(total(result.Operations)), "operations", bench.Higher)
	report.Add(name+", faults in links", float64(total(result.Faults)), "faults", bench.Higher)
	report.Add(name+", kills of programs", float64(total(result.Kills)), "kills", bench.Higher)
	report.AddTarget(name+", disagreements", float64(problems), "problems", bench.Lower, 0)
	add("last fault to agreement", float64(result.Agreed.Milliseconds()), "ms")
	for _, memory := range result.Memory {
		add(memory.Program+", heap before", memory.Before.Heap/mib, "MiB")
		add(memory.Program+", heap after", memory.After.Heap/mib, "MiB")
		if memory.Steady > 0 {
			add(memory.Program+", growth of the heap", memory.Growth.Heap/mib, "MiB")
			add(memory.Program+", growth of goroutines", memory.Growth.Goroutines, "goroutines")
		}
	}
}

func total(counts map[string]int) int {
	sum := 0
	for _, count := range counts {
		sum += count
	}
	return sum
}
