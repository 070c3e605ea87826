// SPDX-License-Identifier: Apache-2.0

package image

import (
	"sync"
	"time"
)

// report tells a listener how a build goes on. The zero listener is allowed.
type report struct {
	started time.Time
	done    chan struct{}
	waiting sync.WaitGroup

	mu       sync.Mutex // held while the listener is called: one call at a time
	current  string
	progress func(step string, elapsed time.Duration)
}

func startReport(progress func(step string, elapsed time.Duration)) *report {
	r := &report{started: time.Now(), done: make(chan struct{}), progress: progress}
	if progress != nil {
		r.waiting.Go(r.tick)
	}
	return r
}

// step says what is being done from now on.
func (r *report) step(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.current = name
	if r.progress != nil {
		r.progress(name, time.Since(r.started))
	}
}

func (r *report) tick() {
	ticker := time.NewTicker(progressInterval)
	defer ticker.Stop()
	for {
		select {
		case <-r.done:
			return
		case <-ticker.C:
		}
		r.mu.Lock()
		if r.current != "" {
			r.progress(r.current, time.Since(r.started))
		}
		r.mu.Unlock()
	}
}

// stop ends the reports; the listener is not called after it.
func (r *report) stop() {
	close(r.done)
	r.waiting.Wait()
}
