// SPDX-License-Identifier: Apache-2.0

package soak

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/cloudveneto/caas/internal/bench"
	"github.com/cloudveneto/caas/internal/lab/network"
)

const (
	sampleEvery   = 10 * time.Second
	sampleTimeout = 30 * time.Second
	maxAnswer     = 64 << 20

	// A program that has nothing to do holds what it held when it began, and besides: heapRest, heapPerPod for each pod
	// that there was meanwhile (deleted ones are remembered for half an hour), and goroutinesRest, for connections that
	// are kept for a while.
	heapRest       = 4 << 20
	heapPerPod     = 1 << 10
	goroutinesRest = 60
	// While it works, and after it has warmed up, it grows by no more than that.
	heapGrowth       = 2 << 20
	goroutinesGrowth = 30
	// steadyLeast is how long it has to be watched for that.
	steadyLeast = 5 * time.Minute
)

// Memory is what a program held, in bytes of heap after a collection.
type Memory struct {
	Program string
	// Before is when nothing had happened yet, After when everything was removed again.
	Before, After Held
	// Steady is how long the program worked without being killed, the warm-up left out; Growth is by how much what it
	// holds grew meanwhile, by a straight line through all samples; zero if that was not long enough.
	Steady time.Duration
	Growth Held
	// Pods is how many there were meanwhile.
	Pods int
}

// Held is what a program holds at a moment.
type Held struct{ Heap, Goroutines, Resident float64 }

// sample is what a process held at a time.
type sample struct {
	at   time.Duration
	pid  int
	pods int
	held Held
}

// sampler asks the programs what they hold.
type sampler struct {
	world  *world
	began  time.Time
	ledger *ledger
	client *http.Client

	mu      sync.Mutex
	samples map[string][]sample
	// working is how many of them were taken before everything was removed; nil until then.
	working map[string]int
}

func newSampler(w *world, began time.Time, ledger *ledger) *sampler {
	return &sampler{
		world: w, began: began, ledger: ledger, samples: map[string][]sample{},
		client: &http.Client{Timeout: sampleTimeout, Transport: &http.Transport{
			DialContext: network.Dialer(w.lab.NetNS()), DisableKeepAlives: true, // the connections would be seen
		}},
	}
}

// work samples until ctx is done. A program that is being killed gives no answer.
func (s *sampler) work(ctx context.Context) error {
	for pause(ctx, sampleEvery) {
		_ = s.all(ctx)
	}
	return nil
}

// all asks every program.
func (s *sampler) all(ctx context.Context) error {
	var failures []error
	for _, component := range s.world.path.Components() {
		failures = append(failures, s.ask(ctx, component))
	}
	return errors.Join(failures...)
}

func (s *sampler) ask(ctx context.Context, component string) error {
	pids, err := s.world.path.PIDs()
	if err != nil {
		return err
	}
	metrics, profiles := s.world.path.Figures(component)
	for range 2 { // what a pool or a finalizer holds goes with the second collection
		if _, err := s.fetch(ctx, profiles+"heap?gc=1"); err != nil {
			return err
		}
	}
	text, err := s.fetch(ctx, metrics)
	if err != nil {
		return err
	}
	figures, err := bench.ParseExposition(string(text))
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.samples[component] = append(s.samples[component], sample{time.Since(s.began), pids[component], s.ledger.total(), Held{
		figures["go_memstats_heap_alloc_bytes"], figures["go_goroutines"], figures["process_resident_memory_bytes"],
	}})
	return nil
}

func (s *sampler) fetch(ctx context.Context, url string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", url, err)
	}
	answer, err := s.client.Do(request)
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", url, err)
	}
	defer func() { _ = answer.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer))
	if err == nil && answer.StatusCode != http.StatusOK {
		err = errors.New(answer.Status)
	}
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", url, err)
	}
	return text, nil
}

// memory judges nothing: it says what was measured.
func (s *sampler) memory() []Memory {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []Memory
	for _, component := range s.world.path.Components() {
		if samples := s.samples[component]; len(samples) > 0 {
			all = append(all, measured(component, samples))
		}
	}
	return all
}

// measured sums up the samples of a program, the first of which was taken before anything happened.
func measured(program string, samples []sample) Memory {
	last := samples[len(samples)-1]
	memory := Memory{Program: program, Before: samples[0].held, After: last.held, Pods: last.pods}
	// The last one was taken after everything was removed, and says nothing of the work before.
	var life []sample
	for _, one := range samples[:len(samples)-1] {
		if one.pid == last.pid {
			life = append(life, one)
		}
	}
	life = life[min(len(life), len(life)/3):] // warm by then
	if len(life) < 2 {
		return memory
	}
	if steady := life[len(life)-1].at - life[0].at; steady >= steadyLeast {
		memory.Steady, memory.Pods = steady, life[len(life)-1].pods-life[0].pods
		memory.Growth = Held{
			Heap:       growth(life, func(h Held) float64 { return h.Heap }),
			Goroutines: growth(life, func(h Held) float64 { return h.Goroutines }),
			Resident:   growth(life, func(h Held) float64 { return h.Resident }),
		}
	}
	return memory
}

// growth is by how much the straight line through all samples, by least squares, rises from the first to the last.
func growth(samples []sample, of func(Held) float64) float64 {
	var meanAt, mean float64
	for _, one := range samples {
		meanAt += one.at.Seconds() / float64(len(samples))
		mean += of(one.held) / float64(len(samples))
	}
	var together, alone float64
	for _, one := range samples {
		at := one.at.Seconds() - meanAt
		together += at * (of(one.held) - mean)
		alone += at * at
	}
	if alone == 0 {
		return 0
	}
	return together / alone * (samples[len(samples)-1].at - samples[0].at).Seconds()
}

// Excess says what of it is too much; nothing if all is well.
func (m *Memory) Excess() []string {
	var all []string
	check := func(what string, value, limit float64) {
		if value > limit {
			all = append(all, fmt.Sprintf("%s: %s is %.0f, and should not be above %.0f", m.Program, what, value, limit))
		}
	}
	perPod := float64(m.Pods) * heapPerPod
	check("the heap with nothing to do, in bytes,", m.After.Heap, m.Before.Heap+heapRest+perPod)
	check("the number of goroutines with nothing to do", m.After.Goroutines, m.Before.Goroutines+goroutinesRest)
	if m.Steady > 0 {
		check("the growth of the heap, in bytes,", m.Growth.Heap, heapGrowth+perPod)
		check("the growth of the number of goroutines", m.Growth.Goroutines, goroutinesGrowth)
	}
	return all
}

// rest waits until the programs hold no more than they need.
func (r *run) rest(ctx context.Context) error {
	found, err := r.until(ctx, func() ([]Difference, error) {
		if err := r.sampler.again(ctx); err != nil {
			return nil, err
		}
		var all []Difference
		for _, memory := range r.sampler.memory() {
			for _, text := range memory.Excess() {
				all = append(all, Difference{What: text})
			}
		}
		return all, nil
	})
	if err != nil {
		return err
	}
	for _, one := range found {
		r.problems = append(r.problems, one.What)
	}
	return nil
}

// again samples in place of what was sampled since everything was removed.
func (s *sampler) again(ctx context.Context) error {
	s.mu.Lock()
	if s.working == nil {
		s.working = map[string]int{}
		for component, samples := range s.samples {
			s.working[component] = len(samples)
		}
	}
	for component, count := range s.working {
		s.samples[component] = s.samples[component][:count]
	}
	s.mu.Unlock()
	return s.all(ctx)
}

// keepProfiles leaves what the programs hold at the end, for looking at it.
func (r *run) keepProfiles(ctx context.Context) error {
	if r.Profiles == "" {
		return nil
	}
	if err := os.MkdirAll(r.Profiles, 0o750); err != nil {
		return fmt.Errorf("keep profiles: %w", err)
	}
	var failures []error
	for _, component := range r.path.Components() {
		_, profiles := r.path.Figures(component)
		for _, kind := range []string{"heap", "goroutine"} {
			data, err := r.sampler.fetch(ctx, profiles+kind)
			if err == nil {
				err = os.WriteFile(filepath.Join(r.Profiles, component+"-"+kind+".pprof"), data, 0o600)
			}
			failures = append(failures, err)
		}
	}
	return errors.Join(failures...)
}
