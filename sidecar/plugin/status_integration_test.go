// SPDX-License-Identifier: Apache-2.0

//go:build integration

package plugin_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"

	"github.com/cloudveneto/caas/internal/interlink"
	"github.com/cloudveneto/caas/sidecar/plugin"
)

func TestStatusOfManyPodsAsksTheClusterNothing(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	const count = 1000
	pods := make([]corev1.Pod, count)
	var group sync.WaitGroup
	slots := make(chan struct{}, 32)
	for i := range pods {
		group.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			request := originPod(fmt.Sprintf("burst-%d", i))
			s.create(request)
			pods[i] = request.Pod
		})
	}
	group.Wait()
	s.recorder.reset()
	for _, status := range s.statuses(pods...) {
		require.Len(t, status.Containers, 1)
		require.NotNil(t, status.Containers[0].State.Waiting)
	}
	assert.Empty(t, s.recorder.requests(""), "no request to the target cluster")
}

func TestStatusOfUnknownPods(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	never := originPod("never").Pod
	lost := originPod("lost").Pod
	lost.Annotations[interlink.AnnotationJobID] = "x/y"
	s.recorder.reset()
	statuses := s.statuses(never, lost)
	assert.Len(t, s.recorder.requests("GET"), 1, "one list for both")
	assert.Equal(t, "PodNotCreated", statuses[0].Containers[0].State.Waiting.Reason)
	assert.EqualValues(t, 137, statuses[1].Containers[0].State.Terminated.ExitCode)
	assert.Equal(t, "RemotePodLost", statuses[1].Containers[0].State.Terminated.Reason)
}

func TestPing(t *testing.T) {
	t.Parallel()
	s := start(t, func(settings *plugin.Settings) { settings.Capacity.NodeSelector = "pool=none" })
	code, body, _ := s.call(http.MethodGet, interlink.PathStatus, []corev1.Pod{}, nil)
	require.Equal(t, http.StatusOK, code)
	var pong interlink.PingResponse
	require.NoError(t, json.Unmarshal([]byte(body), &pong))
	assert.Equal(t, "ok", pong.Status)
	assert.Contains(t, pong.PluginExtensions, interlink.ExtensionStatusStream)
	assert.Nil(t, pong.Resources, "no node: nothing is said, least of all zero")

	s.recorder.setFault(func(*http.Request) (error, bool) { return errors.New("injected: cluster is down"), false })
	assert.Eventually(t, func() bool {
		code, body, _ = s.call(http.MethodGet, interlink.PathStatus, []corev1.Pod{}, nil)
		return code == http.StatusServiceUnavailable
	}, 15*time.Second, 200*time.Millisecond, "the ping fails soon")
	assert.Equal(t, "the target cluster cannot be reached", strings.TrimSpace(body))
	s.recorder.setFault(nil)
	assert.Eventually(t, func() bool {
		code, _, _ = s.call(http.MethodGet, interlink.PathStatus, []corev1.Pod{}, nil)
		return code == http.StatusOK
	}, 15*time.Second, 200*time.Millisecond, "and recovers")
}

func TestBadRequests(t *testing.T) {
	t.Parallel()
	s := start(t, func(settings *plugin.Settings) { settings.MaxCreateBytes = 1 << 20 })
	for name, test := range map[string]struct {
		path string
		body any
		want int
	}{
		"create of nothing":      {interlink.PathCreate, nil, http.StatusBadRequest},
		"create of a text":       {interlink.PathCreate, "pod", http.StatusBadRequest},
		"create of two":          {interlink.PathCreate, []any{map[string]any{}, map[string]any{}}, http.StatusBadRequest},
		"create of wrong types":  {interlink.PathCreate, map[string]any{"pod": map[string]any{"spec": 7}}, http.StatusBadRequest},
		"create of an empty pod": {interlink.PathCreate, map[string]any{}, http.StatusUnprocessableEntity},
		"create too large":       {interlink.PathCreate, map[string]any{"jobScript": strings.Repeat("x", 2<<20)}, http.StatusRequestEntityTooLarge},
		"status of an object":    {interlink.PathStatus, map[string]any{}, http.StatusBadRequest},
		"delete of nothing":      {interlink.PathDelete, nil, http.StatusBadRequest},
		"delete of a bad uid":    {interlink.PathDelete, map[string]any{"metadata": map[string]any{"uid": "a,b=c"}}, http.StatusBadRequest},
		"log of nothing":         {interlink.PathLogs, nil, http.StatusBadRequest},
		"log of negative tail":   {interlink.PathLogs, map[string]any{"PodUID": "u", "Opts": map[string]any{"Tail": -1}}, http.StatusBadRequest},
		"log of unknown pod":     {interlink.PathLogs, map[string]any{"PodUID": "u"}, http.StatusNotFound},
	} {
		for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete} {
			code, body, _ := s.call(method, test.path, test.body, nil)
			assert.Equal(t, test.want, code, "%s %s: %s", method, name, body)
		}
	}
	code, _, _ := s.call(http.MethodGet, "/nothing", nil, nil)
	assert.Equal(t, http.StatusNotFound, code)
}

func TestLogOfContainerThatHasNotStarted(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	request := originPod("silent")
	s.create(request)
	code, body, _ := s.call(http.MethodGet, interlink.PathLogs, interlink.LogRequest{
		Namespace: "physics", PodUID: string(request.Pod.UID), PodName: "silent", ContainerName: "main",
	}, nil)
	assert.Contains(t, []int{http.StatusBadRequest, http.StatusOK}, code)
	t.Log(code, body)
	code, body, _ = s.call(http.MethodGet, interlink.PathLogs, interlink.LogRequest{
		Namespace: "physics", PodUID: string(request.Pod.UID), PodName: "silent", ContainerName: "none",
	}, nil)
	assert.Equal(t, http.StatusBadRequest, code, body)
}
