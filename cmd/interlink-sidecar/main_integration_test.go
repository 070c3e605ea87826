// SPDX-License-Identifier: Apache-2.0

//go:build integration

package main_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cloudveneto/caas/internal/interlink"
	"github.com/cloudveneto/caas/internal/lab/kubetest"
)

// process is the running program and what it logs.
type process struct {
	command *exec.Cmd
	mu      sync.Mutex
	output  bytes.Buffer
}

func (p *process) Write(data []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.output.Write(data)
}

func (p *process) log() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.output.String()
}

func launch(t *testing.T, program string, args ...string) *process {
	t.Helper()
	p := &process{command: exec.CommandContext(t.Context(), program, args...)}
	p.command.Stdout, p.command.Stderr = p, p
	require.NoError(t, p.command.Start())
	return p
}

// TestProgram creates a pod through the real program, kills it, and finds the pod
// again with the next one.
func TestProgram(t *testing.T) {
	t.Parallel()
	program := build(t)
	cluster := kubetest.Start(t, kubetest.Options{ControllerManager: true})
	admin := cluster.Client()
	require.Eventually(t, func() bool {
		_, err := admin.CoreV1().ServiceAccounts("default").Get(t.Context(), "default", metav1.GetOptions{})
		return err == nil
	}, 30*time.Second, 50*time.Millisecond)
	socket := filepath.Join(t.TempDir(), "plugin.sock")
	args := []string{"--kubeconfig", cluster.AdminKubeconfig(), "--namespace", "default", "--listen", "unix://" + socket, "--ops-listen", "127.0.0.1:0", "--log-level", "debug"}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}}}
	ask := func(path, body string) (int, string) {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://unix"+path, strings.NewReader(body))
		require.NoError(t, err)
		answer, err := client.Do(request)
		if err != nil {
			return 0, err.Error()
		}
		defer func() { _ = answer.Body.Close() }()
		text, err := io.ReadAll(answer.Body)
		require.NoError(t, err)
		return answer.StatusCode, string(text)
	}
	usable := func() bool { code, _ := ask(interlink.PathStatus, "[]"); return code == http.StatusOK }

	first := launch(t, program, args...)
	require.Eventually(t, usable, 30*time.Second, 50*time.Millisecond, first.log())
	body := `{"pod":{"metadata":{"name":"p","namespace":"n","uid":"u-1"},"spec":{"containers":[{"name":"main","image":"i","env":[{"name":"TOKEN","value":"do-not-log-me"}]}]}}}`
	code, created := ask(interlink.PathCreate, body)
	require.Equal(t, http.StatusOK, code, created)
	require.NoError(t, first.command.Process.Kill())
	_ = first.command.Wait()

	second := launch(t, program, args...)
	require.Eventually(t, usable, 30*time.Second, 50*time.Millisecond, "the killed program's socket does not stop the next one")
	code, again := ask(interlink.PathCreate, body)
	require.Equal(t, http.StatusOK, code)
	assert.Equal(t, created, again, "the same job")
	pods, err := admin.CoreV1().Pods("default").List(t.Context(), metav1.ListOptions{})
	require.NoError(t, err)
	assert.Len(t, pods.Items, 1)
	_, text := ask(interlink.PathStatus, `[{"metadata":{"name":"p","namespace":"n","uid":"u-1"},"spec":{"containers":[{"name":"main"}]}}]`)
	var statuses []interlink.PodStatus
	require.NoError(t, json.Unmarshal([]byte(text), &statuses))
	assert.Equal(t, []corev1.ContainerStatus{{Name: "main", State: statuses[0].Containers[0].State}}, statuses[0].Containers)

	require.NoError(t, second.command.Process.Signal(syscall.SIGTERM))
	assert.NoError(t, second.command.Wait(), second.log())
	for _, p := range []*process{first, second} {
		assert.NotContains(t, p.log(), "do-not-log-me")
		assert.NotContains(t, p.log(), "panic")
	}
}
