// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"

	"github.com/cloudveneto/caas/internal/lab"
	"github.com/cloudveneto/caas/internal/lab/network"
	"github.com/cloudveneto/caas/test/e2e/labtest"
)

// TestOffloadStreams is what users of the remote cluster do inside pods on the
// virtual node: kubectl exec, cp, port-forward and attach.
func TestOffloadStreams(t *testing.T) {
	w := theWorld(t)
	pod := w.shell("session", "mkdir /www; echo served >/www/index.html; httpd -p 8080 -h /www; sleep 3600")
	w.create(t, pod)
	w.awaitPhase(t, "session", corev1.PodRunning)
	for name, test := range map[string]func(*testing.T, *world){
		"exec: exit code and input":  execExitCode,
		"exec: terminal and resize":  execTerminal,
		"exec: hang-up":              execHangUp,
		"exec: a silent command":     execSilentHangUp,
		"exec: a session that waits": execIdle,
		"exec: a reader that stalls": execStalledReader,
		"cp both ways":               copyBothWays,
		"port-forward":               forwardPort,
		"attach":                     attachToMain,
	} {
		t.Run(name, func(t *testing.T) { test(t, w) })
	}
}

// command is kubectl against the remote cluster; it ends with the test.
func (w *world) command(ctx context.Context, t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	cluster, err := w.lab.Cluster(lab.AF)
	require.NoError(t, err)
	return exec.CommandContext(ctx, w.lab.Kubectl(), append([]string{"--kubeconfig=" + cluster.Kubeconfig(), "--namespace=" + w.namespace}, args...)...)
}

func execExitCode(t *testing.T, w *world) {
	command := w.command(t.Context(), t, "exec", "session", "--", "sh", "-c", "echo out; echo err >&2; exit 42")
	var out, problems bytes.Buffer
	command.Stdout, command.Stderr = &out, &problems
	var ended *exec.ExitError
	require.ErrorAs(t, command.Run(), &ended)
	assert.Equal(t, 42, ended.ExitCode())
	assert.Equal(t, "out\n", out.String())
	assert.Contains(t, problems.String(), "err\n")

	content := make([]byte, 16<<20)
	_, err := rand.Read(content)
	require.NoError(t, err)
	sum := sha256.Sum256(content)
	command = w.command(t.Context(), t, "exec", "-i", "session", "--", "sha256sum")
	command.Stdin = bytes.NewReader(content)
	answer, err := command.Output()
	require.NoError(t, err)
	assert.Equal(t, hex.EncodeToString(sum[:])+"  -\n", string(answer), "the input arrives whole, and its end too")
}

func execTerminal(t *testing.T, w *world) {
	terminal := labtest.NewTerminal(t)
	terminal.Resize(101, 31)
	command := w.command(t.Context(), t, "exec", "-it", "session", "--", "sh")
	terminal.Run(command)
	terminal.Type("tty; stty size")
	terminal.Await(`/dev/pts/`)
	terminal.Await(`^31 101\b`)
	terminal.Resize(132, 50)
	// The size arrives behind what is typed, so it is asked for until it is there.
	terminal.Type("until stty size | grep -q '^50 132'; do sleep 0.1; done; echo size is $(stty size).")
	terminal.Await(`^size is 50 132\.`)
	terminal.Type("exit 7")
	var ended *exec.ExitError
	require.ErrorAs(t, command.Wait(), &ended)
	assert.Equal(t, 7, ended.ExitCode())
}

func execHangUp(t *testing.T, w *world) {
	ctx, hangUp := context.WithCancel(t.Context())
	defer hangUp()
	command := w.command(ctx, t, "exec", "-i", "session", "--", "sh", "-c", "echo here; cat >/dev/null; touch /tmp/input-ended")
	input, err := command.StdinPipe()
	require.NoError(t, err)
	defer func() { _ = input.Close() }()
	output, err := command.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, command.Start())
	line, err := bufio.NewReader(output).ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "here\n", line)
	hangUp() // kubectl is killed and says nothing
	require.Error(t, command.Wait())
	eventually(t.Context(), t, "the command's input ended", func() (bool, string) {
		return w.command(t.Context(), t, "exec", "session", "--", "test", "-e", "/tmp/input-ended").Run() == nil, "it goes on"
	})
}

// sessions are how many connections into pods the virtual kubelet, the API and the
// sidecar have open.
func (w *world) sessions(t *testing.T) map[string]float64 {
	t.Helper()
	open := map[string]float64{}
	transport := &http.Transport{DialContext: network.Dialer(w.lab.NetNS())}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}
	for port, name := range map[int]string{3100: "caas_interlink_sessions", 3200: "caas_sidecar_sessions", 3300: "virtual_kubelet_sessions"} {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d/metrics", port+w.path.Index), nil)
		require.NoError(t, err)
		answer, err := client.Do(request)
		require.NoError(t, err)
		text, err := io.ReadAll(answer.Body)
		require.NoError(t, errors.Join(err, answer.Body.Close()))
		for _, match := range regexp.MustCompile(`(?m)^`+name+`\{kind="[a-z]+"\} (\d+)$`).FindAllStringSubmatch(string(text), -1) {
			count, err := strconv.ParseFloat(match[1], 64)
			require.NoError(t, err)
			open[name] += count
		}
	}
	return open
}

// bySPDY lets kubectl speak SPDY.
func bySPDY(command *exec.Cmd) {
	command.Env = append(os.Environ(), "KUBECTL_REMOTE_COMMAND_WEBSOCKETS=false")
}

// execSilentHangUp is a command that neither reads nor writes. By SPDY, its caller's
// end is heard of in every hop; by WebSocket, the origin's API server keeps it to
// itself, as it does for any kubelet.
func execSilentHangUp(t *testing.T, w *world) {
	ctx, hangUp := context.WithCancel(t.Context())
	defer hangUp()
	command := w.command(ctx, t, "exec", "session", "--", "sh", "-c", "echo here; exec sleep 1000")
	bySPDY(command)
	output, err := command.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, command.Start())
	line, err := bufio.NewReader(output).ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "here\n", line)
	for name, count := range w.sessions(t) {
		assert.GreaterOrEqual(t, count, 1.0, name)
	}
	begun := time.Now()
	hangUp() // kubectl is killed and says nothing
	require.Error(t, command.Wait())
	eventually(t.Context(), t, "every hop has let go", func() (bool, string) {
		open := w.sessions(t)
		return open["caas_interlink_sessions"]+open["caas_sidecar_sessions"]+open["virtual_kubelet_sessions"] == 0, fmt.Sprint(open)
	})
	t.Logf("every hop had let go after %s", time.Since(begun))
}

// execStalledReader stops reading for longer than a minute, after which WebSocket as
// kubectl speaks it would give up, and then gets every byte.
func execStalledReader(t *testing.T, w *world) {
	t.Parallel()
	const size = 64 << 20
	command := w.command(t.Context(), t, "exec", "session", "--", "head", "-c", strconv.Itoa(size), "/dev/zero")
	bySPDY(command)
	var problems bytes.Buffer
	command.Stderr = &problems
	output, err := command.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, command.Start())
	_, err = io.ReadFull(output, make([]byte, 1<<20))
	require.NoError(t, err)
	<-time.NewTimer(80 * time.Second).C
	rest, err := io.Copy(io.Discard, output)
	require.NoError(t, err)
	require.NoError(t, command.Wait(), problems.String())
	assert.EqualValues(t, size-1<<20, rest)
}

// execIdle is longer than the 30 seconds after which virtual-kubelet's library closes
// idle streams by default.
func execIdle(t *testing.T, w *world) {
	t.Parallel()
	out, err := w.command(t.Context(), t, "exec", "session", "--", "sh", "-c", "sleep 75; echo awake").Output()
	require.NoError(t, err)
	assert.Equal(t, "awake\n", string(out))
}

func copyBothWays(t *testing.T, w *world) {
	dir := t.TempDir()
	content := make([]byte, 32<<20)
	_, err := rand.Read(content)
	require.NoError(t, err)
	there := filepath.Join(dir, "there")
	require.NoError(t, os.MkdirAll(filepath.Join(there, "nested"), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(there, "nested", "data"), content, 0o600))
	w.kubectl(t, "cp", there, "session:/tmp/there")
	back := filepath.Join(dir, "back")
	w.kubectl(t, "cp", "session:/tmp/there", back)
	got, err := os.ReadFile(filepath.Join(back, "nested", "data"))
	require.NoError(t, err)
	assert.True(t, bytes.Equal(content, got), "the copy of the copy is the file")
}

func forwardPort(t *testing.T, w *world) {
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	command := w.command(ctx, t, "port-forward", "session", ":8080")
	output, err := command.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, command.Start())
	defer func() { stop(); _ = command.Wait() }()
	line, err := bufio.NewReader(output).ReadString('\n')
	require.NoError(t, err)
	match := regexp.MustCompile(`127\.0\.0\.1:(\d+) ->`).FindStringSubmatch(line)
	require.NotNil(t, match, line)
	for range 20 {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://127.0.0.1:"+match[1]+"/index.html", nil)
		require.NoError(t, err)
		request.Close = true // each on a connection of its own
		answer, err := (&http.Client{}).Do(request)
		require.NoError(t, err)
		body, err := io.ReadAll(answer.Body)
		require.NoError(t, errors.Join(err, answer.Body.Close()))
		require.Equal(t, "served\n", string(body))
	}
}

func attachToMain(t *testing.T, w *world) {
	pod := w.shell("attached", "echo ready; read line; echo got $line")
	pod.Spec.Containers[0].Stdin, pod.Spec.Containers[0].StdinOnce = true, true
	w.create(t, pod)
	w.awaitPhase(t, "attached", corev1.PodRunning)
	command := w.command(t.Context(), t, "attach", "-i", "attached")
	command.Stdin = strings.NewReader("hello\n")
	out, err := command.Output()
	require.NoError(t, err)
	assert.Contains(t, string(out), "got hello")
	w.awaitPhase(t, "attached", corev1.PodSucceeded)
	assert.Contains(t, w.logs(t, "attached", "main"), "got hello")
}
