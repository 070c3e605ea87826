// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"time"
)

// Offload measures the offloading path.
type Offload struct {
	// Origin and Direct run pods on real nodes; OriginFake and DirectFake on fake
	// nodes, where a pod costs nothing but API requests.
	Origin, Direct, OriginFake, DirectFake Side
	// Processes are the ids of the path's processes on fake nodes, by name.
	Processes map[string]int
	// Image has a shell and sleep.
	Image string
	// Bursts are the sizes of the bursts on fake nodes, Idle that of the idle
	// measurement, Status those of the status measurement.
	Bursts, Status []int
	Idle           int
	Report         *Report
	Log            io.Writer
}

// Run measures everything; an error ends it, figures measured until then stay in the report.
func (o *Offload) Run(ctx context.Context) error {
	steps := []struct {
		name string
		run  func(context.Context) error
	}{
		{"one pod on a real node, 10 times", o.onePod},
		{"20 pods at once on real nodes", o.twenty},
		{"log throughput", o.logs},
		{"bursts on fake nodes and their deletion", o.bursts},
		{"status changes", o.statuses},
		{"idle", o.idle},
	}
	for _, step := range steps {
		_, _ = fmt.Fprintf(o.Log, "  %s\n", step.name)
		if err := step.run(ctx); err != nil {
			return fmt.Errorf("measure %s: %w", step.name, err)
		}
	}
	return nil
}

// onePod alternates between the two sides, so that the machine's mood meets both.
func (o *Offload) onePod(ctx context.Context) error {
	var origin, direct []time.Duration
	for i := range 10 {
		for _, side := range []Side{o.Origin, o.Direct} {
			pause(ctx, time.Duration(rand.IntN(1500))*time.Millisecond) //nolint:gosec // spreads starts over poll periods
			took, _, err := o.burst(ctx, side, fmt.Sprintf("one-%d", i), 1)
			if err != nil {
				return err
			}
			if side.Name == o.Origin.Name {
				origin = append(origin, took)
			} else {
				direct = append(direct, took)
			}
		}
	}
	o.Report.Add("one pod, direct, created to Running, median", Percentile(direct, 50, time.Millisecond), "ms", Lower)
	o.Report.Add("one pod, offloaded, created to Running, median", Percentile(origin, 50, time.Millisecond), "ms", Lower)
	o.Report.AddTarget("one pod, offloaded beyond direct, median", Percentile(origin, 50, time.Millisecond)-Percentile(direct, 50, time.Millisecond), "ms", Lower, 150)
	o.Report.AddTarget("one pod, offloaded beyond direct, p99", Percentile(origin, 99, time.Millisecond)-Percentile(direct, 99, time.Millisecond), "ms", Lower, 500)
	return nil
}

func (o *Offload) twenty(ctx context.Context) error {
	direct, _, err := o.burst(ctx, o.Direct, "twenty", 20)
	if err != nil {
		return err
	}
	origin, _, err := o.burst(ctx, o.Origin, "twenty", 20)
	if err != nil {
		return err
	}
	o.Report.Add("20 pods, direct, all Running", milliseconds(direct), "ms", Lower)
	o.Report.Add("20 pods, offloaded, all Running", milliseconds(origin), "ms", Lower)
	o.Report.AddTarget("20 pods, offloaded to direct", float64(origin)/float64(direct), "x", Lower, 1.2)
	return nil
}

func (o *Offload) bursts(ctx context.Context) error {
	for _, n := range o.Bursts {
		direct, err := o.counted(ctx, o.DirectFake, n)
		if err != nil {
			return err
		}
		origin, err := o.counted(ctx, o.OriginFake, n)
		if err != nil {
			return err
		}
		name := fmt.Sprintf("burst of %d", n)
		o.Report.Add(name+", direct, all Running", milliseconds(direct.created), "ms", Lower)
		o.Report.AddTarget(name+", offloaded to direct", float64(origin.created)/float64(direct.created), "x", Lower, 2.5)
		o.Report.Add(name+", direct, all deleted", milliseconds(direct.deleted), "ms", Lower)
		o.Report.AddTarget(name+", deletion, offloaded to direct", float64(origin.deleted)/float64(direct.deleted), "x", Lower, 2.5)
		o.Report.AddTarget(name+", CaaS API requests per pod beyond direct", (origin.caas-direct.caas)/float64(n), "requests", Lower, 4)
		o.Report.Add(name+", origin API requests per pod", origin.origin/float64(n), "requests", Lower)
		o.Report.Add(name+", direct API requests per pod", direct.caas/float64(n), "requests", Lower)
	}
	return nil
}

// life is what the life of n pods took: times, and requests at both API servers.
type life struct {
	created, deleted time.Duration
	caas, origin     float64
}

func (o *Offload) counted(ctx context.Context, side Side, n int) (life, error) {
	var l life
	caas, err := o.DirectFake.requests(ctx)
	if err != nil {
		return l, err
	}
	origin, err := o.OriginFake.requests(ctx)
	if err != nil {
		return l, err
	}
	l.created, l.deleted, err = o.burst(ctx, side, fmt.Sprintf("burst-%d", n), n)
	if err != nil {
		return l, err
	}
	caasAfter, err := o.DirectFake.requests(ctx)
	if err != nil {
		return l, err
	}
	originAfter, err := o.OriginFake.requests(ctx)
	if err != nil {
		return l, err
	}
	l.caas, l.origin = caasAfter-caas, originAfter-origin
	return l, nil
}

// burst creates n pods, waits until all run, deletes them and waits until all
// are gone, at the side's API server and, for the origin's pods, at CaaS too.
func (o *Offload) burst(ctx context.Context, side Side, run string, n int) (created, deleted time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	seen, err := observe(ctx, side.Client, side.Namespace, labelRun+"="+run)
	if err != nil {
		return 0, 0, err
	}
	defer seen.close()
	start, err := side.create(ctx, run, o.Image, n)
	if err != nil {
		return 0, 0, err
	}
	running, err := seen.awaitRunning(ctx, n)
	if err != nil {
		return 0, 0, fmt.Errorf("%s: %w", side.Name, err)
	}
	created = running.Sub(start)
	start, err = side.remove(ctx, run, n)
	if err != nil {
		return 0, 0, err
	}
	gone, err := seen.awaitGone(ctx, n)
	if err != nil {
		return 0, 0, fmt.Errorf("%s: %w", side.Name, err)
	}
	if err := o.awaitEmpty(ctx); err != nil {
		return 0, 0, err
	}
	return created, max(gone.Sub(start), 0), nil
}

// pause waits for d or until ctx is done.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
