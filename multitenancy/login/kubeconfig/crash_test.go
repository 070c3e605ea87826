// SPDX-License-Identifier: Apache-2.0

package kubeconfig_test

import (
	"context"
	"errors"
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

	"github.com/cloudveneto/caas/multitenancy/login/kubeconfig"
)

// Parts that the test binary plays, in processes of their own.
const (
	playedPart = "KUBECONFIG_TEST_PART"
	playedFile = "KUBECONFIG_TEST_FILE"
)

func TestMain(m *testing.M) {
	part, file := os.Getenv(playedPart), os.Getenv(playedFile)
	if part == "" {
		os.Exit(m.Run())
	}
	files := kubeconfig.Store{Paths: []string{file}}
	change := login("new-token")
	change.Force = true
	name, argument, _ := strings.Cut(part, ":")
	switch name {
	case "die":
		files.Faults = diesBefore(argument)
	case "full":
		// What the system does when the disk is full, for files of more than some bytes.
		limit := syscall.Rlimit{Cur: 900, Max: 900}
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
			os.Exit(9)
		}
	case "join":
		files.Patience = time.Minute // many wait for each other, on a busy disk
		change = kubeconfig.Change{Users: []kubeconfig.User{{Name: "user-" + argument, Token: "t"}}}
	}
	if _, err := files.Apply(context.Background(), change); err != nil {
		_, _ = os.Stderr.WriteString(err.Error())
		os.Exit(1)
	}
	os.Exit(0)
}

func play(t *testing.T, part, file string) (string, *os.ProcessState) {
	t.Helper()
	command := exec.CommandContext(t.Context(), os.Args[0])
	command.Env = append(os.Environ(), playedPart+"="+part, playedFile+"="+file)
	out, _ := command.CombinedOutput()
	return string(out), command.ProcessState
}

// diesBefore ends the process as kill -9 does.
type diesBefore kubeconfig.Step

func (d diesBefore) Before(step kubeconfig.Step, _ string) error {
	if step == kubeconfig.Step(d) {
		return errors.Join(syscall.Kill(os.Getpid(), syscall.SIGKILL), errors.New("still alive"))
	}
	return nil
}

// clash is a file in which something is replaced, so that every step happens.
const clash = foreign + "users2: []\n"

func clashing(t *testing.T) string {
	t.Helper()
	text := strings.Replace(foreign, "- name: me\n", "- name: "+mine+"\n  user: {token: old}\n- name: me\n", 1)
	path := filepath.Join(t.TempDir(), "config")
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

func TestKilledAtEachStep(t *testing.T) {
	t.Parallel()
	for _, step := range kubeconfig.Steps() {
		t.Run(string(step), func(t *testing.T) {
			t.Parallel()
			path := clashing(t)
			before := read(t, path)
			_, state := play(t, "die:"+string(step), path)
			status, ok := state.Sys().(syscall.WaitStatus)
			require.True(t, ok)
			require.Equal(t, syscall.SIGKILL, status.Signal(), "it was killed there")
			if step == kubeconfig.StepDone {
				usable(t, path, "new-token")
			} else {
				assert.Equal(t, before, read(t, path))
			}
			// The next run is not in the way of what the last one has left behind, and tidies up.
			change := login("next")
			change.Force = true
			_, err := kubeconfig.Store{Paths: []string{path}}.Apply(t.Context(), change)
			require.NoError(t, err)
			usable(t, path, "next")
			entries, err := os.ReadDir(filepath.Dir(path))
			require.NoError(t, err)
			for _, entry := range entries {
				assert.True(t, entry.Name() == "config" || strings.HasPrefix(entry.Name(), "config.bak-"), entry.Name())
			}
		})
	}
}

// failsAt is a disk that fails.
type failsAt kubeconfig.Step

func (f failsAt) Before(step kubeconfig.Step, _ string) error {
	if step == kubeconfig.Step(f) {
		return errors.New("input/output error")
	}
	return nil
}

func TestFailsAtEachStep(t *testing.T) {
	t.Parallel()
	for _, step := range kubeconfig.Steps() {
		t.Run(string(step), func(t *testing.T) {
			t.Parallel()
			path := clashing(t)
			before := read(t, path)
			change := login("new-token")
			change.Force = true
			_, err := kubeconfig.Store{Paths: []string{path}, Faults: failsAt(step)}.Apply(t.Context(), change)
			require.ErrorContains(t, err, "input/output error")
			if step == kubeconfig.StepDone {
				usable(t, path, "new-token")
			} else {
				assert.Equal(t, before, read(t, path))
			}
			entries, err := os.ReadDir(filepath.Dir(path))
			require.NoError(t, err)
			for _, entry := range entries {
				assert.True(t, entry.Name() == "config" || strings.HasPrefix(entry.Name(), "config.bak-"), entry.Name())
			}
		})
	}
}

func TestFullDisk(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "config")
	require.NoError(t, os.WriteFile(path, []byte(clash), 0o600))
	out, state := play(t, "full", path)
	assert.Equal(t, 1, state.ExitCode(), out)
	assert.Contains(t, out, "cannot be written, and is as it was")
	assert.Equal(t, clash, read(t, path))
	entries, err := os.ReadDir(filepath.Dir(path))
	require.NoError(t, err)
	assert.Len(t, entries, 1)
}

func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "config")
	require.NoError(t, os.WriteFile(path, []byte(foreign), 0o600))
	const runs = 12
	var all sync.WaitGroup
	for i := range runs {
		all.Go(func() {
			out, state := play(t, fmt.Sprintf("join:%d", i), path)
			assert.Equal(t, 0, state.ExitCode(), out)
		})
	}
	all.Wait()
	view, err := kubeconfig.Store{Paths: []string{path}}.View()
	require.NoError(t, err)
	assert.Len(t, view.Users, runs, "nobody's login is lost")
	for line := range strings.SplitSeq(foreign, "\n") {
		assert.Contains(t, read(t, path), line)
	}
}

func TestKubectlsLock(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "config")
	require.NoError(t, os.WriteFile(path, []byte(foreign), 0o600))
	lock, err := os.OpenFile(path+".lock", os.O_CREATE|os.O_EXCL, 0) // as kubectl does
	require.NoError(t, err)
	require.NoError(t, lock.Close())
	files := kubeconfig.Store{Paths: []string{path}, Patience: 100 * time.Millisecond}
	_, err = files.Apply(t.Context(), login("first"))
	require.True(t, kubeconfig.Is(err, kubeconfig.Locked), "%v", err)
	assert.Contains(t, err.Error(), "remove "+path+".lock")
	assert.Equal(t, foreign, read(t, path))
	assert.FileExists(t, path+".lock", "it is not ours to remove")

	files.Patience = 10 * time.Second
	time.AfterFunc(200*time.Millisecond, func() { _ = os.Remove(path + ".lock") })
	_, err = files.Apply(t.Context(), login("first"))
	require.NoError(t, err)
	usable(t, path, "first")
	assert.NoFileExists(t, path+".lock")
}

func TestOneLockHoweverTheFileIsCalled(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	home := filepath.Join(dir, "data", "home")
	require.NoError(t, os.MkdirAll(home, 0o700))
	require.NoError(t, os.Symlink("data/home", filepath.Join(dir, "home")))
	for name, path := range map[string]string{
		"a directory behind a link": filepath.Join(dir, "home", "config"), "a way round": home + "/./round",
		"in a directory that is made": filepath.Join(dir, "home", ".kube", "config"),
	} {
		_, err := kubeconfig.Store{Paths: []string{path}, Patience: 100 * time.Millisecond}.Apply(t.Context(), login("first"))
		require.NoError(t, err, name)
		usable(t, path, "first")
	}
}

// meddler changes the file just before it is replaced, without taking the lock.
type meddler struct {
	t     *testing.T
	times int
}

func (m *meddler) Before(step kubeconfig.Step, path string) error {
	if step == kubeconfig.StepRename && m.times > 0 {
		m.times--
		require.NoError(m.t, os.WriteFile(path, []byte(read(m.t, path)+"# edited\n"), 0o600))
	}
	return nil
}

func TestEditedMeanwhile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "config")
	require.NoError(t, os.WriteFile(path, []byte(foreign), 0o600))
	_, err := kubeconfig.Store{Paths: []string{path}, Faults: &meddler{t, 2}}.Apply(t.Context(), login("first"))
	require.NoError(t, err)
	usable(t, path, "first")
	assert.Equal(t, 2, strings.Count(read(t, path), "# edited\n"))

	_, err = kubeconfig.Store{Paths: []string{path}, Faults: &meddler{t, 1000}}.Apply(t.Context(), login("second"))
	require.True(t, kubeconfig.Is(err, kubeconfig.Unwritable), "%v", err)
	usable(t, path, "first")
}
