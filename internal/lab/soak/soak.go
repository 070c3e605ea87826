// SPDX-License-Identifier: Apache-2.0

package soak

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/cloudveneto/caas/internal/lab"
)

// Config describes a run.
type Config struct {
	Lab *lab.Lab
	// BinDir holds this repository's programs.
	BinDir string
	// Seed is what all chances follow from.
	Seed uint64
	// Duration is how long there are load and faults.
	Duration time.Duration
	// Patience bounds the wait for what has to come afterwards; default 5 minutes.
	Patience time.Duration
	// Profiles is where heap and goroutine profiles of the programs are left at the end; none without it.
	Profiles string
	// Say is told how it goes, a line at a time.
	Say func(format string, args ...any)
}

const (
	defaultPatience = 5 * time.Minute
	sayEvery        = 15 * time.Second
	pollEvery       = 500 * time.Millisecond
)

// Result is what a run was like.
type Result struct {
	// Operations are counted by what they were, Faults by where and what, Kills by program.
	Operations, Faults, Kills map[string]int
	// Pods is how many the origin had, Remote how many the target.
	Pods, Remote int
	// Agreed is how long after the last fault both clusters agreed, Emptied how long the removal of everything took.
	Agreed, Emptied time.Duration
	// Memory is what the programs held.
	Memory []Memory
}

// run is one run.
type run struct {
	Config

	*world
	began    time.Time
	ledger   *ledger
	load     *load
	disturb  *disturbance
	sampler  *sampler
	problems []string

	agreed, emptied time.Duration
}

// Run soaks. An error that is no trouble of the test's own has the seed and the history of the pods concerned. The lab's
// virtual node, fake nodes and pods are left as they are.
func Run(ctx context.Context, config Config) (*Result, error) {
	if config.Patience == 0 {
		config.Patience = defaultPatience
	}
	config.Say("seed %d, %s of load and faults", config.Seed, config.Duration)
	w, err := open(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("soak: %w", err)
	}
	defer w.close() //nolint:contextcheck // it has to end things when the context is done
	r := &run{Config: config, world: w, began: time.Now()}
	err = r.run(ctx)
	if failure := r.failure(err); failure != nil {
		return r.result(), failure
	}
	return r.result(), nil
}

func (r *run) run(ctx context.Context) (err error) {
	r.ledger = newLedger(r.began, func(text string) { r.Say("  WRONG: %s", text) })
	if err := r.ledger.follow(ctx, r.world); err != nil {
		return err
	}
	defer r.ledger.stop()
	r.sampler = newSampler(r.world, r.began, r.ledger)
	if err := r.sampler.all(ctx); err != nil {
		return fmt.Errorf("measure the programs before: %w", err)
	}
	defer func() { err = errors.Join(err, r.keepProfiles(ctx)) }()
	if err := r.shake(ctx); err != nil {
		return err
	}
	if err := r.agree(ctx); err != nil {
		return err
	}
	if err := r.empty(ctx); err != nil {
		return err
	}
	return r.rest(ctx)
}

// shake is the time with load and faults. It ends with everything running and nothing disturbed.
func (r *run) shake(ctx context.Context) error {
	r.load = newLoad(r.world, r.Seed)
	if err := r.load.furnish(ctx); err != nil {
		return err
	}
	r.disturb = newDisturbance(r.world, r.Seed, r.Duration, r.ledger.remark)
	shaking, cancel := context.WithTimeout(ctx, r.Duration)
	defer cancel()
	group, shaking := errgroup.WithContext(shaking)
	for _, work := range []func(context.Context) error{r.load.work, r.disturb.work, r.sampler.work, r.tell} {
		group.Go(func() error {
			err := work(shaking)
			if shaking.Err() != nil && ctx.Err() == nil && (err == nil || errors.Is(err, shaking.Err())) {
				return nil // the time is over
			}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	return r.disturb.calm(ctx)
}

// tell says now and then how it goes.
func (r *run) tell(ctx context.Context) error {
	for pause(ctx, sayEvery) {
		near, far := r.ledger.count()
		faults, kills := r.disturb.counts()
		r.Say("  %4s: %d pods so far, %d at the origin, %d at the target; %d operations, %d faults, %d kills",
			time.Since(r.began).Round(time.Second), r.ledger.total(), near, far,
			sum(r.load.counted()), sum(faults), sum(kills))
	}
	return nil
}

// agree waits until both clusters agree.
func (r *run) agree(ctx context.Context) error {
	began := time.Now()
	differences, err := r.until(ctx, func() ([]Difference, error) {
		seen, err := r.look(ctx)
		if err != nil {
			return nil, err
		}
		return append(Differences(seen), r.ledger.twice(seen.Origin)...), nil
	})
	r.agreed = time.Since(began)
	if err != nil {
		return err
	}
	r.report("both clusters agree", differences)
	r.problems = append(r.problems, r.ledger.wrong()...)
	if len(differences) == 0 {
		r.Say("  both clusters agree after %s", r.agreed.Round(time.Millisecond))
	}
	return nil
}

// empty removes all load and waits until nothing is left at either end.
func (r *run) empty(ctx context.Context) error {
	began := time.Now()
	removed := false
	differences, err := r.until(ctx, func() ([]Difference, error) {
		if !removed {
			if err := r.load.remove(ctx); err != nil {
				return nil, err
			}
			removed = true
		}
		seen, err := r.look(ctx)
		if err != nil {
			return nil, err
		}
		return seen.left(), nil
	})
	r.emptied = time.Since(began)
	if err != nil {
		return err
	}
	r.report("everything was removed", differences)
	return nil
}

// until asks until there is no difference, or patience is at its end; then it returns the last ones. A cluster on a busy
// machine may leave a question unanswered; it is asked again.
func (r *run) until(ctx context.Context, differences func() ([]Difference, error)) ([]Difference, error) {
	began, said := time.Now(), time.Now()
	for {
		found, err := differences()
		if err == nil && len(found) == 0 || time.Since(began) > r.Patience {
			return found, err
		}
		if time.Since(said) >= sayEvery {
			r.Say("  %4s: %s", time.Since(r.began).Round(time.Second), toGo(found, err))
			said = time.Now()
		}
		if !pause(ctx, pollEvery) {
			return found, ctx.Err()
		}
	}
}

func toGo(found []Difference, err error) string {
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%d to go, such as: %s", len(found), found[0].What)
}

// maxShown bounds how many differences a failure shows with their histories.
const maxShown = 8

func (r *run) report(when string, differences []Difference) {
	for i, difference := range differences {
		if i == maxShown {
			r.problems = append(r.problems, fmt.Sprintf("… and %d more", len(differences)-i))
			break
		}
		r.problems = append(r.problems, fmt.Sprintf("%s later, not %s: %s\n%s", r.Patience, when, difference.What, r.ledger.history(difference.UID)))
	}
}

// failure puts all that went wrong into one error.
func (r *run) failure(err error) error {
	problems := slices.Clone(r.problems)
	if err != nil {
		problems = append(problems, err.Error())
	}
	if len(problems) == 0 {
		return nil
	}
	return &FailureError{Seed: r.Seed, Problems: problems, Err: err}
}

// FailureError says what a run found.
type FailureError struct {
	Seed     uint64
	Problems []string
	// Err is what ended the run early, or nil.
	Err error
}

func (f *FailureError) Error() string {
	return fmt.Sprintf("soak with seed %d:\n%s", f.Seed, strings.Join(f.Problems, "\n"))
}

func (f *FailureError) Unwrap() error { return f.Err }

func (r *run) result() *Result {
	result := &Result{Agreed: r.agreed, Emptied: r.emptied}
	if r.ledger != nil {
		result.Pods, result.Remote = r.ledger.total(), r.ledger.totalRemote()
	}
	if r.load != nil {
		result.Operations = r.load.counted()
	}
	if r.disturb != nil {
		result.Faults, result.Kills = r.disturb.counts()
	}
	if r.sampler != nil {
		result.Memory = r.sampler.memory()
	}
	return result
}

func sum(counts map[string]int) int {
	total := 0
	for count := range maps.Values(counts) {
		total += count
	}
	return total
}

// pause waits, and tells whether there is time left.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
