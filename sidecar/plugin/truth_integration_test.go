// SPDX-License-Identifier: Apache-2.0

//go:build integration

package plugin_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/cloudveneto/caas/internal/interlink"
	"github.com/cloudveneto/caas/sidecar/plugin/translate"
)

// metricsAPI is what a metrics server adds to a cluster, as far as its readers can
// tell: the API server itself keeps the figures, with its rights and selectors.
const metricsAPI = `{
  "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
  "metadata": {"name": "pods.metrics.k8s.io", "annotations": {"api-approved.kubernetes.io": "unapproved, a test"}},
  "spec": {
    "group": "metrics.k8s.io", "scope": "Namespaced",
    "names": {"plural": "pods", "singular": "pod", "kind": "PodMetrics", "listKind": "PodMetricsList"},
    "versions": [{"name": "v1beta1", "served": true, "storage": true,
      "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}]
  }
}`

func post(t *testing.T, admin kubernetes.Interface, path, body string) error {
	t.Helper()
	return admin.CoreV1().RESTClient().Post().AbsPath(path).SetHeader("Content-Type", "application/json").Body([]byte(body)).Do(t.Context()).Error()
}

// measure plays the metrics server.
func (s *sidecar) measure(pod *corev1.Pod, labels map[string]string) {
	s.t.Helper()
	encoded, err := json.Marshal(labels)
	require.NoError(s.t, err)
	body := fmt.Sprintf(`{"apiVersion":"metrics.k8s.io/v1beta1","kind":"PodMetrics","metadata":{"name":%q,"labels":%s},
		"timestamp":"2026-11-21T10:00:00Z","window":"15.5s","containers":[{"name":"main","usage":{"cpu":"250m","memory":"64Mi"}}]}`, pod.Name, encoded)
	t, ok := s.t.(*testing.T)
	require.True(s.t, ok)
	require.Eventually(s.t, func() bool {
		return post(t, s.admin, "/apis/metrics.k8s.io/v1beta1/namespaces/"+s.namespace+"/pods", body) == nil
	}, 30*time.Second, 100*time.Millisecond, "the metrics API is there")
}

func (s *sidecar) figures(node string) interlink.StatsResponse {
	s.t.Helper()
	query := url.Values{interlink.QueryCluster: {"c1"}, interlink.QueryNode: {node}}
	code, body, _ := s.call(http.MethodGet, interlink.PathStats+"?"+query.Encode(), nil, nil)
	require.Equal(s.t, http.StatusOK, code, body)
	var answer interlink.StatsResponse
	require.NoError(s.t, json.Unmarshal([]byte(body), &answer))
	return answer
}

// tellsTheTruth is what the sidecar can do with the rights of deploy/.
func (s *sidecar) tellsTheTruth(t *testing.T) {
	t.Helper()
	require.Eventually(t, func() bool { return slices.Contains(s.offers(), interlink.ExtensionEvents) }, 30*time.Second, 50*time.Millisecond)
	request := originPod("truthful")
	r := s.watch(interlink.QueryEvents)
	silent := s.watch()
	s.create(request)
	created := s.pods(request.Pod.UID)[0]

	unschedulable := r.next(ofType(interlink.EventPodEvent)).Event
	assert.Equal(t, string(request.Pod.UID), unschedulable.PodUID)
	assert.Equal(t, "FailedScheduling", unschedulable.Reason)
	assert.Equal(t, "default-scheduler", unschedulable.Component)
	assert.False(t, unschedulable.Last.IsZero())
	now := metav1.Now()
	_, err := s.admin.CoreV1().Events(s.namespace).Create(t.Context(), &corev1.Event{
		ObjectMeta:     metav1.ObjectMeta{Name: "pulling", Namespace: s.namespace},
		InvolvedObject: corev1.ObjectReference{Kind: "Pod", Namespace: s.namespace, Name: created.Name, UID: created.UID},
		Reason:         "BackOff", Type: corev1.EventTypeWarning, Count: 7, FirstTimestamp: now, LastTimestamp: now,
		Source: corev1.EventSource{Component: "kubelet", Host: "osn-1"},
	}, metav1.CreateOptions{})
	require.NoError(t, err)
	told := r.next(func(event interlink.StatusEvent) bool {
		return event.Type == interlink.EventPodEvent && event.Event.Reason == "BackOff"
	}).Event
	assert.Equal(t, int32(7), told.Count)
	late := s.watch(interlink.QueryEvents)
	late.next(func(event interlink.StatusEvent) bool {
		return event.Type == interlink.EventPodEvent && event.Event.ID == told.ID
	})
	for drained := false; !drained; {
		select {
		case event := <-silent.events:
			assert.NotEqual(t, interlink.EventPodEvent, event.Type, "who did not ask is told no events")
		default:
			drained = true
		}
	}

	require.NoError(t, post(t, s.admin, "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", metricsAPI))
	s.measure(&created, created.Labels)
	stranger := created
	stranger.Name = "stranger"
	s.measure(&stranger, map[string]string{translate.LabelManagedBy: "somebody"})
	s.ephemeralContainers(t, request)
	require.Eventually(t, func() bool { return len(s.figures("vk1").Pods) == 1 }, 40*time.Second, time.Second)
	figures := s.figures("vk1")
	assert.True(t, figures.Available)
	assert.Equal(t, string(request.Pod.UID), figures.Pods[0].UID)
	assert.Equal(t, 15500*time.Millisecond, figures.Pods[0].Window.Duration)
	assert.Equal(t, []interlink.ContainerStats{{Name: "main", CPUNanoCores: 250e6, MemoryBytes: 64 << 20}}, figures.Pods[0].Containers)
	assert.Empty(t, s.figures("vk2").Pods, "another node's pods are not told")
	asked := len(s.recorder.requests("GET /apis/metrics.k8s.io"))
	s.figures("vk1")
	assert.LessOrEqual(t, len(s.recorder.requests("GET /apis/metrics.k8s.io")), asked+1, "readers share an answer")
	s.delete(&request.Pod)
}

func (s *sidecar) offers() []interlink.Extension {
	s.t.Helper()
	_, body, _ := s.call(http.MethodGet, interlink.PathStatus, []corev1.Pod{}, nil)
	var ping interlink.PingResponse
	require.NoError(s.t, json.Unmarshal([]byte(body), &ping))
	return ping.PluginExtensions
}

func (s *sidecar) ephemeralContainers(t *testing.T, request *interlink.PluginPod) {
	t.Helper()
	path := interlink.EphemeralPath(string(request.Pod.UID))
	wanted := request.Pod.DeepCopy()
	wanted.Spec.EphemeralContainers = []corev1.EphemeralContainer{{
		TargetContainerName: "main", EphemeralContainerCommon: corev1.EphemeralContainerCommon{Name: "doctor", Image: "busybox", Stdin: true},
	}}
	for range 2 { // the second time, nothing changes
		code, body, _ := s.call(http.MethodPost, path, wanted, nil)
		require.Equal(t, http.StatusOK, code, body)
	}
	there := s.pods(request.Pod.UID)[0].Spec.EphemeralContainers
	require.Len(t, there, 1)
	assert.Equal(t, "main", there[0].TargetContainerName)

	refused := wanted.DeepCopy()
	refused.Spec.EphemeralContainers[0].Name = "surgeon"
	refused.Spec.EphemeralContainers[0].SecurityContext = &corev1.SecurityContext{Privileged: new(true)}
	code, body, header := s.call(http.MethodPost, path, refused, nil)
	assert.Equal(t, http.StatusUnprocessableEntity, code)
	assert.Contains(t, body, "spec.ephemeralContainers[surgeon].securityContext.privileged")
	assert.Equal(t, "true", header.Get(interlink.HeaderRefusal))

	elsewhere := wanted.DeepCopy()
	elsewhere.Annotations[interlink.AnnotationOriginNode] = "vk2"
	code, _, _ = s.call(http.MethodPost, path, elsewhere, nil)
	assert.Equal(t, http.StatusNotFound, code, "another virtual node's pod")
	code, _, _ = s.call(http.MethodPost, path, wanted, map[string]string{interlink.HeaderClient: "stranger"})
	assert.Equal(t, http.StatusNotFound, code, "another client's pod")
	code, _, _ = s.call(http.MethodPost, interlink.EphemeralPath("other-uid"), wanted, nil)
	assert.Equal(t, http.StatusBadRequest, code)
	changed := wanted.DeepCopy()
	changed.Spec.EphemeralContainers[0].Image = "other"
	code, body, header = s.call(http.MethodPost, path, changed, nil)
	assert.Equal(t, http.StatusUnprocessableEntity, code, body)
	assert.Equal(t, "true", header.Get(interlink.HeaderRefusal))
}
