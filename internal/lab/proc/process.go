// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
	"time"
)

const (
	// pollInterval is how often the end of a process is looked for. It may be another's child, so it cannot be waited for.
	pollInterval = 20 * time.Millisecond
	// killTimeout bounds the wait for a killed process, which may be stuck in the kernel.
	killTimeout = 10 * time.Second
)

// Process is a process with a record. Its methods may be called from several goroutines.
type Process struct {
	path string
	rec  record
}

// PID returns the process id.
func (p *Process) PID() int { return p.rec.PID }

// Name returns the name under which the process was started.
func (p *Process) Name() string { return p.rec.Spec.Name }

// Spec returns what was started, with the defaults filled in.
func (p *Process) Spec() Spec { return p.rec.Spec }

// Alive tells whether the very process that was started still runs. One that ended and was not yet collected does not.
func (p *Process) Alive() bool {
	boot, err := bootID()
	if err != nil || boot != p.rec.BootID {
		return false
	}
	found, err := stat(p.rec.PID)
	return err == nil && found.startTime == p.rec.StartTime && found.runs()
}

// Wait blocks until the process has ended or ctx is done.
func (p *Process) Wait(ctx context.Context) error {
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for p.Alive() {
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for %s (process %d) to end: %w", p.Name(), p.PID(), ctx.Err())
		case <-ticker.C:
		}
	}
	return nil
}

// Stop asks the process to end, kills it when it has not done so after grace, and removes the record. When ctx is done
// first, the process is killed at once. A process that is gone already is no error.
func (p *Process) Stop(ctx context.Context, grace time.Duration) error {
	if err := p.signal(syscall.SIGTERM); err != nil {
		return err
	}
	patience, cancel := context.WithTimeout(ctx, grace)
	defer cancel()
	if p.Wait(patience) != nil {
		return p.Kill()
	}
	return p.forget()
}

// Kill ends the process and what it started in its own session at once, waits until it is gone, and removes the record.
func (p *Process) Kill() error {
	if err := p.signal(syscall.SIGKILL); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), killTimeout)
	defer cancel()
	if err := p.Wait(ctx); err != nil {
		return err
	}
	return p.forget()
}

// signal signals the process, if it is still the one that was started. The handle is taken before looking, so the
// number cannot pass to another process in between. SIGKILL goes to the whole process group.
func (p *Process) signal(sig syscall.Signal) error {
	handle, err := os.FindProcess(p.rec.PID)
	if err != nil {
		return fmt.Errorf("find %s (process %d): %w", p.Name(), p.PID(), err)
	}
	defer func() { _ = handle.Release() }()
	if !p.Alive() {
		return nil
	}
	if sig == syscall.SIGKILL {
		_ = syscall.Kill(-p.rec.PID, sig) // the leader is signalled below in any case
	}
	if err := handle.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("signal %s (process %d): %w", p.Name(), p.PID(), err)
	}
	return nil
}

// forget removes the record, unless another process was started under the name meanwhile.
func (p *Process) forget() error {
	if current, err := load(p.path); err == nil && current.PID != p.rec.PID {
		return nil
	}
	if err := os.Remove(p.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove record of %s: %w", p.Name(), err)
	}
	return nil
}
