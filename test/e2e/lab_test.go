// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e_test

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/cloudveneto/caas/internal/lab"
	"github.com/cloudveneto/caas/internal/lab/network"
	"github.com/cloudveneto/caas/internal/lab/proc"
	"github.com/cloudveneto/caas/test/e2e/labtest"
)

const (
	lifeLab  = "e2e-life"
	labImage = "docker.io/library/busybox:1.36"
)

// caasLab runs the program as a user would.
type caasLab struct {
	program string
}

func buildCaasLab(t *testing.T) caasLab {
	t.Helper()
	labtest.NeedRoot(t)
	program := filepath.Join(t.TempDir(), "caas-lab")
	args := []string{"build", "-o", filepath.Dir(program) + "/", "../../cmd/caas-lab"}
	for _, beside := range []string{"kube-mt-authn", "kube-mt-authz", "kube-mt-admission", "kube-mt-proxy"} {
		args = append(args, "../../cmd/"+beside)
	}
	out, err := exec.CommandContext(t.Context(), "go", args...).CombinedOutput()
	require.NoError(t, err, "%s", out)
	return caasLab{program: program}
}

func (c caasLab) run(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, c.program, append([]string{"--name", lifeLab}, args...)...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	return out.String(), err
}

// ok runs the program and requires that it succeeds.
func (c caasLab) ok(t *testing.T, args ...string) string {
	t.Helper()
	out, err := c.run(t.Context(), args...)
	require.NoError(t, err, "caas-lab %s:\n%s", strings.Join(args, " "), out)
	return out
}

// traces lists what a lab could leave on this machine.
func traces(t *testing.T, stateDir string) []string {
	t.Helper()
	var found []string
	add := func(kind, text string) {
		if strings.Contains(text, lifeLab) || strings.Contains(text, stateDir) {
			found = append(found, kind+": "+text)
		}
	}
	mounts, err := os.ReadFile("/proc/mounts")
	require.NoError(t, err)
	for line := range strings.Lines(string(mounts)) {
		add("mount", line)
	}
	for _, pattern := range []string{"/run/netns/*", filepath.Join(stateDir, "*")} {
		paths, err := filepath.Glob(pattern)
		require.NoError(t, err)
		for _, path := range paths {
			add("file", path)
		}
	}
	commands, err := filepath.Glob("/proc/[0-9]*/cmdline")
	require.NoError(t, err)
	for _, path := range commands {
		command, _ := os.ReadFile(path)
		if !strings.Contains(string(command), ".test\x00") {
			add("process", string(command))
		}
	}
	err = filepath.WalkDir("/sys/fs/cgroup", func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.IsDir() && strings.HasSuffix(path, "caas-lab/"+lifeLab) {
			add("cgroup", path)
		}
		return nil // cgroups come and go
	})
	require.NoError(t, err)
	return found
}

// interfaces are this machine's network interfaces, none of which is the lab's.
func interfaces(t *testing.T) []string {
	t.Helper()
	all, err := net.Interfaces()
	require.NoError(t, err)
	var names []string
	for _, one := range all {
		names = append(names, one.Name)
	}
	return names
}

// rules is the machine's packet filter; empty when there is no tool to show it.
func rules(t *testing.T) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "nft", "list", "tables").Output()
	if err != nil {
		t.Log("packet filter not compared:", err)
	}
	return string(out)
}

// TestLab takes a lab up, uses it, breaks and repairs it, and takes it down.
func TestLab(t *testing.T) {
	program := buildCaasLab(t)
	stateDir := t.TempDir()
	t.Setenv(lab.StateEnv, stateDir)
	linksBefore, rulesBefore := interfaces(t), rules(t)
	require.Empty(t, traces(t, stateDir))
	t.Cleanup(func() {
		out, err := program.run(context.WithoutCancel(t.Context()), "down")
		assert.NoError(t, err, out)
	})

	began := time.Now()
	program.ok(t, "up", "--caas-nodes", "2", "--af-nodes", "1")
	t.Logf("up in %s", time.Since(began))
	assert.Contains(t, program.ok(t, "up"), "running already")
	assert.Equal(t, []string{lifeLab}, strings.Fields(program.ok(t, "ls")))
	assert.NotContains(t, program.ok(t, "status"), "!")
	assert.Equal(t, linksBefore, interfaces(t), "the machine's network is not touched by a running lab either")

	t.Run("pods run, and find Services of the other cluster", testPods(program))
	t.Run("processes run in the LAN", testProcess(program))
	t.Run("what died is started again", testRepair(program))

	require.NotEmpty(t, traces(t, stateDir), "otherwise finding none below would mean nothing")
	program.ok(t, "down")
	assert.Empty(t, traces(t, stateDir))
	assert.Equal(t, linksBefore, interfaces(t))
	assert.Equal(t, rulesBefore, rules(t))
	assert.Contains(t, program.ok(t, "down"), "There was no lab")
}

func testPods(program caasLab) func(*testing.T) {
	return func(t *testing.T) {
		kubectl := func(cluster string, args ...string) string {
			return program.ok(t, append([]string{"kubectl", cluster, "--"}, args...)...)
		}
		kubectl(lab.CaaS, "create", "deployment", "web", "--image="+labImage, "--replicas=2", "--",
			"sh", "-c", "mkdir /w; echo served > /w/index.html; exec httpd -f -p 8080 -h /w")
		kubectl(lab.CaaS, "expose", "deployment", "web", "--port=80", "--target-port=8080")
		kubectl(lab.CaaS, "rollout", "status", "deployment/web", "--timeout=60s")
		assert.Equal(t, "served\n", kubectl(lab.CaaS, "exec", "deployment/web", "--", "cat", "/w/index.html"))

		kubectl(lab.AF, "create", "job", "ask", "--image="+labImage, "--",
			"sh", "-c", "for i in 1 2 3 4 5 6 7 8 9 10; do wget -q -O- http://web.default.svc.caas.local && exit; sleep 1; done; exit 1")
		kubectl(lab.AF, "wait", "--for=condition=complete", "job/ask", "--timeout=60s")
		assert.Contains(t, kubectl(lab.AF, "logs", "job/ask"), "served\n")

		out, err := program.run(t.Context(), "kubectl", lab.AF, "--", "get", "no-such-kind")
		require.Error(t, err)
		assert.Contains(t, out, "no-such-kind", "kubectl's own words and exit code")
	}
}

func testProcess(program caasLab) func(*testing.T) {
	return func(t *testing.T) {
		l, err := lab.Open(lifeLab)
		require.NoError(t, err)
		_, err = l.Start(t.Context(), proc.Spec{Name: "clock", Path: "sh", Args: []string{"-c", "while :; do echo tick; sleep 0.1; done"}})
		require.NoError(t, err)
		require.Eventually(t, func() bool { return strings.Contains(program.ok(t, "logs", "clock"), "tick") }, 5*time.Second, 50*time.Millisecond)
		assert.Contains(t, program.ok(t, "status"), "clock")
		inside, err := os.Stat(l.NetNS())
		require.NoError(t, err)
		clock, err := l.Process("clock")
		require.NoError(t, err)
		its, err := os.Stat(fmt.Sprintf("/proc/%d/ns/net", clock.PID()))
		require.NoError(t, err)
		assert.True(t, os.SameFile(inside, its))
	}
}

func testRepair(program caasLab) func(*testing.T) {
	return func(t *testing.T) {
		l, err := lab.Open(lifeLab)
		require.NoError(t, err)
		cluster, err := l.Cluster(lab.CaaS)
		require.NoError(t, err)
		plane, err := cluster.ControlPlane()
		require.NoError(t, err)
		etcd, err := proc.Load(filepath.Join(plane.Config().Dir, "run"), "etcd")
		require.NoError(t, err)
		supervisor, err := l.Process("supervisor")
		require.NoError(t, err)
		node, err := l.Process("node-caas-2")
		require.NoError(t, err)
		webhook, err := l.Process("kube-mt-authz-1")
		require.NoError(t, err)
		for _, p := range []*proc.Process{etcd, supervisor, node, webhook} {
			require.NoError(t, syscall.Kill(p.PID(), syscall.SIGKILL))
			require.NoError(t, p.Wait(t.Context()))
		}
		out, err := program.run(t.Context(), "status")
		require.Error(t, err)
		for _, problem := range []string{"etcd of cluster caas does not run", "supervisor does not run", "node caas-2 does not run", "kube-mt-authz-1 does not run"} {
			assert.Contains(t, out, problem)
		}

		program.ok(t, "up")
		program.ok(t, "status")
		config, err := cluster.RESTConfig()
		require.NoError(t, err)
		client, err := kubernetes.NewForConfig(config)
		require.NoError(t, err)
		pods, err := client.CoreV1().Pods(metav1.NamespaceDefault).List(t.Context(), metav1.ListOptions{LabelSelector: "app=web"})
		require.NoError(t, err)
		assert.Len(t, pods.Items, 2, "the cluster kept its data")
		conn, err := network.Dial(t.Context(), l.NetNS(), "tcp", l.Registry())
		require.NoError(t, err)
		require.NoError(t, conn.Close())
		require.True(t, slices.ContainsFunc(pods.Items, func(p corev1.Pod) bool { return p.Status.Phase == corev1.PodRunning }))
	}
}
