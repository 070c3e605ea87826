// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"context"
	"time"
)

// supervise keeps a service running until its life ends, as its unit says.
func (m *manager) supervise(ctx context.Context, s *service, j *job, main *process, life *life) {
	starts := []time.Time{time.Now()}
	for {
		if main != nil && !m.outlive(ctx, s, j, main, life) {
			return
		}
		if tooMany(starts, j) {
			m.console.say("%s starts too often", s.name)
			s.set(failed, 0)
			return
		}
		s.set(activating, 0)
		if !pause(ctx, j.unit.Duration("RestartSec", defaultRestart), life.stop) {
			return
		}
		starts = append(starts, time.Now())
		again, err := newJob(j.unit, 0)
		if err == nil {
			j = again
			main, err = m.startMain(ctx, s, j, life.stop)
		}
		if err != nil {
			m.console.say("failed to start %s again: %v", s.name, err)
			main = nil
			continue
		}
		m.console.say("started %s again", s.name)
	}
}

// outlive waits for the end of a service's main process, and tells whether the service is
// to be started again.
func (m *manager) outlive(ctx context.Context, s *service, j *job, main *process, life *life) bool {
	defer func() { _ = main.notify.close() }()
	select {
	case <-ctx.Done():
		return false // the kernel ends the rest
	case <-life.stop:
		s.set(deactivating, main.pid)
		m.stopCommands(ctx, j, main)
		main.terminate(j)
		return false
	case status := <-main.ended:
		m.console.say("%s ended with %s", s.name, describe(status))
		if j.restarts(status) {
			return true
		}
		if status.Exited() && status.ExitStatus() == 0 {
			s.set(inactive, 0)
		} else {
			s.set(failed, 0)
		}
		return false
	}
}

// stopCommands runs what the unit wants run before its process is told to end.
func (m *manager) stopCommands(ctx context.Context, j *job, main *process) {
	stopping, err := newJob(j.unit, main.pid)
	if err != nil {
		return // the signal follows in any case
	}
	commands, err := j.unit.Commands("ExecStop", stopping.variables)
	if err == nil {
		err = m.runAll(ctx, stopping, commands)
	}
	if err != nil {
		m.console.say("stop %s: %v", j.unit.Name, err)
	}
}

// tooMany tells whether one more start would be too many for its limit.
func tooMany(starts []time.Time, j *job) bool {
	burst, interval := j.limit()
	if burst == 0 || interval == 0 {
		return false
	}
	recent := 0
	for _, start := range starts {
		if time.Since(start) < interval {
			recent++
		}
	}
	return recent >= burst
}

// pause waits, and tells whether nothing came in between.
func pause(ctx context.Context, delay time.Duration, stop <-chan struct{}) bool {
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-stop:
		return false
	case <-ctx.Done():
		return false
	}
}
