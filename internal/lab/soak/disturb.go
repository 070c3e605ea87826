// SPDX-License-Identifier: Apache-2.0

package soak

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/cloudveneto/caas/internal/lab/fault"
)

const (
	// A link is well for calmLeast to calmMost, and then disturbed for up to faultMost; one time in longOneIn for up to longMost.
	calmLeast, calmMost = 3 * time.Second, 15 * time.Second
	faultLeast          = 200 * time.Millisecond
	faultMost           = 4 * time.Second
	longMost            = 20 * time.Second
	longOneIn           = 8
	// A program is killed every killLeast to killMost, and is away for up to awayMost.
	killLeast, killMost = 10 * time.Second, 30 * time.Second
	awayMost            = 4 * time.Second
	// aliveEvery is how often it is looked whether all programs run.
	aliveEvery = time.Second
	// long is how long a run is that has a second half without kills: what a program holds can be told only while it lives.
	long = 10 * time.Minute
)

// Streams of chance, beside those of the links.
const (
	streamLoad  = 100
	streamKills = 200
)

// dice are repeatable chances.
func dice(seed, stream uint64) *rand.Rand {
	return rand.New(rand.NewPCG(seed, stream)) //nolint:gosec // it has to be the same again for a seed
}

// between is a chance from least to most.
func between(random *rand.Rand, least, most time.Duration) time.Duration {
	return least + time.Duration(random.Int64N(int64(most-least)))
}

// disturbance disturbs links and kills programs.
type disturbance struct {
	world  *world
	seed   uint64
	kill   time.Duration
	remark func(string)

	// programs is held by who kills, and starts again.
	programs sync.Mutex

	mu             sync.Mutex
	faulted, ended map[string]int
}

func newDisturbance(w *world, seed uint64, duration time.Duration, remark func(string)) *disturbance {
	d := &disturbance{world: w, seed: seed, kill: duration * 5 / 6, remark: remark, faulted: map[string]int{}, ended: map[string]int{}}
	if duration >= long {
		d.kill = duration / 2
	}
	return d
}

// work disturbs until ctx is done.
func (d *disturbance) work(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	for i := range d.world.links {
		group.Go(func() error { return d.link(ctx, &d.world.links[i], dice(d.seed, uint64(i))) }) //nolint:gosec // a handful
	}
	group.Go(func() error { return d.kills(ctx, dice(d.seed, streamKills)) })
	group.Go(func() error { return d.watch(ctx) })
	return group.Wait()
}

// link disturbs one link.
func (d *disturbance) link(ctx context.Context, one *link, random *rand.Rand) error {
	kinds := fault.Kinds()
	for pause(ctx, between(random, calmLeast, calmMost)) {
		kind, lasts := kinds[random.IntN(len(kinds))], between(random, faultLeast, faultMost)
		if random.IntN(longOneIn) == 0 {
			lasts = between(random, faultMost, longMost)
		}
		d.remark(fmt.Sprintf("%s: %s for %s", one.Name, kind, lasts.Round(time.Millisecond)))
		d.note(d.faulted, one.Name+", "+string(kind))
		if err := one.proxy.Impose(ctx, kind); err != nil {
			return err
		}
		pause(ctx, lasts)
		d.remark(one.Name + ": well again")
		if err := one.proxy.Impose(context.WithoutCancel(ctx), fault.None); err != nil {
			return err
		}
	}
	return nil
}

// kills ends programs, as a crash does, and starts them again.
func (d *disturbance) kills(ctx context.Context, random *rand.Rand) error {
	components := d.world.path.Components()
	until := time.Now().Add(d.kill)
	for pause(ctx, between(random, killLeast, killMost)) && time.Now().Before(until) {
		component, away := components[random.IntN(len(components))], between(random, 0, awayMost)
		if err := d.killOne(ctx, component, away); err != nil {
			return err
		}
	}
	return nil
}

func (d *disturbance) killOne(ctx context.Context, component string, away time.Duration) error {
	d.programs.Lock()
	defer d.programs.Unlock()
	if err := d.world.ended(component); err != nil {
		return err
	}
	d.remark(fmt.Sprintf("%s is killed, for %s", component, away.Round(time.Millisecond)))
	d.note(d.ended, component)
	lasting := context.WithoutCancel(ctx)
	if err := d.world.path.Kill(lasting, component); err != nil {
		return err
	}
	pause(ctx, away)
	if err := d.world.path.Start(lasting, component); err != nil {
		return err
	}
	d.remark(component + " runs again")
	return nil
}

// watch looks out for programs that end by themselves.
func (d *disturbance) watch(ctx context.Context) error {
	for pause(ctx, aliveEvery) {
		if err := d.alive(); err != nil {
			return err
		}
	}
	return nil
}

func (d *disturbance) alive() error {
	d.programs.Lock()
	defer d.programs.Unlock()
	var all []error
	for _, component := range d.world.path.Components() {
		all = append(all, d.world.ended(component))
	}
	return errors.Join(all...)
}

// calm ends what work has begun.
func (d *disturbance) calm(ctx context.Context) error {
	for i := range d.world.links {
		if err := d.world.links[i].proxy.Impose(ctx, fault.None); err != nil {
			return err
		}
	}
	d.remark("nothing is disturbed any more")
	return d.alive()
}

func (d *disturbance) note(counts map[string]int, what string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	counts[what]++
}

// counts are how many faults and kills there were.
func (d *disturbance) counts() (faults, kills map[string]int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return maps.Clone(d.faulted), maps.Clone(d.ended)
}
