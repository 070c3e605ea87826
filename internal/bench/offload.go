// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Offload measures the offloading path.
type Offload struct {
	// Origin and Direct run pods on real nodes; OriginFake and DirectFake on fake
	// nodes, where a pod costs nothing but API requests.
	Origin, Direct, OriginFake, DirectFake Side
	// Real and Fake are the programs of the path to the real nodes, and of that to the fake ones.
	Real, Fake []Program
	// Profiler asks them what they are doing.
	Profiler Profiler
	// Image has a shell and sleep.
	Image string
	// Bursts are the sizes of the bursts on fake nodes, Workers how many the waves
	// rise to, Idle is the size of the idle measurement, Status are those of the status measurement.
	Bursts, Status []int
	Workers, Idle  int
	Report         *Report
	Log            io.Writer
}

// Scenario is one of the measurements.
type Scenario struct {
	// Name is what it is picked by, About says what it does.
	Name, About string

	run func(*Offload, context.Context) error
	// real tells that its pods run on real nodes.
	real bool
}

// Scenarios are all measurements, in the order in which they are made.
func Scenarios() []Scenario {
	return []Scenario{
		{"one", "one pod on a real node, ten times, in turns with one that is made directly", (*Offload).onePod, true},
		{"twenty", "20 pods at once on real nodes", (*Offload).twenty, true},
		{"logs", "throughput of a log of 8 MB", (*Offload).logs, true},
		{"bursts", "many pods created at once on fake nodes, and deleted (--bursts)", (*Offload).bursts, false},
		{"waves", "dask workers, a Deployment each, in waves every 5 s up to --workers and down again", (*Offload).waves, false},
		{"status", "from a change of status to the sight of it, among many pods (--status)", (*Offload).statuses, false},
		{"idle", "what many pods cost to which nothing happens (--idle): processor, memory, requests", (*Offload).idle, false},
	}
}

// Pick returns the scenarios of the names, in the order in which they are made; all of them without names.
func Pick(names ...string) ([]Scenario, error) {
	all := Scenarios()
	if len(names) == 0 {
		return all, nil
	}
	known := make([]string, len(all))
	for i, scenario := range all {
		known[i] = scenario.Name
	}
	for _, name := range names {
		if !slices.Contains(known, name) {
			return nil, fmt.Errorf("no scenario %q: there are %s", name, strings.Join(known, ", "))
		}
	}
	return slices.DeleteFunc(all, func(scenario Scenario) bool { return !slices.Contains(names, scenario.Name) }), nil
}

// Run measures one scenario after the other, also after one that fails if its pods can be removed. Figures measured
// until then stay in the report.
func (o *Offload) Run(ctx context.Context, scenarios []Scenario) error {
	var failures []error
	for _, scenario := range scenarios {
		_, _ = fmt.Fprintf(o.Log, "  %s: %s\n", scenario.Name, scenario.About)
		programs := o.Fake
		if scenario.real {
			programs = o.Real
		}
		err := o.Profiler.during(ctx, scenario.Name, programs, func(ctx context.Context) error { return scenario.run(o, ctx) })
		if err == nil {
			continue
		}
		failures = append(failures, fmt.Errorf("measure %s: %w", scenario.Name, err))
		if err := o.clear(ctx); err != nil {
			return errors.Join(append(failures, err)...)
		}
	}
	return errors.Join(failures...)
}

// clear removes what a scenario left when it failed.
func (o *Offload) clear(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	ours := metav1.ListOptions{LabelSelector: labelRun}
	for _, side := range []Side{o.OriginFake, o.DirectFake} {
		err := errors.Join(
			side.Client.AppsV1().Deployments(side.Namespace).DeleteCollection(ctx, metav1.DeleteOptions{}, ours),
			side.Client.CoreV1().Pods(side.Namespace).DeleteCollection(ctx, metav1.DeleteOptions{}, ours),
		)
		if err != nil {
			return fmt.Errorf("remove what is left of a measurement (%s): %w", side.Name, err)
		}
		for {
			pods, err := side.Client.CoreV1().Pods(side.Namespace).List(ctx, ours)
			if err != nil {
				return fmt.Errorf("remove what is left of a measurement (%s): %w", side.Name, err)
			}
			if len(pods.Items) == 0 {
				break
			}
			pause(ctx, 200*time.Millisecond)
		}
	}
	return o.awaitEmpty(ctx)
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

// pause waits for d or until ctx is done.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
