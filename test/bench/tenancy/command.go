// SPDX-License-Identifier: Apache-2.0

//go:build bench

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
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
	failures := []error{report.Run(ctx, chosen)}
	if o.filled != nil {
		failures = append(failures, o.filled.close())
	}
	return errors.Join(append(failures, report.Publish(o.out))...)
}

// chosen are the parts that were asked for, if their programs are there.
func (o *options) chosen() ([]bench.Part, error) {
	return bench.Choose(o.parts(), o.binDir, o.focus...)
}

func (o *options) parts() []bench.Part {
	part := func(name string, run func(ctx context.Context, o *options, report *bench.Report) error, programs ...string) bench.Part {
		return bench.Part{Name: name, Programs: programs, Run: func(ctx context.Context, report *bench.Report) error {
			return run(ctx, o, report)
		}}
	}
	return []bench.Part{
		part("authz", runAuthz, site.Authz, site.Admission),
		part("admission", runAdmission, site.Authz, site.Admission),
		part("proxy", runProxy, site.Authz, site.Admission, site.Proxy),
		part("authn", runAuthn, site.Authn),
		part("property", runProperty, site.Authz, site.Admission),
	}
}

func (o *options) say(format string, args ...any) {
	_, _ = fmt.Fprintf(o.progress, format, args...)
}
