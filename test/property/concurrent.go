// SPDX-License-Identifier: Apache-2.0

package property

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/cloudveneto/caas/test/property/site"
)

// RunConcurrently has all users make steps at the same time, and returns an error as soon as one sees or changes what is
// not theirs. The error has the seed and the last steps of all. At the end it removes all that there is.
func RunConcurrently(ctx context.Context, s *site.Site, options Options) (Result, error) {
	p, err := begin(ctx, s, options)
	if err != nil {
		return Result{}, err
	}
	defer p.oracle.close()
	crowd := &crowd{play: p}
	began := time.Now()
	group, groupCtx := errgroup.WithContext(ctx)
	for i, a := range actors() {
		generator := options.generator(uint64(i) + 1)
		group.Go(func() error {
			for range options.Steps / len(actors()) {
				if err := crowd.step(groupCtx, generator.next([]actor{a}, nil)); err != nil {
					return err
				}
			}
			return nil
		})
	}
	err = group.Wait()
	for _, w := range p.watchers {
		err = errors.Join(err, w.end(ctx, nil))
	}
	p.result.Elapsed = time.Since(began)
	if err = errors.Join(err, p.oracle.problems()); err != nil {
		err = p.failure(err)
	}
	return p.result, errors.Join(err, p.clear(ctx))
}

// crowd is a play that many users take part in.
type crowd struct {
	mu   sync.Mutex // for what play keeps of steps and watches
	play *play
}

func (c *crowd) step(ctx context.Context, s step) error {
	p := c.play
	if s.op == opWatch {
		return c.watch(ctx, s)
	}
	if s.op == opChild {
		chosen, _, found, err := p.player.chooseChild(ctx, s)
		if err != nil || !found {
			return err
		}
		s = chosen
	}
	a, err := p.player.play(ctx, s)
	if err != nil {
		return fmt.Errorf("%s: %w", s, err)
	}
	came := c.note(s, a)
	if came == done {
		err = p.judgeContent(ctx, s, a)
		if !s.actor.memberOf(s.place.namespace) {
			err = errors.Join(err, errors.New("that is no member's business"))
		}
	}
	if err := errors.Join(err, p.oracle.problems()); err != nil {
		return fmt.Errorf("%s: %w", s, err)
	}
	return nil
}

func (c *crowd) note(s step, a answer) outcome {
	c.mu.Lock()
	defer c.mu.Unlock()
	came, ok := a.outcome()
	if !ok {
		came = outcome(fmt.Sprintf("code %d", a.code))
	}
	c.play.remember(s, string(came))
	c.play.count(came)
	return came
}

// watch opens one, and closes the oldest of too many.
func (c *crowd) watch(ctx context.Context, s step) error {
	p := c.play
	// It goes on when its user has made the last step.
	w, a, err := p.player.watch(context.WithoutCancel(ctx), s, func(one seen) error { return p.allowed(ctx, s.actor, s.place, one) })
	if err != nil {
		return err
	}
	c.note(s, a)
	if w == nil {
		return nil
	}
	if !s.mayCollect() || !s.actor.memberOf(s.place.namespace) {
		return errors.Join(fmt.Errorf("%s: it is not theirs to watch", s), w.end(ctx, nil))
	}
	c.mu.Lock()
	p.watchers = append(p.watchers, w)
	var oldest *watcher
	if len(p.watchers) > openWatches {
		oldest, p.watchers = p.watchers[0], p.watchers[1:]
	}
	c.mu.Unlock()
	if oldest == nil {
		return nil
	}
	return oldest.end(ctx, nil)
}
