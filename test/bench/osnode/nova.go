// SPDX-License-Identifier: Apache-2.0

//go:build bench

package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/cloudveneto/caas/internal/bench"
	"github.com/cloudveneto/caas/internal/lab/hypervisor"
	"github.com/cloudveneto/caas/internal/lab/network"
	"github.com/cloudveneto/caas/internal/lab/openstack"
	"github.com/cloudveneto/caas/osnode/openstack/openstacktest"
)

const (
	lanName     = "caas-bench-osnode"
	siteTimeout = time.Minute
)

type novaOptions struct{ nodes, projects, parallel int }

// machines is the hypervisor: servers join as soon as they are switched on. It notes when.
type machines struct {
	hypervisor.Driver

	mu     sync.Mutex // guards booted
	booted map[string]time.Time
}

// Spawn implements hypervisor.Driver.
func (m *machines) Spawn(ctx context.Context, server hypervisor.Server) error {
	m.mu.Lock()
	m.booted[server.UUID] = time.Now()
	m.mu.Unlock()
	return m.Driver.Spawn(ctx, server)
}

func (m *machines) at(id string) time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.booted[id]
}

// genuine is the lab's OpenStack with a recording proxy for the controller.
type genuine struct {
	*world

	site     *openstack.Site
	machines *machines
	calls    *openstacktest.Faults
	proxy    *openstacktest.Proxy
	tenants  []*tenant
	trusts   []string
	stop     []func(context.Context) error
}

func runNova(ctx context.Context, o *options, report *bench.Report) (err error) {
	w, err := newWorld(ctx, o)
	if err != nil {
		return err
	}
	r := &genuine{world: w, machines: &machines{Driver: w.joiner, booted: map[string]time.Time{}}, calls: openstacktest.NewFaults(1)}
	defer func() { err = errors.Join(err, r.end(ctx)) }()
	if err := r.begin(ctx); err != nil {
		return err
	}
	o.say("  bare servers\n")
	alone, err := r.bare(ctx, o.nova.nodes, report)
	if err != nil {
		return err
	}
	o.say("  nodes\n")
	return r.nodes(ctx, o.nova.nodes, alone, report)
}

// begin starts OpenStack in a network namespace of its own, and the hypervisor.
func (r *genuine) begin(ctx context.Context) error {
	lan := network.Config{Name: lanName, Extra: append(openstack.Gateways(), netip.MustParsePrefix("10.88.0.5/32"))}
	r.stop = append(r.stop, func(ctx context.Context) error { return network.Delete(ctx, lanName) })
	if err := network.Create(ctx, lan); err != nil {
		return err
	}
	socket := filepath.Join(r.dir, "hypervisor.sock")
	serving, stop := context.WithCancel(context.WithoutCancel(ctx))
	var group errgroup.Group
	group.Go(func() error { return hypervisor.Serve(serving, socket, r.machines) })
	r.stop = append(r.stop, func(context.Context) error { stop(); return group.Wait() })
	site, err := openstack.Start(ctx, openstack.Config{
		Dir: filepath.Join(r.dir, "openstack"), NetNS: network.Path(lanName), HypervisorSocket: socket, EndWithStarter: true,
	})
	if err != nil {
		return err
	}
	r.site = site
	r.stop = append(r.stop, site.Stop)
	transport := site.Transport()
	r.proxy, err = openstacktest.StartProxy(ctx, openstacktest.ProxyConfig{Upstream: site.AuthURL(), Faults: r.calls, Transport: transport})
	if err != nil {
		return err
	}
	r.stop = append(r.stop, func(context.Context) error { r.proxy.Close(); transport.CloseIdleConnections(); return nil })
	return r.furnish(ctx)
}

// furnish makes the projects, each with a user who has let the platform act for him.
func (r *genuine) furnish(ctx context.Context) error {
	for i := range r.options.nova.projects {
		t := newTenant(i)
		user, err := r.site.AddUser(ctx, t.userName)
		if err != nil {
			return err
		}
		project, err := r.site.AddProject(ctx, t.projectName, openstack.Quota{}, t.userName)
		if err != nil {
			return err
		}
		t.projectID, t.userID = project.ID, user.ID
		if err := r.site.AddKeyPair(ctx, t.userName, t.projectName, t.key); err != nil {
			return err
		}
		trust, err := r.site.Trust(ctx, t.userName, t.projectName)
		if err != nil {
			return err
		}
		if err := r.admit(ctx, t); err != nil {
			return err
		}
		r.tenants, r.trusts = append(r.tenants, t), append(r.trusts, trust)
	}
	return nil
}

// end stops everything in the opposite order.
func (r *genuine) end(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), siteTimeout)
	defer cancel()
	var errs []error
	for _, stop := range slices.Backward(r.stop) {
		errs = append(errs, stop(ctx))
	}
	return errors.Join(append(errs, r.close())...)
}

// nodes has the controller make nodes, and delete them.
func (r *genuine) nodes(ctx context.Context, n int, alone outcome, report *bench.Report) (err error) {
	seen, err := r.watch(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, seen.close()) }()
	controller, err := r.startController(ctx, settings{
		provider: provider(r.proxy.AuthURL(), r.site.PasswordFile(openstack.ServiceUser), openstack.ImageAlmaLinux),
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, controller.stop(ctx)) }()
	before, err := r.leftovers(ctx)
	if err != nil {
		return err
	}
	r.calls.Forget()
	keys, began, err := apply(ctx, r.tenants, n)
	if err != nil {
		return err
	}
	took, err := seen.awaitRunning(ctx, keys, began)
	if err != nil {
		return err
	}
	calls := r.calls.Calls()
	var life, built, joined []time.Duration
	for _, key := range keys {
		one := seen.of(key)
		booted := r.machines.at(one.server)
		life, built, joined = append(life, one.running.Sub(one.made)), append(built, booted.Sub(one.made)), append(joined, one.running.Sub(booted))
	}
	name := fmt.Sprintf("%d nodes at once", n)
	report.Add(name+", all Ready", took.Seconds(), "s", bench.Lower)
	report.Add(name+", to bare servers", took.Seconds()/alone.made.Seconds(), "x", bench.Lower)
	report.Add(name+", made to Running, median", bench.Percentile(life, 50, time.Second), "s", bench.Lower)
	report.Add(name+", made to Running, p95", bench.Percentile(life, 95, time.Second), "s", bench.Lower)
	report.Add(name+", made to switched on, median", bench.Percentile(built, 50, time.Second), "s", bench.Lower)
	report.Add(name+", made to switched on, p95", bench.Percentile(built, 95, time.Second), "s", bench.Lower)
	report.Add(name+", switched on to Running, median", bench.Percentile(joined, 50, time.Second), "s", bench.Lower)
	report.Add(name+", switched on to Running, p95", bench.Percentile(joined, 95, time.Second), "s", bench.Lower)
	report.AddTarget(name+", OpenStack calls per node until Ready", float64(len(calls))/float64(n), "calls", bench.Lower, 12)
	if err := r.share(ctx, controller, name, n, report); err != nil {
		return err
	}
	r.calls.Forget()
	if began, err = remove(ctx, r.tenants, keys); err != nil {
		return err
	}
	if took, err = seen.awaitGone(ctx, keys, began); err != nil {
		return err
	}
	ending := r.calls.Calls()
	report.Add(name+", all deleted", took.Seconds(), "s", bench.Lower)
	report.Add(name+", deletion to bare servers", took.Seconds()/alone.deleted.Seconds(), "x", bench.Lower)
	after, err := r.leftovers(ctx)
	report.AddTarget(name+", left behind", float64(after-before), "objects", bench.Lower, 0)
	r.options.breakdown("OpenStack calls until Ready", kinds(calls), float64(n))
	r.options.breakdown("OpenStack calls of the deletion", kinds(ending), float64(n))
	return err
}

// share is what the controller itself says and has used.
func (r *genuine) share(ctx context.Context, controller *controller, name string, n int, report *bench.Report) error {
	own, err := controller.metrics(ctx)
	if err != nil {
		return err
	}
	peak, err := controller.peak()
	if err != nil {
		return err
	}
	const share = "osn_controller_overhead_seconds"
	report.Add(name+", controller's own share, median", own.Quantile(share, "", 0.5), "s", bench.Lower)
	report.AddTarget(name+", controller's own share, p95", own.Quantile(share, "", 0.95), "s", bench.Lower, 5)
	report.Add(name+", controller's CPU per node", 1000*own.Sum("process_cpu_seconds_total", nil, nil)/float64(n), "ms", bench.Lower)
	report.AddTarget(name+", controller's peak memory", peak/mebibyte, "MiB", bench.Lower, 300)
	return nil
}

// kinds counts calls of one kind.
func kinds(calls []openstacktest.Call) map[string]float64 {
	counts := map[string]float64{}
	for _, call := range calls {
		counts[call.Method+" "+shortPath(call.Path)]++
	}
	return counts
}
