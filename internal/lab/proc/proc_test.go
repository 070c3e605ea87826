// SPDX-License-Identifier: Apache-2.0

package proc_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/cloudveneto/caas/internal/lab/proc"
)

// starterEnv makes the test binary act as a starter that is killed (see TestEndWithStarter).
const starterEnv = "PROC_TEST_STARTER_DIR"

func shell(name, script string) proc.Spec {
	return proc.Spec{Name: name, Path: "sh", Args: []string{"-c", script}}
}

func start(t *testing.T, dir string, spec proc.Spec) *proc.Process {
	t.Helper()
	p, err := proc.Start(t.Context(), dir, spec)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, p.Kill()) })
	return p
}

func TestStartRecordsAndLogs(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	spec := shell("talk", `echo "$WORD to stdout"; echo "to stderr" >&2; pwd; exec sleep 60`)
	spec.Env = []string{"WORD=hello"}
	p := start(t, dir, spec)
	require.True(t, p.Alive())

	log := filepath.Join(dir, "talk.log")
	require.Eventually(t, func() bool {
		data, _ := os.ReadFile(log)
		return string(data) == "hello to stdout\nto stderr\n"+dir+"\n"
	}, 5*time.Second, 10*time.Millisecond)
	info, err := os.Stat(filepath.Join(dir, "talk.json"))
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o600), info.Mode().Perm())

	again, err := proc.Load(dir, "talk")
	require.NoError(t, err)
	assert.Equal(t, p.PID(), again.PID())
	assert.Equal(t, p.Spec(), again.Spec())
	assert.True(t, again.Alive())

	_, err = proc.Start(t.Context(), dir, shell("talk", "true"))
	require.ErrorIs(t, err, proc.ErrRunning)

	session, err := exec.CommandContext(t.Context(), "ps", "-o", "sid=", "-p", strconv.Itoa(p.PID())).Output()
	require.NoError(t, err)
	assert.Equal(t, strconv.Itoa(p.PID()), strings.TrimSpace(string(session)), "leads a session of its own")
}

func TestStop(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		script   string
		grace    time.Duration
		wantLast string
	}{
		"ends when asked":          {`trap 'echo asked; exit 0' TERM; echo ready; while :; do sleep 0.02; done`, time.Minute, "asked"},
		"killed after the grace":   {`trap '' TERM; echo ready; while :; do sleep 0.02; done`, 50 * time.Millisecond, "ready"},
		"gone already is no error": {`echo ready`, time.Minute, "ready"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			p := start(t, dir, shell("job", tc.script))
			lastLine := func() string {
				data, _ := os.ReadFile(filepath.Join(dir, "job.log"))
				lines := strings.Split(strings.TrimSpace(string(data)), "\n")
				return lines[len(lines)-1]
			}
			require.Eventually(t, func() bool { return lastLine() == "ready" }, 5*time.Second, 5*time.Millisecond)

			require.NoError(t, p.Stop(t.Context(), tc.grace))
			assert.False(t, p.Alive())
			assert.Equal(t, tc.wantLast, lastLine())
			_, err := proc.Load(dir, "job")
			require.ErrorIs(t, err, os.ErrNotExist)
			require.NoError(t, p.Stop(t.Context(), tc.grace), "stopping twice")
		})
	}
}

func TestKillTakesTheGroupAndLeavesNoZombie(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := start(t, dir, shell("parent", `sleep 60 & echo $!; wait`))
	var child int
	require.Eventually(t, func() bool {
		data, _ := os.ReadFile(filepath.Join(dir, "parent.log"))
		child, _ = strconv.Atoi(strings.TrimSpace(string(data)))
		return child > 0
	}, 5*time.Second, 5*time.Millisecond)

	require.NoError(t, p.Kill())
	require.Eventually(t, func() bool { return syscall.Kill(p.PID(), 0) != nil }, 5*time.Second, 5*time.Millisecond,
		"the ended process is collected")
	require.Eventually(t, func() bool { return !running(child) }, 5*time.Second, 5*time.Millisecond)
}

func TestEndGroup(t *testing.T) {
	t.Parallel()
	for name, script := range map[string]string{
		"a helper that ends by itself": `(sleep 0.5) & echo $!; exec sleep 0.01`,
		"a helper that does not":       `(trap '' TERM; while :; do sleep 0.02; done) & echo $!; exec sleep 0.01`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			p := start(t, dir, shell("parent", script))
			require.NoError(t, p.Wait(t.Context()))
			data, err := os.ReadFile(filepath.Join(dir, "parent.log"))
			require.NoError(t, err)
			helper, err := strconv.Atoi(strings.TrimSpace(string(data)))
			require.NoError(t, err)
			require.NoError(t, p.Stop(t.Context(), time.Minute))
			require.NoError(t, p.EndGroup(t.Context(), time.Second))
			assert.False(t, running(helper))
			require.NoError(t, p.EndGroup(t.Context(), time.Second), "nothing is left")
		})
	}
}

// running tells whether pid runs; nobody but a real init collects an orphan, so a zombie counts as ended.
func running(pid int) bool {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !strings.Contains(string(data), ") Z ")
}

func TestAnotherProcessWithTheNumberIsLeftAlone(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		field string
		value any
	}{
		"other start time": {"startTime", 1},
		"other boot":       {"bootID", "00000000-0000-0000-0000-000000000000"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			p := start(t, dir, shell("victim", "exec sleep 60"))
			path := filepath.Join(dir, "victim.json")
			data, err := os.ReadFile(path)
			require.NoError(t, err)
			var rec map[string]any
			require.NoError(t, json.Unmarshal(data, &rec))
			rec[tc.field] = tc.value
			data, err = json.Marshal(rec)
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(path, data, 0o600))

			stranger, err := proc.Load(dir, "victim")
			require.NoError(t, err)
			assert.False(t, stranger.Alive())
			require.NoError(t, stranger.Kill())
			assert.True(t, p.Alive(), "the process with the same number still runs")
			_, err = proc.Load(dir, "victim")
			require.ErrorIs(t, err, os.ErrNotExist, "the stale record is gone")
		})
	}
}

func TestAll(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	none, err := proc.All(filepath.Join(dir, "absent"))
	require.NoError(t, err)
	assert.Empty(t, none)

	start(t, dir, shell("b", "exec sleep 60"))
	start(t, dir, shell("a", "exec sleep 60"))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "note.txt"), nil, 0o600))
	all, err := proc.All(dir)
	require.NoError(t, err)
	var names []string
	for _, p := range all {
		names = append(names, p.Name())
	}
	assert.Equal(t, []string{"a", "b"}, names)
}

func TestStartRefuses(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		spec proc.Spec
		want string
	}{
		"no name":            {proc.Spec{Path: "true"}, "not a plain file name"},
		"name with a slash":  {proc.Spec{Name: "../x", Path: "true"}, "not a plain file name"},
		"no program":         {proc.Spec{Name: "x"}, "has no program"},
		"program is missing": {proc.Spec{Name: "x", Path: "/nonexistent/program"}, "no such file"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			_, err := proc.Start(t.Context(), dir, tc.spec)
			require.ErrorContains(t, err, tc.want)
			all, err := proc.All(dir)
			require.NoError(t, err)
			assert.Empty(t, all)
		})
	}
}

// TestEndWithStarter runs the test binary again as a starter and kills that.
func TestEndWithStarter(t *testing.T) {
	if dir := os.Getenv(starterEnv); dir != "" {
		spec := shell("child", "exec sleep 60")
		spec.EndWithStarter = true
		p, err := proc.Start(t.Context(), dir, spec)
		require.NoError(t, err)
		fmt.Fprintln(os.Stderr, "pid", p.PID())
		<-t.Context().Done()
		return
	}
	t.Parallel()
	dir := t.TempDir()
	starter := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestEndWithStarter$")
	starter.Env = append(os.Environ(), starterEnv+"="+dir)
	out, err := starter.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, starter.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	require.Contains(t, line, "pid ")

	p, err := proc.Load(dir, "child")
	require.NoError(t, err)
	require.True(t, p.Alive())
	require.NoError(t, starter.Process.Kill())
	require.Error(t, starter.Wait())
	require.NoError(t, p.Wait(t.Context()))
}

func TestNetNS(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: entering a network namespace needs root")
	}
	dir := t.TempDir()
	holder := exec.CommandContext(t.Context(), "sleep", "60")
	holder.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	require.NoError(t, holder.Start())
	t.Cleanup(func() { _ = holder.Process.Kill(); _ = holder.Wait() })

	spec := shell("inside", "exec sleep 60")
	spec.NetNS = fmt.Sprintf("/proc/%d/ns/net", holder.Process.Pid)
	p := start(t, dir, spec)
	want, err := os.Readlink(spec.NetNS)
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		cmdline, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", p.PID()))
		return strings.HasPrefix(string(cmdline), "sleep\x00")
	}, 5*time.Second, 5*time.Millisecond, "the id is the program's own")
	got, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", p.PID()))
	require.NoError(t, err)
	assert.Equal(t, want, got)
}
