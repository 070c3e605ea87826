// SPDX-License-Identifier: Apache-2.0

package gobuild_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/cloudveneto/caas/internal/lab/gobuild"
)

func target() gobuild.Target {
	return gobuild.Target{
		Name: "hello", Module: "hack/hello", Package: ".", LDFlags: "-X main.word=flags", Links: []string{"alias"},
	}
}

// sourceTree makes a tree with a module that says what word it was linked with, and by which name it was called.
func sourceTree(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	for path, content := range map[string]string{
		"hack/kube/go.mod":        "module example.org/kube\n",
		"hack/hello/go.mod":       "module example.org/hello\n\ngo 1.21\n",
		"hack/hello/main.go":      "package main\n\nimport \"os\"\n\nvar word = \"none\"\n\nfunc main() { os.Stdout.WriteString(word + \" \" + os.Args[0]) }\n",
		"hack/hello/main_test.go": "package main\n",
	} {
		file := filepath.Join(root, path)
		require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o700))
		require.NoError(t, os.WriteFile(file, []byte(content), 0o600))
	}
	return root
}

func TestBuildOnce(t *testing.T) {
	t.Parallel()
	source, cache := sourceTree(t), t.TempDir()
	var (
		builds atomic.Int32
		group  sync.WaitGroup
		dirs   [4]string
		errs   [4]error
	)
	for i := range dirs {
		group.Go(func() {
			var first sync.Once
			dirs[i], errs[i] = gobuild.Build(t.Context(), gobuild.Config{
				Target: target(), Source: source, Cache: cache,
				Progress: func(step string, _ time.Duration) {
					if step == "building hello" {
						first.Do(func() { builds.Add(1) })
					}
				},
			})
		})
	}
	group.Wait()
	for i := range dirs {
		require.NoError(t, errs[i])
		assert.Equal(t, dirs[0], dirs[i])
	}
	assert.Equal(t, int32(1), builds.Load(), "all but one waited for its build")

	alias := filepath.Join(dirs[0], "alias")
	out, err := exec.CommandContext(t.Context(), alias).Output()
	require.NoError(t, err)
	assert.Equal(t, "flags "+alias, string(out))
	entries, err := os.ReadDir(filepath.Dir(dirs[0]))
	require.NoError(t, err)
	assert.Len(t, entries, 2, "the build and its lock; nothing half-made")
}

func TestFailedBuildLeavesNothing(t *testing.T) {
	t.Parallel()
	source, cache := sourceTree(t), t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(source, "hack/hello/broken.go"), []byte("package main\n\nvar x int = \"text\"\n"), 0o600))
	_, err := gobuild.Build(t.Context(), gobuild.Config{Target: target(), Source: source, Cache: cache})
	require.ErrorContains(t, err, "build hello")
	require.ErrorContains(t, err, "broken.go:3", "the compiler's words are shown")
	require.NoError(t, os.Remove(filepath.Join(source, "hack/hello/broken.go")))
	_, err = gobuild.Build(t.Context(), gobuild.Config{Target: target(), Source: source, Cache: cache})
	require.NoError(t, err)
}

func TestKey(t *testing.T) {
	t.Parallel()
	key := func(t *testing.T, source, toolchain string, target gobuild.Target) string {
		t.Helper()
		key, err := target.Key(filepath.Join(source, "hack/hello"), toolchain)
		require.NoError(t, err)
		return key
	}
	tests := map[string]struct {
		change  func(t *testing.T, dir string, toolchain *string, target *gobuild.Target)
		differs bool
	}{
		"nothing": {func(*testing.T, string, *string, *gobuild.Target) {}, false},
		"a test": {func(t *testing.T, dir string, _ *string, _ *gobuild.Target) {
			t.Helper()
			require.NoError(t, os.WriteFile(filepath.Join(dir, "main_test.go"), []byte("package main_test\n"), 0o600))
		}, false},
		"a source": {func(t *testing.T, dir string, _ *string, _ *gobuild.Target) {
			t.Helper()
			require.NoError(t, os.WriteFile(filepath.Join(dir, "more.go"), []byte("package main\n"), 0o600))
		}, true},
		"a checksum": {func(t *testing.T, dir string, _ *string, _ *gobuild.Target) {
			t.Helper()
			require.NoError(t, os.WriteFile(filepath.Join(dir, "go.sum"), []byte("x\n"), 0o600))
		}, true},
		"the toolchain": {func(_ *testing.T, _ string, toolchain *string, _ *gobuild.Target) { *toolchain = "go1.99" }, true},
		"linker flags":  {func(_ *testing.T, _ string, _ *string, target *gobuild.Target) { target.LDFlags = "-s" }, true},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			source, toolchain, what := sourceTree(t), "go1.26.0", target()
			before := key(t, source, toolchain, what)
			tc.change(t, filepath.Join(source, "hack/hello"), &toolchain, &what)
			assert.Equal(t, tc.differs, before != key(t, source, toolchain, what))
		})
	}
}

func TestFindSource(t *testing.T) {
	source := sourceTree(t)
	t.Setenv(gobuild.SourceEnv, "")
	t.Chdir(filepath.Join(source, "hack/hello"))
	found, err := gobuild.FindSource("")
	require.NoError(t, err)
	assert.Equal(t, source, found, "a parent of the working directory")

	t.Chdir(t.TempDir())
	_, err = gobuild.FindSource("")
	require.ErrorContains(t, err, gobuild.SourceEnv, "says what to do")
	t.Setenv(gobuild.SourceEnv, source)
	found, err = gobuild.FindSource("")
	require.NoError(t, err)
	assert.Equal(t, source, found)
	_, err = gobuild.FindSource(t.TempDir())
	require.ErrorIs(t, err, os.ErrNotExist)
}

func TestCacheDir(t *testing.T) {
	home := t.TempDir()
	t.Setenv(gobuild.CacheEnv, "")
	t.Setenv("XDG_CACHE_HOME", home)
	dir, err := gobuild.CacheDir()
	require.NoError(t, err)
	assert.Equal(t, filepath.Join(home, "caas-lab"), dir)
	t.Setenv(gobuild.CacheEnv, "/somewhere")
	dir, err = gobuild.CacheDir()
	require.NoError(t, err)
	assert.Equal(t, "/somewhere", dir)
}
