// SPDX-License-Identifier: Apache-2.0

//go:build bench

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/cloudveneto/caas/internal/bench"
	"github.com/cloudveneto/caas/test/property"
	"github.com/cloudveneto/caas/test/property/site"
)

const (
	// histories are how many the steps are divided among at least, each with a seed of its own. One in so many is concurrent, and
	// every other one of these is for few names.
	histories  = 20
	concurrent = 4
)

// runProperty plays histories one after another. A history that goes wrong is told, and is no reason to end.
func runProperty(ctx context.Context, o *options, report *bench.Report) error {
	dir, err := os.MkdirTemp("", "bench-property-")
	if err != nil {
		return fmt.Errorf("make directory: %w", err)
	}
	s, err := site.Start(ctx, property.Site(dir, o.binDir))
	if err != nil {
		return errors.Join(err, os.RemoveAll(dir))
	}
	var steps, wrong int
	var elapsed time.Duration
	// Users who are after the same names do not always find what a step is about, so that a history can be shorter than asked.
	n := 0
	for ; steps < o.steps && n < 2*histories && ctx.Err() == nil; n++ {
		play, how := property.Run, "one after another"
		if n%concurrent == concurrent-1 {
			play, how = property.RunConcurrently, "at the same time"
		}
		result, err := play(ctx, s, property.Options{
			Seed: o.seed + uint64(n), Steps: min(max(o.steps/histories, 1), o.steps-steps), Crowded: n%(2*concurrent) == concurrent-1,
		})
		if err != nil {
			wrong++
			o.say("  %s: %v\n", how, err)
		}
		steps, elapsed = steps+result.Steps, elapsed+result.Elapsed
		o.say("  history %d, %s: %d steps in %s, %v\n", n+1, how, result.Steps, result.Elapsed.Round(time.Second), result.Outcomes)
	}
	report.AddTarget("property: steps", float64(steps), "", bench.Higher, float64(o.steps))
	report.AddTarget(fmt.Sprintf("property: histories that went wrong, of %d", n), float64(wrong), "", bench.Lower, 0)
	report.Add("property: rate", float64(steps)/elapsed.Seconds(), "/s", bench.Higher)
	return errors.Join(s.Close(), os.RemoveAll(dir), ctx.Err())
}
