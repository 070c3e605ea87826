// SPDX-License-Identifier: Apache-2.0

//go:build bench

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/cloudveneto/caas/internal/bench"
	"github.com/cloudveneto/caas/internal/cli"
	"github.com/cloudveneto/caas/internal/logging"
	"github.com/cloudveneto/caas/test/property/site"
)

const description = `tenancy measures the parts that keep users apart, each on what it needs, which is gone afterwards:

  authz      decisions of kube-mt-authz with many objects, its start, and whole requests with and without the webhooks
  admission  answers of kube-mt-admission about pods, with as many objects
  authn      answers of kube-mt-authn, beside those of a real Keystone (root)
  proxy      lists and watches through kube-mt-proxy, beside direct ones
  property   random histories of users' requests, compared with a model

The figures are put into --out in place of earlier ones of the same names, one JSON object a line, and printed as a
table. It ends well when it measured, whatever the figures.`

// part is one of the measurements.
type part struct {
	name     string
	programs []string
	run      func(ctx context.Context, o *options, report *bench.Report) error
}

func parts() []part {
	return []part{
		{"authz", []string{site.Authz, site.Admission}, runAuthz},
		{"admission", []string{site.Authz, site.Admission}, runAdmission},
		{"proxy", []string{site.Authz, site.Admission, site.Proxy}, runProxy},
		{"authn", []string{site.Authn}, runAuthn},
		{"property", []string{site.Authz, site.Admission}, runProperty},
	}
}

// options are the flags.
type options struct {
	focus            []string
	out, binDir      string
	small            bool
	objects, steps   int
	rate             int
	period           time.Duration
	tokens, requests int
	seed             uint64
	progress         io.Writer

	// filled is made by the first part that needs it.
	filled *world
}

func newCommand() *cobra.Command {
	o := &options{}
	command := &cobra.Command{
		Use:   "tenancy",
		Short: "Measure what keeps users apart",
		Long:  description,
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.progress = cmd.OutOrStdout()
			return o.run(cmd.Context())
		},
	}
	flags := command.Flags()
	flags.StringSliceVar(&o.focus, "focus", nil, "parts: authz, admission, authn, proxy, property; all without it")
	flags.StringVar(&o.out, "out", "bench/out/latest.json", "file for the figures")
	flags.StringVar(&o.binDir, "bin", os.Getenv("CAAS_BIN"), "directory of the programs; CAAS_BIN when not given")
	flags.BoolVar(&o.small, "small", false, "a fiftieth of everything, to try it; figures of that say nothing")
	flags.IntVar(&o.objects, "objects", 200_000, "authz, admission: objects in the cluster")
	flags.IntVar(&o.rate, "rate", 1000, "authz: decisions per second")
	flags.DurationVar(&o.period, "period", 30*time.Second, "authz, admission: how long to ask")
	flags.IntVar(&o.requests, "requests", 1000, "authz, proxy: whole requests of each kind")
	flags.IntVar(&o.tokens, "tokens", 400, "authn: tokens")
	flags.IntVar(&o.steps, "steps", 100_000, "property: steps")
	flags.Uint64Var(&o.seed, "seed", 1, "property: what chances follow from")
	cli.LogFlags(command)
	return command
}

const smaller = 50

func (o *options) shrink() {
	if !o.small {
		return
	}
	o.objects /= smaller
	o.requests /= smaller
	o.tokens /= smaller / 5
	o.steps /= smaller
	o.period /= 10
}

func (o *options) run(ctx context.Context) error {
	logging.CaptureKlog(logging.From(ctx))
	o.shrink()
	chosen, err := o.chosen()
	if err != nil {
		return err
	}
	report := &bench.Report{Progress: o.progress}
	var failures []error
	for _, one := range chosen {
		o.say("%s\n", one.name)
		if err := one.run(ctx, o, report); err != nil {
			failures = append(failures, fmt.Errorf("measure %s: %w", one.name, err))
		}
		if ctx.Err() != nil {
			break
		}
	}
	if o.filled != nil {
		failures = append(failures, o.filled.close())
	}
	return errors.Join(append(failures, o.publish(report))...)
}

// chosen are the parts that were asked for, if their programs are there.
func (o *options) chosen() ([]part, error) {
	all := parts()
	for _, name := range o.focus {
		if !slices.ContainsFunc(all, func(p part) bool { return p.name == name }) {
			return nil, fmt.Errorf("--focus %q: want authz, admission, authn, proxy or property", name)
		}
	}
	chosen := slices.DeleteFunc(all, func(p part) bool { return len(o.focus) > 0 && !slices.Contains(o.focus, p.name) })
	for _, one := range chosen {
		for _, program := range one.programs {
			if _, err := os.Stat(filepath.Join(o.binDir, program)); err != nil {
				return nil, fmt.Errorf("program %s: %w (run make build, and set --bin or CAAS_BIN)", program, err)
			}
		}
	}
	return chosen, nil
}

func (o *options) say(format string, args ...any) {
	_, _ = fmt.Fprintf(o.progress, format, args...)
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
