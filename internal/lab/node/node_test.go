// SPDX-License-Identifier: Apache-2.0

package node_test

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
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

	"github.com/cloudveneto/caas/internal/lab/gobuild"
	"github.com/cloudveneto/caas/internal/lab/image"
	"github.com/cloudveneto/caas/internal/lab/kube"
	"github.com/cloudveneto/caas/internal/lab/network"
	"github.com/cloudveneto/caas/internal/lab/node"
)

// TestMain makes the test's own program a node's holder when the node asks for it.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == "node-init" {
		if err := node.Main(context.Background(), os.Args[2]); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
		return
	}
	m.Run()
}

// TestNodeStartsHealsAndLeavesNothing runs a node whose API server does not answer: all
// that is the machine's part of a node is there, and goes away again.
func TestNodeStartsHealsAndLeavesNothing(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: nodes need root")
	}
	for _, requirement := range node.Requirements() {
		if !anyExists(requirement.Files) {
			t.Skipf("SKIPPED: nodes need the package %s", requirement.Package)
		}
	}
	config := machineNode(t)
	removal := node.Removal{Lab: config.Lab, Name: config.Name, Dir: config.Dir}
	namespace := "caas-" + config.Lab + "-" + config.Name
	t.Cleanup(func() {
		if t.Failed() {
			for _, component := range node.Components() {
				text, _ := os.ReadFile(node.Log(config.Dir, component))
				t.Logf("%s:\n%s", component, text[max(0, len(text)-2000):])
			}
		}
		ctx := context.WithoutCancel(t.Context())
		require.NoError(t, node.Stop(ctx, removal))
		require.NoError(t, network.Delete(ctx, config.LAN))
	})
	before := hostView(t)

	require.NoError(t, node.Start(t.Context(), config))
	require.NoError(t, node.Start(t.Context(), config), "a running node is left alone")
	running, err := node.Running(config.Dir, config.Name)
	require.NoError(t, err)
	assert.True(t, running)
	assert.Equal(t, before, hostView(t), "the machine sees none of the node's mounts, and keeps its kernel settings")

	holder := holderPID(t, config)
	assert.Equal(t, config.Name, strings.TrimSpace(inside(t, holder, "hostname")))
	assert.Equal(t, "1", strings.TrimSpace(inside(t, holder, "cat", "/proc/sys/vm/overcommit_memory")), "what the kubelet wants to see")
	assert.Contains(t, inside(t, holder, "ctr", "--namespace", "k8s.io", "images", "ls", "--quiet"), "registry.k8s.io/pause:3.10.1")

	for _, component := range []string{"kubelet", "containerd"} {
		first := 0
		require.Eventually(t, func() bool { // without an API server the kubelet also ends by itself, again and again
			first = child(holder, component)
			return first > 0 && syscall.Kill(first, syscall.SIGKILL) == nil
		}, 20*time.Second, 5*time.Millisecond, component)
		assert.Eventually(t, func() bool {
			again := child(holder, component)
			return again > 0 && again != first
		}, 20*time.Second, 50*time.Millisecond, "%s is started again", component)
	}

	require.NoError(t, syscall.Kill(holder, syscall.SIGKILL)) // a crash
	assert.Eventually(t, func() bool {
		running, err := node.Running(config.Dir, config.Name)
		return err == nil && !running
	}, 10*time.Second, 20*time.Millisecond)
	require.NoError(t, node.Start(t.Context(), config), "what a dead node left is no obstacle")
	second := holderPID(t, config)
	assert.NotEqual(t, holder, second)

	require.NoError(t, node.Stop(t.Context(), removal))
	require.NoError(t, node.Stop(t.Context(), removal), "a stopped node can be stopped")
	assert.NoDirExists(t, config.Dir)
	assert.NoDirExists(t, fmt.Sprintf("/proc/%d", second))
	exists, err := network.Exists(namespace)
	require.NoError(t, err)
	assert.False(t, exists)
	assert.Equal(t, before, hostView(t))
	left, err := filepath.Glob("/sys/fs/cgroup/*/caas-lab/" + config.Lab)
	require.NoError(t, err)
	assert.Empty(t, left)
}

// TestNodeThatDoesNotStartIsRemoved gives the holder a containerd that cannot run.
func TestNodeThatDoesNotStartIsRemoved(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: nodes need root")
	}
	config := machineNode(t)
	config.Images = []string{"/nonexistent/layout"}
	t.Cleanup(func() { require.NoError(t, network.Delete(context.WithoutCancel(t.Context()), config.LAN)) })
	err := node.Start(t.Context(), config)
	require.ErrorContains(t, err, "/nonexistent/layout", "the holder's own words are in the error")
	running, err := node.Running(config.Dir, config.Name)
	require.NoError(t, err)
	assert.False(t, running)
	exists, err := network.Exists("caas-" + config.Lab + "-" + config.Name)
	require.NoError(t, err)
	assert.False(t, exists)
	assert.FileExists(t, node.Log(config.Dir, "holder"), "the logs are kept")
	assert.NoFileExists(t, filepath.Join(config.Dir, "config.json"))
}

// machineNode is a node on a LAN of its own.
func machineNode(t *testing.T) node.Config {
	t.Helper()
	binaries, err := kube.Build(t.Context(), gobuild.Config{})
	require.NoError(t, err)
	recipe, err := image.Load("../../../hack/images/pause.yaml")
	require.NoError(t, err)
	pause, err := image.Build(t.Context(), image.Options{}, recipe)
	require.NoError(t, err)
	dir := t.TempDir()
	for _, name := range []string{"ca.crt", "proxy.kubeconfig"} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), nil, 0o600))
	}
	config := example()
	config.Lab = "test" + strconv.Itoa(os.Getpid())
	config.LAN = "caas-" + config.Lab
	config.Name, config.Dir = "n1", filepath.Join(dir, "node")
	config.CAFile, config.ProxyKubeconfig = filepath.Join(dir, "ca.crt"), filepath.Join(dir, "proxy.kubeconfig")
	config.Binaries, config.Executable, config.Images = binaries, "", []string{pause.Layout}
	require.NoError(t, network.Create(t.Context(), network.Config{Name: config.LAN, Address: netip.MustParsePrefix("10.88.0.1/24")}))
	return config
}

func anyExists(paths []string) bool {
	for _, path := range paths {
		if _, err := os.Stat(path); err == nil {
			return true
		}
	}
	return false
}

// hostView is what of the machine a node must not change: mounts but for network
// namespaces, and the settings that kubelets like to change.
func hostView(t *testing.T) string {
	t.Helper()
	mounts, err := os.ReadFile("/proc/self/mounts")
	require.NoError(t, err)
	var view strings.Builder
	for line := range strings.Lines(string(mounts)) {
		if !strings.Contains(line, "/run/netns") {
			view.WriteString(line)
		}
	}
	for _, setting := range []string{"vm/overcommit_memory", "kernel/panic", "kernel/panic_on_oops"} {
		value, err := os.ReadFile("/proc/sys/" + setting)
		require.NoError(t, err)
		fmt.Fprintf(&view, "%s=%s", setting, value)
	}
	return view.String()
}

func holderPID(t *testing.T, config node.Config) int {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(config.Dir, "holder.pid"))
	require.NoError(t, err)
	pid, err := strconv.Atoi(string(text))
	require.NoError(t, err)
	return pid
}

// inside runs a program in the node's namespaces.
func inside(t *testing.T, holder int, arguments ...string) string {
	t.Helper()
	arguments = append([]string{"--target", strconv.Itoa(holder), "--mount", "--uts", "--net", "--pid", "--"}, arguments...)
	output, err := exec.CommandContext(t.Context(), "nsenter", arguments...).CombinedOutput()
	require.NoError(t, err, string(output))
	return string(output)
}

// child is the process of holder that runs program; 0 if there is none.
func child(holder int, program string) int {
	processes, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return 0
	}
	for _, path := range processes {
		stat, err := os.ReadFile(path)
		if err != nil {
			continue // it ended meanwhile
		}
		_, after, _ := bytes.Cut(stat, []byte(") "))
		fields := bytes.Fields(after) // state, parent, …
		if len(fields) < 2 || string(fields[1]) != strconv.Itoa(holder) || string(fields[0]) == "Z" {
			continue
		}
		line, err := os.ReadFile(filepath.Join(filepath.Dir(path), "cmdline"))
		if name, _, _ := bytes.Cut(line, []byte{0}); err == nil && filepath.Base(string(name)) == program {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
			return pid
		}
	}
	return 0
}
