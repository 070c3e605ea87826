// SPDX-License-Identifier: Apache-2.0

// Package programtest runs a program of cmd/ as its users do: as a process of its own.
//
//	var binary programtest.Binary
//
//	func TestMain(m *testing.M) { os.Exit(binary.Run(m)) }
//
//	func TestProgram(t *testing.T) {
//		process := programtest.Start(t, binary.Command(t, "--config", file))
//		…
//		require.NoError(t, process.End(syscall.SIGTERM), process)
//	}
package programtest

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/cloudveneto/caas/internal/lab/kube"
)

// Binary is a program, built by the first test that needs it. Its zero value is the one in whose directory the tests run.
type Binary struct {
	// Name is that of another program in the directory beside.
	Name string

	once sync.Once
	dir  string
	err  error
}

// Run runs the tests, and removes the program after them. It returns the code to exit with.
func (b *Binary) Run(m *testing.M) int {
	defer b.Remove()
	return m.Run()
}

// Remove removes the program; nothing builds it afterwards.
func (b *Binary) Remove() {
	b.once.Do(func() {})
	_ = os.RemoveAll(b.dir) // of "" it removes nothing
}

// Path is where the program is.
func (b *Binary) Path(tb testing.TB) string {
	tb.Helper()
	source, err := os.Getwd()
	require.NoError(tb, err)
	if b.Name != "" {
		source = filepath.Join(filepath.Dir(source), b.Name)
	}
	name := filepath.Base(source)
	b.once.Do(func() {
		if b.dir, b.err = os.MkdirTemp("", name+"-"); b.err != nil { //nolint:usetesting // it outlives the test that needs it first
			return
		}
		build := exec.CommandContext(context.WithoutCancel(tb.Context()), "go", "build", "-o", b.dir, source) //nolint:gosec // the directory is its own
		out, err := build.CombinedOutput()
		if err != nil {
			b.err = fmt.Errorf("build %s: %w: %s", name, err, out)
		}
	})
	require.NoError(tb, b.err)
	return filepath.Join(b.dir, name)
}

// Command is the program with arguments. It outlives the test's context, so that cleanups can end it.
func (b *Binary) Command(tb testing.TB, args ...string) *exec.Cmd {
	tb.Helper()
	return exec.CommandContext(context.WithoutCancel(tb.Context()), b.Path(tb), args...) //nolint:gosec // the program under test
}

// Output is what a program has written, which may be read while it writes. Its zero value is ready.
type Output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *Output) Write(data []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(data)
}

func (o *Output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// Process is a program that runs, and what it writes.
type Process struct {
	Output

	command *exec.Cmd
}

// Start starts a program. What still runs of it when the test ends is killed, and what it wrote is shown if the test failed.
func Start(tb testing.TB, command *exec.Cmd) *Process {
	tb.Helper()
	p := &Process{command: command}
	command.Stdout, command.Stderr = p, p
	require.NoError(tb, command.Start())
	tb.Cleanup(func() {
		if command.ProcessState == nil {
			_ = command.Process.Kill() // or it has just ended
			_ = command.Wait()
		}
		if tb.Failed() {
			tb.Logf("%s:\n%s", filepath.Base(command.Path), p)
		}
	})
	return p
}

// End sends the program a signal and waits until it has ended. It is an error if the program does not end well.
func (p *Process) End(signal syscall.Signal) error {
	if err := p.command.Process.Signal(signal); err != nil {
		return fmt.Errorf("send %s: %w", signal, err)
	}
	return p.command.Wait()
}

// PID is the process's.
func (p *Process) PID() int { return p.command.Process.Pid }

// FreeAddress is a host:port on loopback where nobody listens.
func FreeAddress(tb testing.TB) string {
	tb.Helper()
	port, err := kube.FreePort(tb.Context())
	require.NoError(tb, err)
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
}
