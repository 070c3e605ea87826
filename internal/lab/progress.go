// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"sync"
	"time"
)

const progressInterval = 200 * time.Millisecond

// Progress is what Up and Down say of one step. They call it at the step's begin, a few times a second while it goes on,
// and once at its end; never from two goroutines at a time.
type Progress struct {
	// Step says what is being done, and Detail which part of it, if there is more to say.
	Step, Detail string
	// Elapsed is the time since the step began.
	Elapsed time.Duration
	// Done tells that the step is over; it went wrong when Err is not nil.
	Done bool
	Err  error
}

// runStep runs one step and reports it. do MAY call detail at any time.
func runStep(ctx context.Context, progress func(Progress), name string, do func(ctx context.Context, detail func(string)) error) error {
	if progress == nil {
		progress = func(Progress) {}
	}
	var (
		mu      sync.Mutex
		current string
		began   = time.Now()
		done    = make(chan struct{})
		ticking sync.WaitGroup
	)
	say := func(p Progress) {
		mu.Lock()
		defer mu.Unlock()
		p.Step, p.Detail, p.Elapsed = name, current, time.Since(began)
		progress(p)
	}
	say(Progress{})
	ticking.Go(func() {
		ticker := time.NewTicker(progressInterval)
		defer ticker.Stop()
		for {
			select {
			case <-done:
				return
			case <-ticker.C:
				say(Progress{})
			}
		}
	})
	err := do(ctx, func(text string) {
		mu.Lock()
		defer mu.Unlock()
		current = text
	})
	close(done)
	ticking.Wait()
	say(Progress{Done: true, Err: err})
	return err
}
