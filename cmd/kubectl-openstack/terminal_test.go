// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/cloudveneto/caas/multitenancy/login/identitytest"
)

// screen is a terminal with what has been on it.
type screen struct {
	master, tty *os.File

	mu   sync.Mutex
	text bytes.Buffer
}

func openScreen(t *testing.T) *screen {
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
	s := &screen{master: master, tty: tty}
	go func() {
		part := make([]byte, 1024)
		for {
			n, err := master.Read(part)
			s.mu.Lock()
			s.text.Write(part[:n])
			s.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	return s
}

func (s *screen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

func (s *screen) shows(t *testing.T, text string) {
	t.Helper()
	require.Eventually(t, func() bool { return strings.Contains(s.String(), text) }, 20*time.Second, 5*time.Millisecond, "%q", s)
}

// echoes tells whether what is typed is shown.
func (s *screen) echoes(t *testing.T) bool {
	t.Helper()
	state, err := unix.IoctlGetTermios(int(s.tty.Fd()), unix.TCGETS)
	require.NoError(t, err)
	return state.Lflag&unix.ECHO != 0
}

// person is somebody at a terminal, who has the site's settings.
func person(t *testing.T, s *screen) *exec.Cmd {
	t.Helper()
	server := identitytest.Start(t)
	server.AddProject(identitytest.Project{ID: "1111", Name: "CMS", Namespace: "cms"})
	server.AddUser(identitytest.User{ID: "u1", Name: "zangrand@infn.it", Password: password, Roles: map[string][]string{"CMS": {"member"}}})
	home := t.TempDir()
	config := filepath.Join(home, "config.yaml")
	require.NoError(t, os.WriteFile(config, fmt.Appendf(nil, "server: %s\nauthURL: %s\n", server.URL, server.AuthURL()), 0o600))
	path, err := exec.LookPath("kubectl-openstack")
	require.NoError(t, err, "the test binary plays the program")
	command := exec.CommandContext(t.Context(), path, "-user=zangrand@infn.it")
	command.Env = append(os.Environ(), "HOME="+home, "KUBECTL_OPENSTACK_CONFIG="+config, "KUBECONFIG=")
	command.Stdin, command.Stdout, command.Stderr = s.tty, s.tty, s.tty
	command.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	return command
}

func TestPasswordIsNotShown(t *testing.T) {
	t.Parallel()
	s := openScreen(t)
	command := person(t, s)
	require.NoError(t, command.Start())
	s.shows(t, "Password of zangrand@infn.it:")
	require.Eventually(t, func() bool { return !s.echoes(t) }, 20*time.Second, 5*time.Millisecond)
	_, err := s.master.WriteString(password + "\n")
	require.NoError(t, err)
	require.NoError(t, command.Wait())
	s.shows(t, "kubectl configured correctly")
	assert.NotContains(t, s.String(), password)
	assert.True(t, s.echoes(t))
}

func TestInterruptLeavesTheTerminalAsItWas(t *testing.T) {
	t.Parallel()
	s := openScreen(t)
	command := person(t, s)
	require.NoError(t, command.Start())
	require.Eventually(t, func() bool { return !s.echoes(t) }, 20*time.Second, 5*time.Millisecond)
	require.NoError(t, command.Process.Signal(os.Interrupt))
	require.Error(t, command.Wait())
	assert.True(t, s.echoes(t))
}

// TestNoCoreDump lets the program crash while it has a password, where dumps of any size are wanted.
func TestNoCoreDump(t *testing.T) {
	var before unix.Rlimit
	require.NoError(t, unix.Getrlimit(unix.RLIMIT_CORE, &before))
	require.NoError(t, unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{Cur: before.Max, Max: before.Max}))
	t.Cleanup(func() { assert.NoError(t, unix.Setrlimit(unix.RLIMIT_CORE, &before)) })
	s := openScreen(t)
	command := person(t, s)
	command.Dir = t.TempDir()
	require.NoError(t, command.Start())
	require.Eventually(t, func() bool { return !s.echoes(t) }, 20*time.Second, 5*time.Millisecond)
	limits, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", command.Process.Pid))
	require.NoError(t, err)
	assert.Regexp(t, `Max core file size +0 +0 `, string(limits))
	require.NoError(t, command.Process.Signal(syscall.SIGSEGV))
	require.Error(t, command.Wait())
	status, ok := command.ProcessState.Sys().(syscall.WaitStatus)
	require.True(t, ok)
	assert.False(t, status.CoreDump())
	left, err := os.ReadDir(command.Dir)
	require.NoError(t, err)
	assert.Empty(t, left)
}

// TestListOfProcesses looks for secrets where everybody can see them, while the program logs in from each safe source.
func TestListOfProcesses(t *testing.T) {
	t.Parallel()
	server := identitytest.Start(t)
	server.AddProject(identitytest.Project{ID: "1111", Name: "CMS", Namespace: "cms"})
	server.AddUser(identitytest.User{ID: "u1", Name: "zangrand@infn.it", Password: password, Roles: map[string][]string{"CMS": {"member"}}})
	for name, test := range map[string]struct {
		args        []string
		stdin       string
		environment string
	}{
		"standard input": {[]string{"-user=zangrand@infn.it", "-password-stdin", "-v"}, password + "\n", ""},
		"environment":    {[]string{"-user=zangrand@infn.it", "-exec", "-v"}, "", "OS_PASSWORD=" + password},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			home := t.TempDir()
			config := filepath.Join(home, "config.yaml")
			require.NoError(t, os.WriteFile(config, fmt.Appendf(nil, "server: %s\nauthURL: %s\nsecrets: file\n", server.URL, server.AuthURL()), 0o600))
			path, err := exec.LookPath("kubectl-openstack")
			require.NoError(t, err)
			command := exec.CommandContext(t.Context(), path, test.args...)
			command.Env = append(os.Environ(), "HOME="+home, "KUBECTL_OPENSTACK_CONFIG="+config, "KUBECONFIG=", test.environment)
			command.Stdin = strings.NewReader(test.stdin)
			var out bytes.Buffer
			command.Stdout, command.Stderr = &out, &out
			require.NoError(t, command.Start())
			done := make(chan error, 1)
			go func() { done <- command.Wait() }()
			for running := true; running; {
				select {
				case err := <-done:
					require.NoError(t, err, out.String())
					running = false
				default:
					assert.NotContains(t, commandLines(), password)
				}
			}
			assert.Contains(t, out.String(), "asked keystone")
			assert.NotContains(t, out.String(), password)
			for _, token := range server.Valid() {
				assert.NotContains(t, out.String(), token.Value)
			}
		})
	}
}

// commandLines are those of this program's processes, as ps shows them.
func commandLines() string {
	found, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	var all strings.Builder
	for _, path := range found {
		if text, err := os.ReadFile(path); err == nil && bytes.Contains(text, []byte("kubectl-openstack")) && !bytes.Contains(text, []byte("-password=")) {
			all.Write(text)
		}
	}
	return all.String()
}
