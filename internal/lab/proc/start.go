// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
)

// Start runs the process and records it in runDir, which is made when absent. It returns as soon as the program runs;
// it fails with ErrRunning when a live process of that name is recorded, and replaces the record of a dead one.
// The process does not end with ctx. As long as the starter lives it also collects the ended process.
func Start(ctx context.Context, runDir string, spec Spec) (*Process, error) {
	spec, err := spec.complete(runDir)
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("start %s: %w", spec.Name, err)
	}
	for _, dir := range []string{runDir, filepath.Dir(spec.LogFile)} {
		if err := os.MkdirAll(dir, 0o750); err != nil {
			return nil, fmt.Errorf("start %s: %w", spec.Name, err)
		}
	}
	if old, err := Load(runDir, spec.Name); err == nil && old.Alive() {
		return nil, fmt.Errorf("start %s: process %d is %w", spec.Name, old.PID(), ErrRunning)
	}
	p := &Process{path: filepath.Join(runDir, spec.Name+recordSuffix), rec: record{Spec: spec}}
	started := make(chan error, 1) // written once, by run
	go p.run(ctx, started)
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", spec.Name, err)
	}
	return p, nil
}

// run starts the process, reports how that went, and waits for its end. The kernel's parent-death signal is tied to
// the thread that started the process, not to the program: therefore one goroutine keeps the thread until the end.
func (p *Process) run(ctx context.Context, started chan<- error) {
	spec := p.rec.Spec
	if spec.EndWithStarter {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
	}
	log, err := os.OpenFile(filepath.Clean(spec.LogFile), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		started <- err
		return
	}
	program, args := spec.command()
	cmd := exec.CommandContext(context.WithoutCancel(ctx), program, args...) //nolint:gosec // running the given program is the purpose
	cmd.Dir, cmd.Env = spec.Dir, append(os.Environ(), spec.Env...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if spec.EndWithStarter {
		cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	}
	err = errors.Join(cmd.Start(), log.Close())
	if cmd.Process == nil {
		started <- err
		return
	}
	if err == nil {
		err = p.recordStart(cmd.Process.Pid)
	}
	if err != nil {
		_ = cmd.Process.Kill() // a process without a record could not be found again
	}
	started <- err
	_ = cmd.Wait() // how it ended is for its log, and for those who ask whether it is alive
}

// recordStart writes the record. The process was not waited for, so its number is still its own.
func (p *Process) recordStart(pid int) error {
	found, err := stat(pid)
	if err != nil {
		return err
	}
	boot, err := bootID()
	if err != nil {
		return err
	}
	p.rec.PID, p.rec.StartTime, p.rec.BootID = pid, found.startTime, boot
	return p.rec.write(p.path)
}
