// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cloudveneto/caas/internal/logging"
)

// component is a program of the node.
type component struct {
	name, path string
	args       []string
	log        string
}

// children starts processes and waits for all children, its own and those orphans
// that the kernel gives to the first process of a process namespace. It must be the
// only one to wait for children: two would take each other's.
type children struct {
	reaping sync.WaitGroup

	mu    sync.Mutex                   // held from before a start until the child is in ended
	ended map[int]chan unix.WaitStatus // each is sent to once, by the reaper
}

// newChildren reaps until ctx ends.
func newChildren(ctx context.Context) *children {
	c := &children{ended: map[int]chan unix.WaitStatus{}}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGCHLD)
	c.reaping.Go(func() {
		defer signal.Stop(signals)
		for {
			c.reap()
			select {
			case <-ctx.Done():
				return
			case <-signals:
			}
		}
	})
	return c
}

// wait returns when the reaper has ended.
func (c *children) wait() { c.reaping.Wait() }

// reap collects all children that have ended; one signal may stand for several.
func (c *children) reap() {
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, unix.WNOHANG, nil)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || pid <= 0 {
			return
		}
		c.mu.Lock()
		if ended, ok := c.ended[pid]; ok {
			ended <- status
			delete(c.ended, pid)
		}
		c.mu.Unlock()
	}
}

// start runs a program with its output appended to its log, and returns where its
// end will be told.
func (c *children) start(ctx context.Context, program component) (<-chan unix.WaitStatus, *os.Process, error) {
	path, err := lookPath(program.path)
	if err != nil {
		return nil, nil, err
	}
	log, err := os.OpenFile(filepath.Clean(program.log), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = log.Close() }()
	command := exec.CommandContext(context.WithoutCancel(ctx), path, program.args...) //nolint:gosec // the programs are this package's choice
	command.Stdout, command.Stderr = log, log
	command.Env = append(withoutPath(os.Environ()), "PATH="+searchPath)
	command.SysProcAttr = &syscall.SysProcAttr{Setsid: true}

	c.mu.Lock()
	defer c.mu.Unlock()
	if err := command.Start(); err != nil {
		return nil, nil, fmt.Errorf("start %s: %w", program.name, err)
	}
	ended := make(chan unix.WaitStatus, 1)
	c.ended[command.Process.Pid] = ended
	return ended, command.Process, nil
}

// run runs a program to its end and returns its exit code.
func (c *children) run(ctx context.Context, program component) (int, error) {
	ended, process, err := c.start(ctx, program)
	if err != nil {
		return 0, err
	}
	defer func() { _ = process.Release() }()
	select {
	case status := <-ended:
		return status.ExitStatus(), nil
	case <-ctx.Done():
		_ = process.Kill()
		return 0, ctx.Err()
	}
}

// supervise runs a program and starts it again when it ends, until ctx does. What it
// returns ends the program and waits for the supervision's end.
func (c *children) supervise(ctx context.Context, program component) func() {
	ctx, cancel := context.WithCancel(ctx)
	var supervising sync.WaitGroup
	supervising.Go(func() {
		for ctx.Err() == nil {
			status, err := c.run(ctx, program)
			if ctx.Err() != nil {
				return
			}
			logging.From(ctx).Error("component ended", "component", program.name, "status", status, "error", err)
			delay := time.NewTimer(restartDelay)
			select {
			case <-ctx.Done():
				delay.Stop()
			case <-delay.C:
			}
		}
	})
	return func() {
		cancel()
		supervising.Wait()
	}
}

func withoutPath(environment []string) []string {
	return slices.DeleteFunc(slices.Clone(environment), func(variable string) bool {
		return strings.HasPrefix(variable, "PATH=")
	})
}

// lookPath finds a program on searchPath, whatever the starter's own path was.
func lookPath(name string) (string, error) {
	if filepath.IsAbs(name) {
		return name, nil
	}
	for dir := range strings.SplitSeq(searchPath, ":") {
		path := filepath.Join(dir, name)
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return path, nil
		}
	}
	return "", fmt.Errorf("no program %s in %s", name, searchPath)
}
