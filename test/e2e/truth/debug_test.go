// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package truth_test

import (
	"context"
	"io"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
)

// TestFidelityTruthDebug is the last part of case 13: kubectl debug puts a container
// into the pod where it runs, beside the one that it is to look at.
func TestFidelityTruthDebug(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	created := w.create(t, shell("patient", "exec sleep 3600"))
	w.await(t, "patient", "runs", inPhase(corev1.PodRunning))
	debug(t, w)
	seen := w.await(t, "patient", "examined", func(pod *corev1.Pod) bool {
		statuses := pod.Status.EphemeralContainerStatuses
		return len(statuses) == 1 && statuses[0].State.Terminated != nil
	})
	assert.Equal(t, int32(4), seen.Status.EphemeralContainerStatuses[0].State.Terminated.ExitCode)
	assert.Equal(t, corev1.PodRunning, seen.Status.Phase, "an ephemeral container does not count")
	require.Len(t, w.there(t, created).Spec.EphemeralContainers, 1)
	assert.Contains(t, w.kubectl(t, "logs", "patient", "-c", "doctor"), "got hello")

	w.kubectl(t, "debug", "patient", "--image="+busybox, "-c", "surgeon", "--profile=sysadmin", "--", "true")
	seen = w.await(t, "patient", "told of the refusal", func(pod *corev1.Pod) bool {
		statuses := pod.Status.EphemeralContainerStatuses
		return len(statuses) == 2 && statuses[1].State.Terminated != nil
	})
	refused := seen.Status.EphemeralContainerStatuses[1].State.Terminated
	assert.Equal(t, "Refused", refused.Reason)
	assert.Contains(t, refused.Message, "securityContext.privileged")
	require.Len(t, w.there(t, created).Spec.EphemeralContainers, 1)
	assert.Equal(t, corev1.PodRunning, seen.Status.Phase)
}

// debug examines a pod by hand: what is typed reaches the new container, and what it
// says comes back.
func debug(t *testing.T, w *world) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	command := w.command(ctx, t, "debug", "-i", "patient", "--image="+busybox, "--target=main", "-c", "doctor", "--",
		"sh", "-c", `read line; echo "got $line"; tr '\0' ' ' </proc/1/cmdline; echo; sleep 1; exit 4`)
	input, err := command.StdinPipe() // kubectl leaves when its input ends
	require.NoError(t, err)
	output, err := command.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, command.Start())
	_, err = io.WriteString(input, "hello\n")
	require.NoError(t, err)
	said, err := io.ReadAll(output)
	require.NoError(t, err)
	require.NoError(t, input.Close())
	_ = command.Wait() // some versions pass the exit code on
	assert.Contains(t, string(said), "got hello")
	assert.Contains(t, string(said), "sleep 3600", "it sees the processes of its target")
}

// TestFidelityTruthFigures: where nothing is measured, nothing is made up.
func TestFidelityTruthFigures(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	w.create(t, shell("unmeasured", "sleep 3600"))
	w.await(t, "unmeasured", "runs", inPhase(corev1.PodRunning))
	metrics := w.kubectl(t, "get", "--raw", "/api/v1/nodes/"+node+"/proxy/metrics/resource")
	assert.Contains(t, metrics, "resource_scrape_error 0")
	assert.NotContains(t, metrics, "cpu_usage")
	summary := w.kubectl(t, "get", "--raw", "/api/v1/nodes/"+node+"/proxy/stats/summary")
	assert.Contains(t, summary, `"nodeName":"`+node+`"`)
	assert.Contains(t, summary, `"pods":[]`)
}
