// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package jupyter_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/cloudveneto/caas/examples/jupyter"
	"github.com/cloudveneto/caas/test/e2e/labtest"
)

const (
	// modelLabel and otherLabel are what the virtual node says of models when there are several.
	modelLabel = accelerator + ".offload.infn.it/" + jupyter.Model
	otherModel = "nvidia-t4"
	otherLabel = accelerator + ".offload.infn.it/" + otherModel

	// cell is a cell whose output is what TestJupyter wants to know, and whose value is 42.
	cell = `
import json, os, urllib.request

with open(os.path.expanduser("~/result.txt"), "w") as result:
    result.write("written by a cell")
print(json.dumps({
    "environment": environment,
    "helper": urllib.request.urlopen("http://127.0.0.1:8000/status").read().decode(),
    "gpus": os.environ.get("` + gpuVariable + `"),
    "device": open("` + gpuFile + `", "rb").read(4).hex(),
    "secrets": os.listdir("/var/run/secrets/kubernetes.io/serviceaccount"),
    "user": os.getuid(),
}))
6 * 7
`
)

// TestJupyter starts a notebook server on the virtual node, works in it as its user does, and ends it as a hub does.
func TestJupyter(t *testing.T) {
	labtest.NeedRoot(t)
	w := shared.Get(t, newWorld)
	nodeOffersGPU(t, w)
	w.removeExample(t)
	seen := w.watchAsHub(t)

	started := time.Now()
	w.kubectl(t.Context(), t, "apply", "-f", "notebook.yaml")
	pod := w.awaitRunning(t)
	t.Logf("running and ready, as a hub understands it, after %s", time.Since(started).Round(100*time.Millisecond))
	for _, part := range []struct {
		name string
		run  func(t *testing.T, w *world, pod *corev1.Pod)
	}{
		{"the pod at the other end", remotePod},
		{"start-up events", startUpEvents},
		{"a cell", runCell},
		{"a terminal", useTerminal},
		{"logs and the helper's token", readHelper},
		{"labels follow the nodes", labelsFollow},
	} {
		t.Run(part.name, func(t *testing.T) { part.run(t, w, pod) })
	}
	assert.Empty(t, seen.givenUp(), "the hub never takes the server for dead")
	endServer(t, w)
}

// nodeOffersGPU waits until the virtual node has the GPU and its model.
func nodeOffersGPU(t *testing.T, w *world) {
	t.Helper()
	eventually(t.Context(), t, "the virtual node offers a GPU", func() (bool, string) {
		virtual := w.virtualNode(t)
		capacity, allocatable := virtual.Status.Capacity[gpuResource], virtual.Status.Allocatable[gpuResource]
		return capacity.Value() == 1 && allocatable.Value() == 1, fmt.Sprint(virtual.Status.Capacity)
	})
	w.awaitModels(t, map[string]string{accelerator: jupyter.Model, modelLabel: "true"})
}

func (w *world) virtualNode(t *testing.T) *corev1.Node {
	t.Helper()
	virtual, err := w.af.CoreV1().Nodes().Get(t.Context(), node, metav1.GetOptions{})
	require.NoError(t, err)
	return virtual
}

// awaitModels waits until the virtual node says exactly this of accelerators, and returns how long it took.
func (w *world) awaitModels(t *testing.T, want map[string]string) time.Duration {
	t.Helper()
	started := time.Now()
	eventually(t.Context(), t, fmt.Sprintf("labels %v", want), func() (bool, string) {
		got := map[string]string{}
		for key, value := range w.virtualNode(t).Labels {
			if strings.HasPrefix(key, accelerator) {
				got[key] = value
			}
		}
		return assert.ObjectsAreEqual(want, got), fmt.Sprint(got)
	})
	return time.Since(started)
}

// removeExample has the example removed at the end of the test, at both ends.
func (w *world) removeExample(t *testing.T) {
	t.Helper()
	t.Cleanup(func() {
		ctx := context.WithoutCancel(t.Context())
		w.kubectl(ctx, t, "delete", "-f", "notebook.yaml", "--ignore-not-found", "--timeout=3m")
		eventually(ctx, t, "nothing left on the CaaS cluster", func() (bool, string) {
			pods := w.remotePods(ctx, t)
			return len(pods) == 0, fmt.Sprintf("%d pods", len(pods))
		})
	})
}

// remotePods are those that the sidecar made.
func (w *world) remotePods(ctx context.Context, t *testing.T) []corev1.Pod {
	t.Helper()
	pods, err := w.caas.CoreV1().Pods(remoteNamespace).List(ctx, metav1.ListOptions{LabelSelector: "app.kubernetes.io/managed-by=interlink-sidecar"})
	require.NoError(t, err)
	return pods.Items
}

func (w *world) awaitRunning(t *testing.T) *corev1.Pod {
	t.Helper()
	var pod *corev1.Pod
	eventually(t.Context(), t, "the server runs", func() (bool, string) {
		var err error
		pod, err = w.af.CoreV1().Pods(jupyter.Namespace).Get(t.Context(), jupyter.Pod, metav1.GetOptions{})
		require.NoError(t, err)
		return running(pod), fmt.Sprintf("%s %s %s %+v", pod.Status.Phase, pod.Status.Reason, pod.Status.Message, pod.Status.ContainerStatuses)
	})
	return pod
}

// remotePod looks at where the server really runs, and with what.
func remotePod(t *testing.T, w *world, pod *corev1.Pod) {
	t.Helper()
	require.Len(t, pod.Status.InitContainerStatuses, 1)
	helper := pod.Status.InitContainerStatuses[0]
	assert.True(t, helper.State.Running != nil && helper.Started != nil && *helper.Started, "the native sidecar runs: %+v", helper)
	assert.Zero(t, pod.Status.ContainerStatuses[0].RestartCount)

	pods := w.remotePods(t.Context(), t)
	require.Len(t, pods, 1)
	assert.Equal(t, gpuNode, pods[0].Spec.NodeName)
	assert.Equal(t, pods[0].Status.PodIP, pod.Status.PodIP, "the hub's proxy connects to podIP:8888")
	volumes := map[string]corev1.VolumeSource{}
	for i := range pods[0].Spec.Volumes {
		volumes[pods[0].Spec.Volumes[i].Name] = pods[0].Spec.Volumes[i].VolumeSource
	}
	require.NotNil(t, volumes["home"].PersistentVolumeClaim, "%v", volumes["home"])
	assert.Equal(t, jupyter.Claim, volumes["home"].PersistentVolumeClaim.ClaimName)
	assert.NotNil(t, volumes["secret-mask"].EmptyDir)
	assert.Equal(t, pod.Spec.Affinity.NodeAffinity, pods[0].Spec.Affinity.NodeAffinity)
	assert.Equal(t, [][]string{{gpuID}}, w.gpus.grants(), "the kubelet has asked for the GPU once")
}

// startUpEvents reads Events as the hub's progress bar does.
func startUpEvents(t *testing.T, w *world, pod *corev1.Pod) {
	t.Helper()
	var events []event
	wanted := []string{"Pulled", "Created", "Started"}
	eventually(t.Context(), t, "events of the start", func() (bool, string) {
		events = w.events(t)
		reasons := map[string]int{}
		for i := range events {
			reasons[events[i].Reason]++
		}
		missing := slices.ContainsFunc(wanted, func(reason string) bool { return reasons[reason] < 2 }) // of two containers
		return !missing && reasons["Scheduled"] > 0, fmt.Sprint(reasons)
	})
	for i := range events {
		one := &events[i]
		t.Logf("%s [%s] %s: %s", one.time(), one.Type, one.Reason, one.Message)
		assert.NotEmpty(t, one.time())
		assert.Equal(t, pod.UID, one.Involved.UID)
		if one.Source["host"] != node {
			continue // the origin's own
		}
		require.NotNil(t, one.Last, one.Reason)
		require.NotNil(t, one.Time, one.Reason)
		for _, text := range []string{*one.Last, *one.Time} {
			at, err := time.Parse(time.RFC3339, text)
			require.NoError(t, err)
			assert.False(t, at.Before(pod.CreationTimestamp.Time), "%s at %s", one.Reason, text)
		}
	}
	assert.Contains(t, w.kubectl(t.Context(), t, "get", "events", "--field-selector=involvedObject.name="+jupyter.Pod), "Started")
}

// runCell executes a cell over port-forward, and looks at what it has found and left.
func runCell(t *testing.T, w *world, _ *corev1.Pod) {
	t.Helper()
	s := w.forward(t)
	code, body := s.call(http.MethodGet, "/api", "", nil)
	require.Equal(t, http.StatusOK, code)
	t.Logf("Jupyter says %s", body)
	code, _ = s.call(http.MethodGet, "/api/kernels", "", nil)
	assert.Equal(t, http.StatusForbidden, code, "without the token of the Secret")

	begun := time.Now()
	kernel := s.startKernel()
	printed, value := s.execute(kernel, cell)
	t.Logf("kernel started and first cell executed in %s", time.Since(begun).Round(10*time.Millisecond))
	assert.Equal(t, "42", value)
	var found struct {
		Environment, Helper, GPUs, Device string
		Secrets                           []string
		User                              int
	}
	require.NoError(t, json.Unmarshal([]byte(printed), &found), printed)
	assert.Equal(t, "example", found.Environment, "the postStart hook came before the kernel")
	assert.Equal(t, "helper of alice is up\n", found.Helper, "the native sidecar is in the same pod")
	assert.Equal(t, gpuID, found.GPUs, "the environment from the device plugin")
	assert.Equal(t, "00000000", found.Device, "the device file from the device plugin")
	assert.Empty(t, found.Secrets, "an emptyDir is over the path of the token")
	assert.Equal(t, userID, found.User)

	begun = time.Now()
	const rounds = 20
	for range rounds {
		_, value = s.execute(kernel, "_ + 1")
	}
	assert.Equal(t, "62", value, "the kernel is the same in all connections")
	t.Logf("a cell on a connection of its own took %s, the middle of %d", (time.Since(begun) / rounds).Round(time.Millisecond), rounds)

	notebook := map[string]any{"type": "notebook", "format": "json", "content": map[string]any{
		"cells": []any{}, "metadata": map[string]any{}, "nbformat": 4, "nbformat_minor": 5,
	}}
	code, body = s.call(http.MethodPut, "/api/contents/notebooks/first.ipynb", jupyter.Token, notebook)
	assert.Equal(t, http.StatusCreated, code, "%s", body)
	content, err := os.ReadFile(filepath.Join(w.home, "result.txt"))
	require.NoError(t, err)
	assert.Equal(t, "written by a cell", string(content), "on the volume of the site")
	assert.FileExists(t, filepath.Join(w.home, "notebooks", "first.ipynb"))
	code, _ = s.call(http.MethodDelete, "/api/kernels/"+kernel, jupyter.Token, nil)
	assert.Equal(t, http.StatusNoContent, code)
}

// useTerminal works in a terminal that kubectl exec has opened.
func useTerminal(t *testing.T, w *world, _ *corev1.Pod) {
	t.Helper()
	terminal := labtest.NewTerminal(t)
	terminal.Resize(101, 31)
	command := w.command(t.Context(), t, "exec", "-it", jupyter.Pod, "-c", jupyter.Notebook, "--", "/bin/bash", "--norc")
	terminal.Run(command)
	terminal.Type("tty; pwd; stty size")
	terminal.Await(`/dev/pts/`)
	terminal.Await(`^` + jupyter.Home)
	terminal.Await(`^31 101\b`)
	terminal.Resize(132, 50)
	// The size arrives behind what is typed; a prompt leaves its marks before what is shown next.
	terminal.Type("until stty size | grep -q '^50 132'; do sleep 0.1; done; echo size is $(stty size).")
	terminal.Await(`size is 50 132\.`)
	terminal.Type("python3 -q")
	terminal.Type("import shutil; print('columns:', shutil.get_terminal_size().columns)")
	terminal.Await(`columns: 132\b`)
	terminal.Type("exit()")
	terminal.Type("exit 7")
	var ended *exec.ExitError
	require.ErrorAs(t, command.Wait(), &ended)
	assert.Equal(t, 7, ended.ExitCode())
}

// readHelper looks at the native sidecar: its log, its Secret, and the origin's token that the notebook does not have.
func readHelper(t *testing.T, w *world, pod *corev1.Pod) {
	t.Helper()
	assert.Equal(t, "helper of alice is up\n", w.kubectl(t.Context(), t, "logs", jupyter.Pod, "-c", jupyter.Helper))
	assert.Contains(t, w.kubectl(t.Context(), t, "logs", jupyter.Pod, "-c", jupyter.Notebook), "Jupyter Notebook")
	in := func(script string) string {
		return w.kubectl(t.Context(), t, "exec", jupyter.Pod, "-c", jupyter.Helper, "--", "/bin/sh", "-c", script)
	}
	assert.Equal(t, jupyter.Token, in(`printf %s "$HELPER_TOKEN"`))
	claims := labtest.Claims(t, in("cat /var/run/secrets/kubernetes.io/serviceaccount/token"))
	assert.Equal(t, "system:serviceaccount:"+jupyter.Namespace+":"+pod.Spec.ServiceAccountName, claims.Subject)
	assert.Equal(t, string(pod.UID), claims.Kubernetes.Pod.UID)
}

// labelsFollow changes what models of accelerators there are.
func labelsFollow(t *testing.T, w *world, _ *corev1.Pod) {
	t.Helper()
	patch := func(name, patch string) {
		_, err := w.caas.CoreV1().Nodes().Patch(t.Context(), name, types.StrategicMergePatchType, []byte(patch), metav1.PatchOptions{})
		require.NoError(t, err)
	}
	one := map[string]string{accelerator: jupyter.Model, modelLabel: "true"}
	var took []time.Duration
	patch(plainNode, fmt.Sprintf(`{"metadata":{"labels":{%q:%q}}}`, accelerator, otherModel))
	took = append(took, w.awaitModels(t, map[string]string{modelLabel: "true", otherLabel: "true"}))
	patch(gpuNode, `{"spec":{"unschedulable":true}}`)
	took = append(took, w.awaitModels(t, map[string]string{accelerator: otherModel, otherLabel: "true"}))
	patch(plainNode, fmt.Sprintf(`{"metadata":{"labels":{%q:null}}}`, accelerator))
	took = append(took, w.awaitModels(t, map[string]string{}))
	patch(gpuNode, `{"spec":{"unschedulable":null}}`)
	took = append(took, w.awaitModels(t, one))
	t.Logf("the virtual node followed within %v", took)
}

// endServer deletes the pod as a hub does, and takes the GPU away.
func endServer(t *testing.T, w *world) {
	t.Helper()
	started := time.Now()
	w.kubectl(t.Context(), t, "delete", "pod", jupyter.Pod, "--grace-period=1", "--timeout="+patience.String())
	t.Logf("gone at the origin %s after its deletion", time.Since(started).Round(10*time.Millisecond))
	assert.Empty(t, w.remotePods(t.Context(), t))
	assert.FileExists(t, filepath.Join(w.home, "result.txt"), "the user's files stay")

	w.gpus.stop()
	started = time.Now()
	eventually(t.Context(), t, "the virtual node has no GPU to give", func() (bool, string) {
		left := w.virtualNode(t).Status.Allocatable[gpuResource]
		return left.IsZero(), left.String()
	})
	t.Logf("no GPU at the virtual node %s after its device plugin ended", time.Since(started).Round(10*time.Millisecond))
}
