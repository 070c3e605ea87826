// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"fmt"
	"time"
)

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
		o.reportBurst(n, direct, origin)
	}
	return nil
}

// byUser is how many requests the user of a pod that runs directly sends in its life: its creation and its deletion. They are
// in the direct figures, and the sidecar's are in their place in those of the offloaded pod.
const byUser = 2

func (o *Offload) reportBurst(n int, direct, origin life) {
	name, pods := fmt.Sprintf("burst of %d", n), float64(n)
	o.Report.Add(name+", direct, all Running", milliseconds(direct.created), "ms", Lower)
	o.Report.AddTarget(name+", offloaded to direct", float64(origin.created)/float64(direct.created), "x", Lower, 2.5)
	o.Report.Add(name+", direct, all deleted", milliseconds(direct.deleted), "ms", Lower)
	o.Report.AddTarget(name+", deletion, offloaded to direct", float64(origin.deleted)/float64(direct.deleted), "x", Lower, 2.5)
	beyond := (origin.caas.total() - direct.caas.total()) / pods
	o.Report.Add(name+", CaaS API requests per pod beyond direct", beyond, "requests", Lower)
	o.Report.AddTarget(name+", CaaS API requests that a pod's life causes", beyond+byUser, "requests", Lower, 4)
	o.Report.AddTarget(name+", CaaS API reads of pods that a pod's life causes", max((origin.caas.reads()-direct.caas.reads())/pods, 0), "requests", Lower, 0.05)
	o.Report.Add(name+", origin API requests per pod", origin.origin.total()/pods, "requests", Lower)
	o.Report.Add(name+", direct API requests per pod", direct.caas.total()/pods, "requests", Lower)
	o.reportCPU(name, n, origin)
	o.sayRequests(n, direct, origin)
}

// sayRequests tells which requests n lives were, for those who look for one too many.
func (o *Offload) sayRequests(n int, direct, origin life) {
	_, _ = fmt.Fprintf(o.Log, "      CaaS, each beyond direct: %s\n      origin, each: %s\n",
		origin.caas.since(direct.caas).most(n), origin.origin.most(n))
}

// reportCPU says what each program used for the lives of n pods.
func (o *Offload) reportCPU(name string, n int, l life) {
	for _, program := range o.Fake {
		o.Report.Add(name+", processor time per pod, "+program.Name, milliseconds(l.cpu[program.Name])/float64(n), "ms", Lower)
	}
}

// life is what the life of n pods took: times, requests at both API servers, and processor time by program.
type life struct {
	created, deleted time.Duration
	caas, origin     requests
	cpu              map[string]time.Duration
}

func (o *Offload) counted(ctx context.Context, side Side, n int) (life, error) {
	var created, deleted time.Duration
	l, err := o.count(ctx, func() (err error) {
		created, deleted, err = o.burst(ctx, side, fmt.Sprintf("burst-%d", n), n)
		return err
	})
	l.created, l.deleted = created, deleted
	return l, err
}

// count adds up what happens while do works.
func (o *Offload) count(ctx context.Context, do func() error) (life, error) {
	before, err := o.used(ctx)
	if err != nil {
		return life{}, err
	}
	if err := do(); err != nil {
		return life{}, err
	}
	after, err := o.used(ctx)
	if err != nil {
		return life{}, err
	}
	for name := range after.cpu {
		after.cpu[name] -= before.cpu[name]
	}
	return life{caas: after.caas.since(before.caas), origin: after.origin.since(before.origin), cpu: after.cpu}, nil
}

// used is what has been used up to now.
func (o *Offload) used(ctx context.Context) (l life, err error) {
	if l.caas, err = o.DirectFake.requests(ctx); err != nil {
		return l, err
	}
	if l.origin, err = o.OriginFake.requests(ctx); err != nil {
		return l, err
	}
	usages, err := o.usages()
	l.cpu = make(map[string]time.Duration, len(usages))
	for name, u := range usages {
		l.cpu[name] = u.cpu
	}
	return l, err
}

// burst creates n pods, waits until all run, deletes them and waits until all
// are gone, at the side's API server and, for the origin's pods, at CaaS too.
func (o *Offload) burst(ctx context.Context, side Side, run string, n int) (created, deleted time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	seen, err := observe(ctx, side.Client, side.Namespace, labelRun+"="+run, podName)
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
