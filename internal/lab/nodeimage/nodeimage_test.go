// SPDX-License-Identifier: Apache-2.0

package nodeimage_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/cloudveneto/caas/internal/lab/nodeimage"
)

// tree is a source tree whose script is the given shell text, which finds the value of
// --output in $output, and a directory with programs.
func tree(t *testing.T, script string) nodeimage.Config {
	t.Helper()
	root := t.TempDir()
	write := func(name, content string, mode os.FileMode) {
		path := filepath.Join(root, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o700))
		require.NoError(t, os.WriteFile(path, []byte(content), mode))
	}
	write("hack/kube/go.mod", "module example.org/kube\n", 0o600)
	write("go.mod", "module github.com/cloudveneto/caas\n", 0o600)
	write("hack/images/pause.yaml", "reference: example.org/pause:1\nfiles: [{source: "+root+"/kube/kubelet, path: /pause}]\n", 0o600)
	write("kube/kubelet", "kubelet", 0o700)
	write("kube/kube-proxy", "kube-proxy", 0o700)
	write("deploy/images/common/etc/file", "content", 0o600)
	write("deploy/images/debian12.sh", "#!/bin/sh\nset -eu\narguments=\"$*\"\n"+
		"while [ $# -gt 0 ]; do case $1 in --output) output=$2;; --image) image=$2;; esac; shift; done\n"+script, 0o700)
	return nodeimage.Config{Source: root, Cache: t.TempDir(), Kubernetes: filepath.Join(root, "kube")}
}

const makeDir = `echo x >>"` + "${0%/*}" + `/../../runs"
test -s "$image"
mkdir "$output"
echo "$arguments" >"$output/arguments"
`

func runs(t *testing.T, config nodeimage.Config) int {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(config.Source, "runs"))
	require.NoError(t, err)
	return strings.Count(string(data), "x")
}

func TestBuildOnce(t *testing.T) {
	t.Parallel()
	config := tree(t, makeDir)
	var (
		group  sync.WaitGroup
		images [4]nodeimage.Image
		errs   [4]error
	)
	for i := range images {
		group.Go(func() { images[i], errs[i] = nodeimage.Build(t.Context(), config) })
	}
	group.Wait()
	for i := range images {
		require.NoError(t, errs[i])
		assert.Equal(t, images[0], images[i])
	}
	assert.Equal(t, 1, runs(t, config))
	arguments, err := os.ReadFile(filepath.Join(images[0].Root, "arguments"))
	require.NoError(t, err)
	for _, want := range []string{"--format dir", "--sandbox-image example.org/pause:1", "--kubelet " + config.Kubernetes + "/kubelet", "--kube-proxy " + config.Kubernetes} {
		assert.Contains(t, string(arguments), want)
	}
	assert.Empty(t, images[0].Disk, "nobody asked for it")
}

func TestKey(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		file    string
		rebuilt bool
	}{
		"nothing":              {"", false},
		"something else":       {"README.md", false},
		"another system":       {"deploy/images/almalinux9.sh", false},
		"the script":           {"deploy/images/debian12.sh", true},
		"a file":               {"deploy/images/common/etc/file", true},
		"one more file":        {"deploy/images/common/etc/other", true},
		"a program":            {"kube/kubelet", true},
		"the image for pauses": {"hack/images/pause.yaml", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			config := tree(t, makeDir)
			before, err := nodeimage.Build(t.Context(), config)
			require.NoError(t, err)
			if tc.file != "" {
				file, err := os.OpenFile(filepath.Join(config.Source, tc.file), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o700)
				require.NoError(t, err)
				_, err = file.WriteString("\n#\n")
				require.NoError(t, err)
				if strings.HasSuffix(tc.file, "pause.yaml") {
					_, err = file.WriteString("environment: {A: b}\n")
					require.NoError(t, err)
				}
				require.NoError(t, file.Close())
			}
			after, err := nodeimage.Build(t.Context(), config)
			require.NoError(t, err)
			assert.Equal(t, tc.rebuilt, before.Root != after.Root)
			if !tc.rebuilt {
				assert.Equal(t, 1, runs(t, config))
			}
		})
	}
}

func TestFailureLeavesNothing(t *testing.T) {
	t.Parallel()
	config := tree(t, "echo 'debian12.sh: installing' >&2\nmkdir \"$output\"\necho 'no such package: x' >&2\nexit 3\n")
	var steps []string
	config.Progress = func(step string, _ time.Duration) { steps = append(steps, step) }
	_, err := nodeimage.Build(t.Context(), config)
	require.ErrorContains(t, err, "build node image")
	require.ErrorContains(t, err, "exit status 3")
	require.ErrorContains(t, err, "no such package: x")
	assert.Contains(t, steps, "installing")
	assertEmpty(t, config)
}

func TestInterruption(t *testing.T) {
	t.Parallel()
	config := tree(t, "trap 'echo cleaned >\"${0%/*}/../../cleaned\"; exit 1' TERM\necho 'debian12.sh: started' >&2\nsleep 600 & wait\n")
	ctx, cancel := context.WithCancel(t.Context())
	config.Progress = func(step string, _ time.Duration) {
		if step == "started" {
			cancel()
		}
	}
	began := time.Now()
	_, err := nodeimage.Build(ctx, config)
	require.ErrorIs(t, err, context.Canceled)
	assert.Less(t, time.Since(began), 15*time.Second, "its children ended, too")
	assert.FileExists(t, filepath.Join(config.Source, "cleaned"), "it could clean up")
	assertEmpty(t, config)
}

func assertEmpty(t *testing.T, config nodeimage.Config) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(config.Cache, "nodeimages"))
	require.NoError(t, err)
	for _, entry := range entries {
		assert.True(t, strings.HasSuffix(entry.Name(), ".lock"), "%s is left", entry.Name())
	}
}
