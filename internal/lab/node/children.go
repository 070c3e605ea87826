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

// Program is something to run.
type Program struct {
	// Name is for messages. Path is absolute, or the name of a program in the usual directories.
	Name, Path string
	Args       []string
	// Log is the file that output is appended to.
	Log string
	// Env is the whole environment; that of this process, with a PATH of all usual directories, when nil.
	Env []string
	// Dir is the working directory; that of this process when empty.
	Dir string
	// Credential is the user to run as; that of this process when nil.
	Credential *syscall.Credential
}

// Children starts processes and waits for all children, its own and those orphans
// that the kernel gives to the first process of a process namespace. It must be the
// only one to wait for children: two would take each other's.
type Children struct {
	reaping sync.WaitGroup

	mu    sync.Mutex                   // held from before a start until the child is in ended
	ended map[int]chan unix.WaitStatus // each is sent to once, by the reaper
}

// NewChildren reaps until ctx ends.
func NewChildren(ctx context.Context) *Children {
	c := &Children{ended: map[int]chan unix.WaitStatus{}}
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

// Wait returns when the reaper has ended.
func (c *Children) Wait() { c.reaping.Wait() }

// reap collects all children that have ended; one signal may stand for several.
func (c *Children) reap() {
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

// Start runs a program with its output appended to its log, and returns where its
// end will be told.
func (c *Children) Start(ctx context.Context, program Program) (<-chan unix.WaitStatus, *os.Process, error) {
	path, err := lookPath(program.Path)
	if err != nil {
		return nil, nil, err
	}
	log, err := os.OpenFile(filepath.Clean(program.Log), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = log.Close() }()
	command := exec.CommandContext(context.WithoutCancel(ctx), path, program.Args...) //nolint:gosec // running the given program is the purpose
	command.Stdout, command.Stderr = log, log
	command.Dir, command.Env = program.Dir, program.Env
	if command.Env == nil {
		command.Env = append(withoutPath(os.Environ()), "PATH="+searchPath)
	}
	command.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Credential: program.Credential}

	c.mu.Lock()
	defer c.mu.Unlock()
	if err := command.Start(); err != nil {
		return nil, nil, fmt.Errorf("start %s: %w", program.Name, err)
	}
	ended := make(chan unix.WaitStatus, 1)
	c.ended[command.Process.Pid] = ended
	return ended, command.Process, nil
}

// Run runs a program to its end and returns its exit code.
func (c *Children) Run(ctx context.Context, program Program) (int, error) {
	ended, process, err := c.Start(ctx, program)
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
func (c *Children) supervise(ctx context.Context, program Program) func() {
	ctx, cancel := context.WithCancel(ctx)
	var supervising sync.WaitGroup
	supervising.Go(func() {
		for ctx.Err() == nil {
			status, err := c.Run(ctx, program)
			if ctx.Err() != nil {
				return
			}
			logging.From(ctx).Error("component ended", "component", program.Name, "status", status, "error", err)
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
