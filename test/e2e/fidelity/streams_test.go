// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package fidelity_test

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cloudveneto/caas/internal/lab"
)

func streamCases() []fidelityCase {
	return []fidelityCase{
		{name: "20 logs with all options are the target's", run: logOptions},
		{name: "20 logs of a container before and after a restart", run: logsAcrossRestart},
		{name: "20 logs of what has not started, and of what is gone", run: logErrors},
		{name: "20 a reader of logs who hangs up", where: atSite("site-logs"), run: logHangUp},
		{name: "20 a long log in little memory", run: longLog},
		{name: "20 exec: exit code, terminal, half a minute of silence", waits: true, run: execIdle},
	}
}

// logOptions compares what is read through the virtual node with what the target's own kubelet gives.
func logOptions(t *testing.T, r *room) {
	pod := r.shell("talker", `i=0; while [ $i -lt 400 ]; do echo "line $i of many"; i=$((i+1)); done; printf 'not \377\376 UTF-8 \200\n'; printf 'no end'`)
	pod.Spec.Containers = append(pod.Spec.Containers, corev1.Container{Name: "other", Image: busybox, Command: []string{"sh", "-c", "echo other; sleep 2; echo late"}})
	created := r.create(t, pod)
	seen := r.awaitPhase(t, "talker", corev1.PodSucceeded)
	far := r.awaitFar(t, created)
	n := func(n int64) *int64 { return &n }
	since := metav1.NewTime(container(seen, "other").State.Terminated.FinishedAt.Add(-time.Second))
	for name, options := range map[string]corev1.PodLogOptions{
		"all":                      {Container: "main"},
		"another container":        {Container: "other"},
		"followed":                 {Container: "main", Follow: true},
		"tail":                     {Container: "main", TailLines: n(3)},
		"bytes":                    {Container: "main", LimitBytes: n(1000)},
		"tail and bytes":           {Container: "main", TailLines: n(10), LimitBytes: n(50)},
		"tail, bytes, time stamps": {Container: "main", TailLines: n(10), LimitBytes: n(120), Timestamps: true},
		"since a time":             {Container: "other", SinceTime: &since, Timestamps: true},
		"since a time, with tail":  {Container: "other", SinceTime: &since, TailLines: n(1), LimitBytes: n(3)},
		"since seconds":            {Container: "main", SinceSeconds: n(3600), TailLines: n(2)},
		"nothing since":            {Container: "main", SinceTime: &metav1.Time{Time: time.Now().Add(time.Hour)}},
	} {
		got, err := r.af.CoreV1().Pods(r.namespace).GetLogs("talker", &options).DoRaw(t.Context())
		require.NoError(t, err, name)
		want, err := r.caas.CoreV1().Pods(r.target).GetLogs(far.Name, &options).DoRaw(t.Context())
		require.NoError(t, err, name)
		assert.Equal(t, string(want), string(got), name)
	}
	assert.Contains(t, r.logs(t, "talker", "main"), "not \377\376 UTF-8 \200\n")
	all := r.kubectl(t, "logs", "talker", "--all-containers", "--prefix", "--tail=1")
	assert.Contains(t, all, "no end")
	assert.Contains(t, all, "late")
}

func logsAcrossRestart(t *testing.T, r *room) {
	pod := r.shell("again", `n=$(cat /count/n 2>/dev/null || echo 0); echo $((n+1)) >/count/n; echo "life $n begins"; sleep 12; echo "life $n ends"; [ $n -lt 1 ] || sleep 3600; exit 1`)
	pod.Spec.RestartPolicy = corev1.RestartPolicyAlways
	pod.Spec.Volumes = []corev1.Volume{{Name: "count", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}}
	pod.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "count", MountPath: "/count"}}
	created := r.create(t, pod)
	r.awaitPhase(t, "again", corev1.PodRunning)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	stream, err := r.af.CoreV1().Pods(r.namespace).GetLogs("again", &corev1.PodLogOptions{Follow: true}).Stream(ctx)
	require.NoError(t, err)
	followed, err := io.ReadAll(stream)
	require.NoError(t, errors.Join(err, stream.Close()))
	assert.Equal(t, "life 0 begins\nlife 0 ends\n", string(followed), "a follower reads to the end of the container, as with any kubelet")
	r.awaitPod(t, "again", "it runs again", func(pod *corev1.Pod) bool {
		return container(pod, "main").RestartCount == 1 && container(pod, "main").State.Running != nil
	})
	previous, err := r.af.CoreV1().Pods(r.namespace).GetLogs("again", &corev1.PodLogOptions{Previous: true, TailLines: new(int64(1))}).DoRaw(t.Context())
	require.NoError(t, err)
	assert.Equal(t, "life 0 ends\n", string(previous))
	eventually(t.Context(), t, "the second life's log", func() (bool, string) {
		now := r.logs(t, "again", "main")
		return strings.HasPrefix(now, "life 1 begins\n"), now
	})
	assert.Len(t, r.far(t, created), 1)
}

func logErrors(t *testing.T, r *room) {
	pod := r.shell("unstarted", "true")
	pod.Spec.Containers[0].Image = "docker.io/library/does-not-exist:1"
	r.create(t, pod)
	seen := r.awaitPod(t, "unstarted", "it waits for its image", func(pod *corev1.Pod) bool { return strings.Contains(waiting(pod, "main"), "Image") })
	out, err := r.world.kubectl(t.Context(), t, lab.AF, r.namespace, "logs", "unstarted").CombinedOutput()
	require.Error(t, err)
	assert.Contains(t, string(out), "waiting to start", "the kubelet's own words")
	out, err = r.world.kubectl(t.Context(), t, lab.AF, r.namespace, "logs", "unstarted", "--container=none").CombinedOutput()
	require.Error(t, err)
	assert.Contains(t, string(out), "none")

	r.delete(t, "unstarted", 0)
	r.awaitGone(t, seen)
	gone := *seen
	eventually(t.Context(), t, "gone at the target", func() (bool, string) { return len(r.far(t, &gone)) == 0, "" })
	out, err = r.world.kubectl(t.Context(), t, lab.AF, r.namespace, "logs", "unstarted").CombinedOutput()
	require.Error(t, err)
	assert.Contains(t, string(out), "not found")
}

// logHangUp looks whether what reads the log at the target ends with who reads it at the origin.
func logHangUp(t *testing.T, r *room) {
	r.create(t, r.shell("endless", "while :; do echo tick; sleep 0.2; done"))
	r.awaitPhase(t, "endless", corev1.PodRunning)
	before := r.openLogs(t)
	var hangUps []context.CancelFunc
	for range 5 {
		ctx, hangUp := context.WithCancel(t.Context())
		stream, err := r.af.CoreV1().Pods(r.namespace).GetLogs("endless", &corev1.PodLogOptions{Follow: true}).Stream(ctx)
		require.NoError(t, err)
		line, err := bufio.NewReader(stream).ReadString('\n')
		require.NoError(t, err)
		require.Equal(t, "tick\n", line)
		hangUps = append(hangUps, hangUp)
	}
	require.GreaterOrEqual(t, r.openLogs(t), before+5, "otherwise the rest would say nothing")
	for _, hangUp := range hangUps {
		hangUp()
	}
	eventually(t.Context(), t, "nothing reads behind it any more", func() (bool, string) {
		now := r.openLogs(t)
		return now <= before, strconv.Itoa(now)
	})
}

// openLogs is how many logs the sidecar has open now, by its own figures.
func (r *room) openLogs(t *testing.T) int {
	t.Helper()
	return int(r.metric(t, r.path, `caas_http_requests_in_flight{route="/getLogs"`))
}

func longLog(t *testing.T, r *room) {
	const size = 96 << 20
	// The kubelet keeps the last files only, so the container waits for its reader before it writes much.
	r.create(t, r.shell("long", "sleep 3; yes 'sixty-four bytes of text, the newline among them, are in each line' | head -c "+strconv.Itoa(size)+"; echo; echo end; sleep 5"))
	r.awaitPhase(t, "long", corev1.PodRunning)
	before := r.memory(t)
	stream, err := r.af.CoreV1().Pods(r.namespace).GetLogs("long", &corev1.PodLogOptions{Follow: true}).Stream(t.Context())
	require.NoError(t, err)
	defer func() { _ = stream.Close() }()
	hash, read, peak := sha256.New(), 0, map[string]int64{}
	buffer := make([]byte, 1<<20)
	for next := 0; ; {
		n, err := stream.Read(buffer)
		_, _ = hash.Write(buffer[:n])
		if read += n; read >= next {
			next = read + 8<<20
			for name, now := range r.memory(t) {
				peak[name] = max(peak[name], now)
			}
		}
		if err != nil {
			require.ErrorIs(t, err, io.EOF)
			break
		}
	}
	t.Logf("%d MiB read; memory before and at most: %v, %v MiB", read>>20, before, peak)
	assert.Positive(t, read)
	for name, most := range peak {
		assert.Less(t, most-before[name], int64(64), "%s holds no log in memory", name)
	}
}

// memory is the resident memory of the path's processes in MiB.
func (r *room) memory(t *testing.T) map[string]int64 {
	t.Helper()
	pids, err := r.path.PIDs()
	require.NoError(t, err)
	used := map[string]int64{}
	for name, pid := range pids {
		content, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
		require.NoError(t, err)
		pages, err := strconv.ParseInt(strings.Fields(string(content))[1], 10, 64)
		require.NoError(t, err)
		used[name] = pages * int64(os.Getpagesize()) >> 20
	}
	return used
}

func execIdle(t *testing.T, r *room) {
	r.create(t, r.shell("session", "sleep 3600"))
	r.awaitPhase(t, "session", corev1.PodRunning)
	command := r.world.kubectl(t.Context(), t, lab.AF, r.namespace, "exec", "-i", "session", "--", "sh", "-c", "sleep 40; read line; echo got $line; exit 42")
	command.Stdin = strings.NewReader("words\n")
	out, err := command.Output()
	var ended *exec.ExitError
	require.ErrorAs(t, err, &ended)
	assert.Equal(t, 42, ended.ExitCode())
	assert.Equal(t, "got words\n", string(out))
}
