// SPDX-License-Identifier: Apache-2.0

package nodeimage

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	progressInterval = time.Second
	lockInterval     = 100 * time.Millisecond
	// stopTimeout is how long the script has to clean up when it is interrupted.
	stopTimeout = 20 * time.Second
	// keptLines are those of the script's output that an error shows.
	keptLines = 15
)

// run runs the script; what it says are the steps of the report.
func (c *Config) run(ctx context.Context, report *report, arguments []string) error {
	path := filepath.Join(c.Source, filepath.FromSlash(scripts), script)
	command := exec.CommandContext(ctx, path, arguments...) //nolint:gosec // the script is part of the repository
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	// All its children have to end, too, and be given the time to.
	command.Cancel = func() error { return syscall.Kill(-command.Process.Pid, syscall.SIGTERM) }
	command.WaitDelay = stopTimeout
	// Not command.StderrPipe, which would have to be read to its end before waiting: a child
	// that outlives the script keeps it open.
	reader, writer, err := os.Pipe()
	if err != nil {
		return err
	}
	defer func() { _ = reader.Close() }()
	command.Stderr = writer
	err = command.Start()
	_ = writer.Close() // the script has its own
	if err != nil {
		return fmt.Errorf("start %s: %w", path, err)
	}
	var (
		last    []string
		readErr error
		reading sync.WaitGroup
	)
	reading.Go(func() { last, readErr = follow(reader, report) })
	err = command.Wait()
	_ = syscall.Kill(-command.Process.Pid, syscall.SIGKILL) // whatever is left of its group
	reading.Wait()
	if err := errors.Join(err, readErr); err != nil {
		return errors.Join(ctx.Err(), fmt.Errorf("%s: %w: %s", script, err, strings.Join(last, "; ")))
	}
	return nil
}

// follow reads lines until there are no more and returns the last ones.
func follow(output io.Reader, report *report) ([]string, error) {
	var last []string
	lines := bufio.NewScanner(output)
	for lines.Scan() {
		line := strings.TrimSpace(lines.Text())
		if step, ok := strings.CutPrefix(line, script+": "); ok {
			report.step(step)
		}
		if last = append(last, line); len(last) > keptLines {
			last = last[1:]
		}
	}
	return last, lines.Err()
}

// report says every second what is being done.
type report struct {
	started  time.Time
	progress func(step string, elapsed time.Duration)
	done     chan struct{} // closed by stop
	waiting  sync.WaitGroup

	mu      sync.Mutex // held while progress is called: one call at a time
	current string
}

func startReport(progress func(step string, elapsed time.Duration)) *report {
	r := &report{started: time.Now(), progress: progress, done: make(chan struct{})}
	r.waiting.Go(func() {
		ticker := time.NewTicker(progressInterval)
		defer ticker.Stop()
		for {
			select {
			case <-r.done:
				return
			case <-ticker.C:
				r.say(func() {})
			}
		}
	})
	return r
}

func (r *report) say(change func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change()
	if r.current != "" {
		r.progress(r.current, time.Since(r.started))
	}
}

func (r *report) step(name string) { r.say(func() { r.current = name }) }

func (r *report) stop() {
	close(r.done)
	r.waiting.Wait()
}

// lock takes the lock file at path, which stays; the kernel frees that of a process that
// ends.
func lock(ctx context.Context, path string) (unlock func(), err error) {
	file, err := os.OpenFile(filepath.Clean(path), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	ticker := time.NewTicker(lockInterval)
	defer ticker.Stop()
	for {
		err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { _ = file.Close() }, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), file.Close())
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(ctx.Err(), file.Close())
		case <-ticker.C:
		}
	}
}
