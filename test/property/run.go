// SPDX-License-Identifier: Apache-2.0

package property

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/cloudveneto/caas/test/property/site"
)

// lastSteps is how many steps a failure shows.
const lastSteps = 30

// Options of a history.
type Options struct {
	// Seed is what chances follow from.
	Seed uint64
	// Steps is how many there are.
	Steps int
	// Crowded has users contend for few names.
	Crowded bool
	// Progress, when not nil, is told now and then how many steps were made.
	Progress func(made int)
}

func (o Options) generator(stream uint64) *generator {
	g := newGenerator(o.Seed, stream)
	if o.Crowded {
		g.crowd()
	}
	return g
}

// Result is what a history was like.
type Result struct {
	Steps int
	// Outcomes counts what came of steps: done, denied, absent, taken.
	Outcomes map[string]int
	Elapsed  time.Duration
}

// play is one history.
type play struct {
	options  Options
	player   *player
	oracle   *oracle
	model    *model
	watchers []*watcher
	history  []string
	result   Result
}

func begin(ctx context.Context, s *site.Site, options Options) (*play, error) {
	player, err := newPlayer(s)
	if err != nil {
		return nil, err
	}
	oracle, err := newOracle(ctx, s.Admin())
	if err != nil {
		return nil, err
	}
	return &play{options: options, player: player, oracle: oracle, model: newModel(), result: Result{Outcomes: map[string]int{}}}, nil
}

// Run plays a sequential history and returns an error as soon as an answer is not what the model says. The error has the
// seed and the last steps. At the end it removes all that there is.
func Run(ctx context.Context, s *site.Site, options Options) (Result, error) {
	p, err := begin(ctx, s, options)
	if err != nil {
		return Result{}, err
	}
	defer p.oracle.close()
	began, generator := time.Now(), options.generator(0)
	for p.result.Steps < options.Steps && err == nil {
		err = p.step(ctx, generator.next(actors(), p.model.things))
	}
	for _, w := range p.watchers {
		if err == nil {
			err = w.end(ctx, p.model.visible(w.step))
		} else {
			err = errors.Join(err, w.end(ctx, nil))
		}
	}
	p.result.Elapsed = time.Since(began)
	if err == nil {
		err = p.audit(ctx)
	}
	if err != nil {
		err = p.failure(err)
	}
	return p.result, errors.Join(err, p.clear(ctx))
}

func (p *play) failure(err error) error {
	return fmt.Errorf("seed %d, step %d: %w\nthe last steps:\n%s", p.options.Seed, p.result.Steps, err, strings.Join(p.history, "\n"))
}

func (p *play) remember(s step, came string) {
	p.history = append(p.history, fmt.Sprintf("%s %s: %s", time.Now().Format("05.000"), s, came))
	if len(p.history) > lastSteps {
		p.history = p.history[1:]
	}
}

func (p *play) count(came outcome) {
	p.result.Steps++
	p.result.Outcomes[string(came)]++
	if p.options.Progress != nil && p.result.Steps%100 == 0 {
		p.options.Progress(p.result.Steps)
	}
}

// step makes one and judges it.
func (p *play) step(ctx context.Context, s step) error {
	if s.op == opChild {
		return p.child(ctx, s)
	}
	expected := p.model.expect(s, time.Now())
	var a answer
	var err error
	if s.op == opWatch {
		a, err = p.openWatch(ctx, s)
	} else {
		a, err = p.player.play(ctx, s)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", s, err)
	}
	came, ok := a.outcome()
	p.remember(s, string(came))
	p.count(came)
	if !ok || !slices.Contains(expected, came) {
		return fmt.Errorf("%s: want %v: %s", s, expected, a)
	}
	p.model.happen(s, came, time.Now())
	if came == done && s.op != opWatch {
		err = errors.Join(p.judgeContent(ctx, s, a), p.judgeModel(s, a))
	}
	if err := errors.Join(err, p.oracle.problems()); err != nil {
		return fmt.Errorf("%s: %w", s, err)
	}
	return nil
}

// openWatch opens one, and closes the oldest of too many.
func (p *play) openWatch(ctx context.Context, s step) (answer, error) {
	w, a, err := p.player.watch(ctx, s, func(one seen) error { return p.allowed(ctx, s.actor, s.place, one) })
	if w == nil {
		return a, err
	}
	p.watchers = append(p.watchers, w)
	if len(p.watchers) <= openWatches {
		return a, nil
	}
	oldest := p.watchers[0]
	p.watchers = p.watchers[1:]
	return a, oldest.end(ctx, p.model.visible(oldest.step))
}
