// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e_test

import (
	"bufio"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestOffload is what users of the remote cluster see of pods on the virtual node.
func TestOffload(t *testing.T) {
	w := theWorld(t)
	for name, test := range map[string]func(*testing.T, *world){
		"the node is an ordinary node":          nodeLooksOrdinary,
		"exit codes":                            exitCodes,
		"kubectl shows the pod":                 kubectlShowsThePod,
		"logs follow":                           logsFollow,
		"delete ends the remote pod":            deleteEndsTheRemotePod,
		"job":                                   jobCompletes,
		"deployment of three":                   deploymentOfThree,
		"init containers and a shared emptyDir": initAndEmptyDir,
		"services across the clusters":          servicesAcross,
	} {
		t.Run(name, func(t *testing.T) { test(t, w) })
	}
	w.awaitNothingRemote(t)
}

func nodeLooksOrdinary(t *testing.T, w *world) {
	node, err := w.af.CoreV1().Nodes().Get(t.Context(), w.node, metav1.GetOptions{})
	require.NoError(t, err)
	assert.Positive(t, node.Status.Allocatable.Cpu().MilliValue())
	assert.Positive(t, node.Status.Allocatable.Memory().Value())
	assert.Contains(t, node.Spec.Taints, corev1.Taint{Key: "virtual-node.interlink/no-schedule", Value: "true", Effect: corev1.TaintEffectNoSchedule})
	assert.Equal(t, "virtual-kubelet", node.Labels["virtual-node.interlink/type"])
	out := w.kubectl(t, "get", "node", w.node)
	assert.Regexp(t, w.node+`\s+Ready\s`, out)
	assert.Regexp(t, `Ready\s+True`, w.kubectl(t, "describe", "node", w.node))
}

func exitCodes(t *testing.T, w *world) {
	for name, want := range map[string]struct {
		script string
		code   int32
		phase  corev1.PodPhase
		reason string
	}{
		"exit-zero":   {"echo fine", 0, corev1.PodSucceeded, "Completed"},
		"exit-42":     {"exit 42", 42, corev1.PodFailed, "Error"},
		"exit-killed": {"tail /dev/zero", 137, corev1.PodFailed, "OOMKilled"},
		"exit-late":   {"sleep 2; exit", 0, corev1.PodSucceeded, "Completed"},
	} {
		pod := w.shell(name, want.script)
		pod.Spec.Containers[0].Resources.Limits = corev1.ResourceList{corev1.ResourceMemory: quantity("32Mi")}
		w.create(t, pod)
		seen := w.awaitPhase(t, name, want.phase)
		require.Len(t, seen.Status.ContainerStatuses, 1)
		ended := seen.Status.ContainerStatuses[0].State.Terminated
		require.NotNil(t, ended)
		assert.Equal(t, want.code, ended.ExitCode, name)
		assert.Equal(t, want.reason, ended.Reason, name)
		assert.False(t, ended.StartedAt.IsZero(), "start time of %s", name)
		assert.False(t, ended.FinishedAt.IsZero(), "end time of %s", name)
	}
}

func kubectlShowsThePod(t *testing.T, w *world) {
	w.create(t, w.shell("shown", "echo first line; sleep 3600"))
	pod := w.awaitPhase(t, "shown", corev1.PodRunning)
	remote := w.remote(t, pod)
	require.Len(t, remote, 1)
	assert.Equal(t, remote[0].Status.PodIP, pod.Status.PodIP, "the pod's address is the real one")
	assert.Equal(t, remote[0].Status.HostIP, pod.Status.HostIP)
	assert.Contains(t, w.caasNodes(t), remote[0].Spec.NodeName)

	wide := w.kubectl(t, "get", "pods", "-o", "wide", "shown")
	assert.Regexp(t, `shown\s+1/1\s+Running\s+0\s+\S+\s+`+strings.ReplaceAll(pod.Status.PodIP, ".", `\.`)+`\s+`+w.node, wide)
	described := w.kubectl(t, "describe", "pod", "shown")
	assert.Regexp(t, `Status:\s+Running`, described)
	assert.Regexp(t, `Ready\s+True`, described)
	assert.Contains(t, w.kubectl(t, "logs", "shown"), "first line")
	assert.Empty(t, w.kubectl(t, "logs", "shown", "--since-time=2200-01-01T00:00:00Z"))
	assert.Regexp(t, `^\d{4}-\d\d-\d\dT\S+ first line`, w.kubectl(t, "logs", "shown", "--timestamps", "--tail=1"))
}

func logsFollow(t *testing.T, w *world) {
	w.create(t, w.shell("talker", "for i in 1 2 3 4 5; do echo line $i; sleep 1; done"))
	w.awaitPhase(t, "talker", corev1.PodRunning)
	stream, err := w.af.CoreV1().Pods(w.namespace).GetLogs("talker", &corev1.PodLogOptions{Follow: true}).Stream(t.Context())
	require.NoError(t, err)
	defer func() { _ = stream.Close() }()
	var first, last time.Time
	var lines []string
	for scanner := bufio.NewScanner(stream); scanner.Scan(); last = time.Now() {
		if first.IsZero() {
			first = time.Now()
		}
		lines = append(lines, scanner.Text())
	}
	assert.Equal(t, []string{"line 1", "line 2", "line 3", "line 4", "line 5"}, lines)
	assert.Greater(t, last.Sub(first), 2*time.Second, "lines arrive as they are written, not all at the end")
}

func deleteEndsTheRemotePod(t *testing.T, w *world) {
	created := w.create(t, w.shell("doomed", "trap 'exit 0' TERM; sleep 3600 & wait"))
	w.awaitPhase(t, "doomed", corev1.PodRunning)
	start := time.Now()
	grace := int64(60)
	require.NoError(t, w.af.CoreV1().Pods(w.namespace).Delete(t.Context(), "doomed", metav1.DeleteOptions{GracePeriodSeconds: &grace}))
	eventually(t.Context(), t, "pod gone at the origin", func() (bool, string) {
		pod, err := w.af.CoreV1().Pods(w.namespace).Get(t.Context(), "doomed", metav1.GetOptions{})
		return apierrors.IsNotFound(err), describe(pod)
	})
	assert.Less(t, time.Since(start), 45*time.Second, "a pod that ends at once does not wait for its grace period")
	assert.Empty(t, w.remote(t, created), "the remote pod is gone before the origin's")
}
