// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package labtest

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// Terminal is a pseudo terminal and what it shows: somebody who sits before a program.
type Terminal struct {
	t           *testing.T
	master, tty *os.File
	lines       chan string
}

// NewTerminal makes a terminal that is gone with the test.
func NewTerminal(t *testing.T) *Terminal {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	require.NoError(t, err)
	t.Cleanup(func() { _ = master.Close() })
	require.NoError(t, unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0))
	number, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	require.NoError(t, err)
	tty, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	require.NoError(t, err)
	t.Cleanup(func() { _ = tty.Close() })
	return &Terminal{t: t, master: master, tty: tty, lines: make(chan string, 1000)}
}

// Run starts a program on the terminal.
func (s *Terminal) Run(command *exec.Cmd) {
	s.t.Helper()
	command.Stdin, command.Stdout, command.Stderr = s.tty, s.tty, s.tty
	command.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	require.NoError(s.t, command.Start())
	go func() {
		defer close(s.lines)
		for scanner := bufio.NewScanner(s.master); scanner.Scan(); {
			s.lines <- scanner.Text()
		}
	}()
}

// Resize gives the terminal another size.
func (s *Terminal) Resize(columns, rows uint16) {
	s.t.Helper()
	require.NoError(s.t, unix.IoctlSetWinsize(int(s.master.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Col: columns, Row: rows}))
}

// Type types a line.
func (s *Terminal) Type(line string) {
	s.t.Helper()
	_, err := io.WriteString(s.master, line+"\n")
	require.NoError(s.t, err)
}

// Await waits for a line that matches.
func (s *Terminal) Await(pattern string) {
	s.t.Helper()
	limit := time.NewTimer(30 * time.Second).C
	var seen []string
	for {
		select {
		case line, open := <-s.lines:
			seen = append(seen, line)
			if regexp.MustCompile(pattern).MatchString(line) {
				return
			}
			require.True(s.t, open, "the terminal ended without %q: %q", pattern, seen)
		case <-limit:
			require.Fail(s.t, "not shown", "%q in %q", pattern, seen)
		}
	}
}
