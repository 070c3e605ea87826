// SPDX-License-Identifier: Apache-2.0

//go:build integration

package plugin_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cloudveneto/caas/internal/interlink"
	"github.com/cloudveneto/caas/sidecar/plugin"
	"github.com/cloudveneto/caas/sidecar/plugin/translate"
)

// reader reads one status stream.
type reader struct {
	t      testing.TB
	events chan interlink.StatusEvent
}

// watch opens a status stream for cluster c1, node vk1, with what else is asked for.
func (s *sidecar) watch(asked ...string) *reader {
	s.t.Helper()
	ctx, cancel := context.WithCancel(s.t.Context())
	query := url.Values{interlink.QueryCluster: {"c1"}, interlink.QueryNode: {"vk1"}}
	for _, name := range asked {
		query.Set(name, "true")
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url+interlink.PathWatch+"?"+query.Encode(), nil)
	require.NoError(s.t, err)
	response, err := (&http.Transport{}).RoundTrip(request)
	require.NoError(s.t, err)
	require.Equal(s.t, http.StatusOK, response.StatusCode)
	assert.Equal(s.t, interlink.ContentTypeStream, response.Header.Get("Content-Type"))
	r := &reader{t: s.t, events: make(chan interlink.StatusEvent, 10000)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		lines := bufio.NewScanner(response.Body)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			var event interlink.StatusEvent
			if assert.NoError(s.t, json.Unmarshal(lines.Bytes(), &event)) {
				r.events <- event
			}
		}
	}()
	s.t.Cleanup(func() {
		cancel()
		_ = response.Body.Close()
		<-done
	})
	return r
}

// next returns the next event that matches, within a minute: the scheduler of the shared cluster has much to do.
func (r *reader) next(matches func(interlink.StatusEvent) bool) interlink.StatusEvent {
	r.t.Helper()
	timeout := time.NewTimer(time.Minute)
	defer timeout.Stop()
	for {
		select {
		case event := <-r.events:
			if matches(event) {
				return event
			}
		case <-timeout.C:
			require.FailNow(r.t, "no such event came")
		}
	}
}

func ofType(wanted interlink.EventType) func(interlink.StatusEvent) bool {
	return func(event interlink.StatusEvent) bool { return event.Type == wanted }
}

func TestStream(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	old := originPod("old")
	s.create(old)
	foreign := originPod("foreign")
	foreign.Pod.Annotations[interlink.AnnotationOriginNode] = "vk2"
	s.create(foreign)

	r := s.watch()
	node := r.next(ofType(interlink.EventNode))
	assert.Equal(t, "ok", node.Node.Status)
	snapshot := r.next(ofType(interlink.EventStatus))
	assert.Equal(t, string(old.Pod.UID), snapshot.Status.UID)
	assert.Equal(t, "physics", snapshot.Status.Namespace)
	assert.Equal(t, corev1.PodPending, snapshot.Status.Detail.Phase)
	assert.Equal(t, "vk1", snapshot.Status.Detail.OriginNode)
	synced := r.next(func(interlink.StatusEvent) bool { return true })
	for synced.Type == interlink.EventStatus { // the scheduler's condition may come as a change of its own
		synced = r.next(func(interlink.StatusEvent) bool { return true })
	}
	assert.Equal(t, interlink.EventSynced, synced.Type)

	fresh := originPod("fresh")
	s.create(fresh)
	r.next(func(event interlink.StatusEvent) bool {
		return event.Type == interlink.EventStatus && event.Status.UID == string(fresh.Pod.UID)
	})
	s.setStatus(fresh.Pod.UID, corev1.PodStatus{
		Phase: corev1.PodRunning, PodIP: "10.1.2.3",
		ContainerStatuses: []corev1.ContainerStatus{{
			Name: "main", Ready: true, RestartCount: 3,
			State:                corev1.ContainerState{Running: &corev1.ContainerStateRunning{}},
			LastTerminationState: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: 137, Reason: "OOMKilled"}},
		}},
	})
	running := r.next(func(event interlink.StatusEvent) bool {
		return event.Type == interlink.EventStatus && event.Status.UID == string(fresh.Pod.UID) && event.Status.Detail.Phase == corev1.PodRunning
	})
	assert.Equal(t, "10.1.2.3", running.Status.Detail.PodIP)
	assert.EqualValues(t, 3, running.Status.Containers[0].RestartCount)
	assert.Equal(t, "OOMKilled", running.Status.Containers[0].LastTerminationState.Terminated.Reason)

	s.delete(&fresh.Pod)
	gone := r.next(ofType(interlink.EventGone))
	assert.Equal(t, string(fresh.Pod.UID), gone.Status.UID)
	assert.Equal(t, "10.1.2.3", gone.Status.Detail.PodIP, "the last status")

	for len(r.events) > 0 {
		event := <-r.events
		if event.Status != nil {
			assert.NotEqual(t, string(foreign.Pod.UID), event.Status.UID, "another node's pod")
		}
	}
}

// TestStreamTellsCapacity is alone with its node: the scheduler would give it the pods of others.
func TestStreamTellsCapacity(t *testing.T) {
	label := "pool"
	s := start(t, nil)
	s2 := startIn(t, s.admin, s.namespace, func(settings *plugin.Settings) { settings.Capacity.Labels = []string{label} })
	r := s2.watch()
	r.next(ofType(interlink.EventSynced))
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "cap-" + s.namespace, Labels: map[string]string{label: s.namespace}}}
	_, err := s.admin.CoreV1().Nodes().Create(t.Context(), node, metav1.CreateOptions{})
	require.NoError(t, err)
	t.Cleanup(func() {
		_ = s.admin.CoreV1().Nodes().Delete(context.WithoutCancel(t.Context()), node.Name, metav1.DeleteOptions{})
	})
	ready(t, s, node.Name)
	event := r.next(func(e interlink.StatusEvent) bool { return e.Type == interlink.EventNode && e.Node.Resources != nil })
	assert.NotEmpty(t, event.Node.Resources.CPU)
	assert.NotEmpty(t, event.Node.Resources.Accelerators)
	assert.Equal(t, map[string]string{label: s.namespace, translate.ValueLabel(label, s.namespace): "true"}, event.Node.Labels)
}

// ready plays the kubelet of a node with four CPUs and two GPUs, and the
// controllers that watch its heartbeats.
func ready(t *testing.T, s *sidecar, name string) {
	t.Helper()
	require.Eventually(t, func() bool {
		node, err := s.admin.CoreV1().Nodes().Get(t.Context(), name, metav1.GetOptions{})
		if err != nil {
			return false
		}
		node.Status.Conditions = []corev1.NodeCondition{{
			Type: corev1.NodeReady, Status: corev1.ConditionTrue, LastHeartbeatTime: metav1.Now(), LastTransitionTime: metav1.Now(),
		}}
		node.Status.Allocatable = corev1.ResourceList{
			corev1.ResourceCPU: resource.MustParse("4"), corev1.ResourceMemory: resource.MustParse("8Gi"),
			corev1.ResourcePods: resource.MustParse("110"), "nvidia.com/gpu": resource.MustParse("2"),
		}
		node.Status.Capacity = node.Status.Allocatable
		if _, err = s.admin.CoreV1().Nodes().UpdateStatus(t.Context(), node, metav1.UpdateOptions{}); err != nil {
			return false
		}
		node, err = s.admin.CoreV1().Nodes().Get(t.Context(), name, metav1.GetOptions{})
		if err != nil {
			return false
		}
		node.Spec.Taints = nil
		_, err = s.admin.CoreV1().Nodes().Update(t.Context(), node, metav1.UpdateOptions{})
		return err == nil
	}, 10*time.Second, 100*time.Millisecond)
}

func TestReaderThatStopsReadingIsDropped(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	address := strings.TrimPrefix(s.url, "http://")
	dialer := net.Dialer{}
	connection, err := dialer.DialContext(t.Context(), "tcp", address)
	require.NoError(t, err)
	defer func() { _ = connection.Close() }()
	require.NoError(t, connection.(*net.TCPConn).SetReadBuffer(4096))
	_, err = fmt.Fprintf(connection, "GET %s?cluster=c1&node=vk1 HTTP/1.1\r\nHost: x\r\n\r\n", interlink.PathWatch)
	require.NoError(t, err)
	request := originPod("chatty")
	s.create(request)
	// The plugin must go on serving others, and drop the reader once its buffers are full.
	message := strings.Repeat("x", 900<<10)
	healthy := s.watch()
	assert.Eventually(t, func() bool { return s.metric("caas_sidecar_status_streams") == 2 }, 10*time.Second, 20*time.Millisecond)
	for i := range 30 {
		s.setStatus(request.Pod.UID, corev1.PodStatus{Phase: corev1.PodPending, Message: fmt.Sprint(i, message)})
		healthy.next(func(e interlink.StatusEvent) bool {
			return e.Type == interlink.EventStatus && strings.HasPrefix(e.Status.Detail.Message, fmt.Sprint(i, "x"))
		})
	}
	assert.Eventually(t, func() bool { return s.metric("caas_sidecar_status_streams") == 1 },
		20*time.Second, 200*time.Millisecond, "the reader that stopped is dropped, the other one stays")
}
