// SPDX-License-Identifier: Apache-2.0

package lab_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/cloudveneto/caas/internal/lab"
)

func TestPlanHasNoOverlaps(t *testing.T) {
	t.Parallel()
	networks := lab.Networks()
	for i, one := range networks {
		for _, other := range networks[i+1:] {
			assert.False(t, one.Overlaps(other), "%s and %s", one, other)
		}
	}
	addresses, pods := lab.NodeAddresses()
	seen := map[netip.Addr]string{}
	for node, address := range addresses {
		assert.Empty(t, seen[address], "%s has the address of %s", node, seen[address])
		seen[address] = node
		assert.True(t, networks[0].Contains(address), "%s is on the LAN", node)
	}
	for node, one := range pods {
		for other, prefix := range pods {
			assert.False(t, node != other && one.Overlaps(prefix), "pods of %s and %s", node, other)
		}
	}
	assert.Equal(t, netip.MustParsePrefix("10.201.2.0/24"), pods["caas-2"])
	assert.Equal(t, netip.MustParsePrefix("10.202.1.0/24"), pods["af-1"])
}

func TestOpen(t *testing.T) {
	dir := t.TempDir()
	t.Setenv(lab.StateEnv, dir)
	_, err := lab.Open("none")
	require.ErrorIs(t, err, lab.ErrNoLab)
	for _, name := range []string{"", "UPPER", "a/b", "..", "-a", "a-", "a_b", "much-too-long-for-the-name-of-a-lab"} {
		_, err := lab.Open(name)
		require.ErrorContains(t, err, "lab name", "%q", name)
	}

	require.NoError(t, os.MkdirAll(filepath.Join(dir, "mine"), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "mine", "lab.json"),
		[]byte(`{"name": "mine", "hostPorts": {"caas": 20001, "af": 20002}, "binaries": "/cache/bin"}`), 0o600))
	names, err := lab.Names()
	require.NoError(t, err)
	assert.Equal(t, []string{"mine"}, names)
	l, err := lab.Open("mine")
	require.NoError(t, err)
	assert.Equal(t, "/run/netns/caas-mine", l.NetNS())
	assert.Equal(t, "/cache/bin/kubectl", l.Kubectl())
	cluster, err := l.Cluster(lab.AF)
	require.NoError(t, err)
	assert.Equal(t, "https://127.0.0.1:20002", cluster.Server())
	assert.Equal(t, "https://10.88.0.1:7443", cluster.InsideServer())
	_, err = l.Cluster("other")
	require.ErrorContains(t, err, `no cluster "other"`)

	status := l.Status(t.Context())
	assert.False(t, status.Healthy())
	assert.Contains(t, status.Problems, "cluster caas was not started")
	assert.Contains(t, status.Problems, "supervisor does not run")
	require.ErrorContains(t, l.WriteLog(t.Context(), io.Discard, "nothing", false), `no log "nothing"`)

	require.NoError(t, os.WriteFile(filepath.Join(dir, "mine", "lab.json"), []byte(`{`), 0o600))
	_, err = lab.Open("mine")
	require.ErrorContains(t, err, "decode state")
}

func TestUpRefuses(t *testing.T) {
	t.Setenv(lab.StateEnv, t.TempDir())
	tests := map[string]struct {
		cfg  lab.Config
		want string
	}{
		"bad name":          {lab.Config{Name: "No"}, "lab name"},
		"too many nodes":    {lab.Config{Name: "x", Nodes: map[string]int{lab.CaaS: 41}}, "cannot have 41 nodes"},
		"unknown cluster":   {lab.Config{Name: "x", Nodes: map[string]int{"other": 1}}, `no cluster "other"`},
		"not a source tree": {lab.Config{Name: "x", Source: t.TempDir()}, "is not the source tree"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := lab.Up(t.Context(), tc.cfg)
			require.ErrorContains(t, err, tc.want)
		})
	}
}

func TestCheckSpace(t *testing.T) {
	t.Parallel()
	require.ErrorContains(t, lab.CheckSpace("/proc"), "are free in /proc", "a file system without space")
	require.ErrorContains(t, lab.CheckSpace("/proc/nonexistent/deeper"), "are free in /proc", "where the directory will be")
}

func TestCheckWatchers(t *testing.T) {
	t.Parallel()
	proc := t.TempDir()
	require.ErrorContains(t, lab.CheckWatchers(proc, 1), "max_user_instances")
	limit := filepath.Join(proc, "sys/fs/inotify/max_user_instances")
	require.NoError(t, os.MkdirAll(filepath.Dir(limit), 0o700))
	require.NoError(t, os.WriteFile(limit, []byte("128\n"), 0o600))
	for process, files := range map[string][]string{
		"1":    {"/dev/null", "anon_inode:inotify", "anon_inode:[eventfd]", "anon_inode:inotify"},
		"22":   {"anon_inode:inotify", "socket:[1]"},
		"self": {"anon_inode:inotify"},
		"333":  nil,
	} {
		dir := filepath.Join(proc, process, "fd")
		require.NoError(t, os.MkdirAll(dir, 0o700))
		for i, target := range files {
			require.NoError(t, os.Symlink(target, filepath.Join(dir, strconv.Itoa(i))))
		}
	}
	require.NoError(t, lab.CheckWatchers(proc, 125))
	require.ErrorContains(t, lab.CheckWatchers(proc, 126), "125 inotify instances left and the lab takes 126")
	require.NoError(t, os.WriteFile(limit, []byte("2\n"), 0o600))
	require.ErrorContains(t, lab.CheckWatchers(proc, 1), "0 inotify instances left")
}

// TestCheckWatchersHere counts those of the machine, of which this process has one more.
func TestCheckWatchersHere(t *testing.T) {
	t.Parallel()
	watcher, err := unix.InotifyInit1(unix.IN_CLOEXEC)
	require.NoError(t, err)
	defer func() { assert.NoError(t, unix.Close(watcher)) }()
	proc := t.TempDir()
	require.NoError(t, os.Symlink("/proc/"+strconv.Itoa(os.Getpid()), filepath.Join(proc, "1")))
	limit := filepath.Join(proc, "sys/fs/inotify/max_user_instances")
	require.NoError(t, os.MkdirAll(filepath.Dir(limit), 0o700))
	require.NoError(t, os.WriteFile(limit, []byte("1\n"), 0o600))
	require.ErrorContains(t, lab.CheckWatchers(proc, 1), "0 inotify instances left")
	require.NoError(t, lab.CheckWatchers("/proc", 1))
}

func TestRunStep(t *testing.T) {
	t.Parallel()
	failure := errors.New("went wrong")
	var seen []lab.Progress
	err := lab.RunStep(t.Context(), func(p lab.Progress) { seen = append(seen, p) }, "work",
		func(_ context.Context, detail func(string)) error {
			detail("half of it")
			return failure
		})
	require.ErrorIs(t, err, failure)
	require.GreaterOrEqual(t, len(seen), 2)
	assert.Equal(t, lab.Progress{Step: "work"}, lab.Progress{Step: seen[0].Step, Detail: seen[0].Detail, Done: seen[0].Done})
	last := seen[len(seen)-1]
	assert.True(t, last.Done)
	assert.Equal(t, failure, last.Err)
	assert.Equal(t, "half of it", last.Detail)
	require.NoError(t, lab.RunStep(t.Context(), nil, "silent", func(context.Context, func(string)) error { return nil }))
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = listener.Close() })
	return listener
}

func TestForward(t *testing.T) {
	t.Parallel()
	far := listen(t)
	go func() { // answers when the question is over, which it learns from the half-closed connection
		for {
			conn, err := far.Accept()
			if err != nil {
				return
			}
			question, _ := io.ReadAll(conn)
			_, _ = fmt.Fprintf(conn, "%d bytes", len(question))
			_ = conn.Close()
		}
	}()
	near := listen(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan struct{})
	go func() {
		defer close(done)
		lab.Forward(ctx, near, (&net.Dialer{}).DialContext, far.Addr().String())
	}()

	dial := func() *net.TCPConn {
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", near.Addr().String())
		require.NoError(t, err)
		return conn.(*net.TCPConn)
	}
	conn := dial()
	_, err := conn.Write(make([]byte, 1<<20))
	require.NoError(t, err)
	require.NoError(t, conn.CloseWrite())
	answer, err := io.ReadAll(conn)
	require.NoError(t, err)
	assert.Equal(t, "1048576 bytes", string(answer))

	open := dial()
	_, err = open.Write([]byte("x"))
	require.NoError(t, err)
	cancel()
	<-done // although a connection is open
	require.NoError(t, open.SetReadDeadline(time.Now().Add(5*time.Second)))
	_, err = open.Read(make([]byte, 1))
	require.Error(t, err)
	assert.NotErrorIs(t, err, os.ErrDeadlineExceeded, "the connection was closed")
}

func TestForwardToNobody(t *testing.T) {
	t.Parallel()
	gone := listen(t)
	require.NoError(t, gone.Close())
	near := listen(t)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		lab.Forward(ctx, near, (&net.Dialer{}).DialContext, gone.Addr().String())
	}()
	for range 2 { // the first failure does not end it
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", near.Addr().String())
		require.NoError(t, err)
		_, err = io.ReadAll(conn)
		if err != nil {
			require.ErrorIs(t, err, syscall.ECONNRESET)
		}
	}
	cancel()
	<-done
}

func TestKillInNamespace(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: making a network namespace needs root")
	}
	require.NoError(t, lab.KillInNamespace(t.Context(), "/run/netns/nonexistent"))
	start := func(flags uintptr) *exec.Cmd {
		cmd := exec.CommandContext(t.Context(), "sleep", "60")
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: flags}
		require.NoError(t, cmd.Start())
		return cmd
	}
	inside, outside := start(syscall.CLONE_NEWNET), start(0)
	t.Cleanup(func() { _ = outside.Process.Kill(); _ = outside.Wait() })
	ended := make(chan error, 1)
	go func() { ended <- inside.Wait() }()
	// The namespace is held open, as a mounted one is, so that it can be looked at after its last process.
	held := filepath.Join(t.TempDir(), "ns")
	namespace, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", inside.Process.Pid))
	require.NoError(t, err)
	defer func() { _ = namespace.Close() }()
	require.NoError(t, os.Symlink(fmt.Sprintf("/proc/self/fd/%d", namespace.Fd()), held))
	require.NoError(t, lab.KillInNamespace(t.Context(), held))
	require.ErrorContains(t, <-ended, "killed")
	require.NoError(t, outside.Process.Signal(syscall.Signal(0)), "the others live")
}
