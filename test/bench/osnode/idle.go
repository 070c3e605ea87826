// SPDX-License-Identifier: Apache-2.0

//go:build bench

package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cloudveneto/caas/internal/bench"
	osnodev1 "github.com/cloudveneto/caas/osnode/api/v1"
	"github.com/cloudveneto/caas/osnode/openstack/openstacktest"
)

const (
	// appliers is how many objects are created or deleted at once.
	appliers     = 16
	runningLimit = 20 * time.Minute
	goneLimit    = 20 * time.Minute
	pollEvery    = 50 * time.Millisecond
	// quietTime lets what follows the last change come to an end.
	quietTime = 90 * time.Second
)

type idleOptions struct {
	nodes, projects int
	period          time.Duration
}

// runIdle has many nodes join, and looks at what they cost when nothing happens.
func runIdle(ctx context.Context, o *options, report *bench.Report) (err error) {
	w, err := newWorld(ctx, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	c, err := w.startCloud(ctx, cloudOptions{projects: o.idle.projects, joins: func(openstacktest.Instance) bool { return true }})
	if err != nil {
		return err
	}
	defer c.close()
	seen, err := w.watch(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, seen.close()) }()
	controller, err := w.startController(ctx, settings{provider: c.provider()})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, controller.stop(ctx)) }()
	name := fmt.Sprintf("idle, %d nodes in %d projects", o.idle.nodes, o.idle.projects)
	keys, began, err := apply(ctx, c.tenants, o.idle.nodes)
	if err != nil {
		return err
	}
	took, err := seen.awaitRunning(ctx, keys, began)
	if err != nil {
		return err
	}
	report.Add(fmt.Sprintf("%d nodes at once, stand-in without delay, all Ready", len(keys)), took.Seconds(), "s", bench.Lower)
	report.AddTarget(fmt.Sprintf("%d nodes at once, stand-in, OpenStack calls per node until Ready", len(keys)),
		float64(c.ledger.calls.Load())/float64(len(keys)), "calls", bench.Lower, 12)
	pause(ctx, quietTime)
	if err := w.idle(ctx, controller, c.ledger, name, report); err != nil {
		return err
	}
	began, err = remove(ctx, c.tenants, keys)
	if err != nil {
		return err
	}
	if took, err = seen.awaitGone(ctx, keys, began); err != nil {
		return err
	}
	report.Add(fmt.Sprintf("%d nodes at once, stand-in, all deleted", len(keys)), took.Seconds(), "s", bench.Lower)
	return nil
}

// idle looks for the period.
func (w *world) idle(ctx context.Context, controller *controller, calls *ledger, name string, report *bench.Report) error {
	period, projects := w.options.idle.period, w.options.idle.projects
	own, err := controller.metrics(ctx)
	if err != nil {
		return err
	}
	server, err := w.apiServer(ctx)
	if err != nil {
		return err
	}
	called, began := calls.calls.Load(), time.Now()
	pause(ctx, period)
	called, took := calls.calls.Load()-called, time.Since(began)
	ownAfter, err := controller.metrics(ctx)
	if err != nil {
		return err
	}
	serverAfter, err := w.apiServer(ctx)
	if err != nil {
		return err
	}
	grown := func(before, after bench.Exposition, metric string, without ...string) float64 {
		return (after.Sum(metric, nil, without) - before.Sum(metric, nil, without)) / took.Seconds()
	}
	report.AddTarget(name+", OpenStack calls", float64(called)/took.Minutes(), "calls/min", bench.Lower, 2*float64(projects))
	report.AddTarget(name+", controller's CPU", 100*grown(own, ownAfter, "process_cpu_seconds_total"), "%", bench.Lower, 5)
	report.AddTarget(name+", controller's memory", ownAfter.Sum("process_resident_memory_bytes", nil, nil)/mebibyte, "MiB", bench.Lower, 300)
	report.Add(name+", controller's API requests", grown(own, ownAfter, "rest_client_requests_total"), "requests/s", bench.Lower)
	report.Add(name+", all API requests but node leases",
		grown(server, serverAfter, "apiserver_request_total", `verb="WATCH"`, `resource="leases"`), "requests/s", bench.Lower)
	return ctx.Err()
}

// apply makes n nodes at once, divided among the tenants.
func apply(ctx context.Context, tenants []*tenant, n int) ([]types.NamespacedName, time.Time, error) {
	keys := make([]types.NamespacedName, n)
	began := time.Now()
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(appliers)
	for i := range n {
		t := tenants[i%len(tenants)]
		osn := t.node(fmt.Sprintf("osn-%d", i))
		keys[i] = client.ObjectKeyFromObject(osn)
		group.Go(func() error { return t.client.Create(ctx, osn) })
	}
	if err := group.Wait(); err != nil {
		return nil, began, fmt.Errorf("create %d nodes: %w", n, err)
	}
	return keys, began, nil
}

// remove deletes the nodes that apply made.
func remove(ctx context.Context, tenants []*tenant, keys []types.NamespacedName) (time.Time, error) {
	began := time.Now()
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(appliers)
	for i, key := range keys {
		osn := &osnodev1.OpenStackNode{}
		osn.Namespace, osn.Name = key.Namespace, key.Name
		group.Go(func() error { return tenants[i%len(tenants)].client.Delete(ctx, osn) })
	}
	if err := group.Wait(); err != nil {
		return began, fmt.Errorf("delete %d nodes: %w", len(keys), err)
	}
	return began, nil
}

// awaitRunning waits until all keys have been Running and returns how long it took.
func (s *watcher) awaitRunning(ctx context.Context, keys []types.NamespacedName, began time.Time) (time.Duration, error) {
	running := func(one sighting) bool { return !one.running.IsZero() }
	err := await(ctx, runningLimit, pollEvery, fmt.Sprintf("%d nodes to be Running", len(keys)), func() (bool, error) {
		return s.count(keys, running) == len(keys), nil
	})
	if err != nil {
		return 0, fmt.Errorf("%w; %d are, and others are %s", err, s.count(keys, running), s.states(keys))
	}
	return s.last(keys, func(one sighting) time.Time { return one.running }).Sub(began), nil
}

// awaitGone waits until all keys are gone.
func (s *watcher) awaitGone(ctx context.Context, keys []types.NamespacedName, began time.Time) (time.Duration, error) {
	gone := func(one sighting) bool { return !one.gone.IsZero() }
	err := await(ctx, goneLimit, pollEvery, fmt.Sprintf("%d nodes to be gone", len(keys)), func() (bool, error) {
		return s.count(keys, gone) == len(keys), nil
	})
	if err != nil {
		return 0, fmt.Errorf("%w; %d are, and others are %s", err, s.count(keys, gone), s.states(keys))
	}
	return s.last(keys, func(one sighting) time.Time { return one.gone }).Sub(began), nil
}

func (s *watcher) last(keys []types.NamespacedName, when func(sighting) time.Time) time.Time {
	var last time.Time
	for _, key := range keys {
		if at := when(s.of(key)); at.After(last) {
			last = at
		}
	}
	return last
}

// states says how objects are, each state once.
func (s *watcher) states(keys []types.NamespacedName) string {
	counts := map[string]int{}
	for _, key := range keys {
		one := s.of(key)
		if one.object != nil {
			counts[fmt.Sprintf("%s: %s", one.phase, one.object.Status.Description)]++
		}
	}
	return fmt.Sprint(counts)
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
