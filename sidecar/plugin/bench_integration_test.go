// SPDX-License-Identifier: Apache-2.0

//go:build integration

package plugin_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cloudveneto/caas/internal/interlink"
	"github.com/cloudveneto/caas/sidecar/plugin/podstate"
	"github.com/cloudveneto/caas/sidecar/plugin/table"
)

// BenchmarkBurst compares a burst of pods through the plugin with the same burst
// created directly, on one API server.
func BenchmarkBurst(b *testing.B) {
	const count = 500
	for name, kind := range map[string]func(string) *interlink.PluginPod{
		"bare":    originPod,
		"objects": func(name string) *interlink.PluginPod { return withObjects(originPod(name)) },
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				burst(b, count, kind)
			}
		})
	}
}

func burst(b *testing.B, count int, kind func(string) *interlink.PluginPod) {
	b.Helper()
	s := start(b, nil)
	direct := start(b, nil)
	begin := time.Now()
	parallel(count, func(i int) { s.create(kind(fmt.Sprintf("burst-%d", i))) })
	through := time.Since(begin)
	begin = time.Now()
	parallel(count, func(i int) {
		request := kind(fmt.Sprintf("burst-%d", i))
		pod := request.Pod.DeepCopy()
		pod.Namespace, pod.UID, pod.Spec.NodeName, pod.Spec.Volumes = direct.namespace, "", "", nil
		pod.Spec.Containers[0].VolumeMounts = nil
		for _, container := range request.Containers {
			for _, object := range container.ConfigMaps {
				object.Name, object.Namespace = fmt.Sprintf("%s-%d", object.Name, i), direct.namespace
				_, err := direct.admin.CoreV1().ConfigMaps(direct.namespace).Create(b.Context(), &object, metav1.CreateOptions{})
				require.NoError(b, err)
			}
			for _, object := range container.Secrets {
				object.Name, object.Namespace = fmt.Sprintf("%s-%d", object.Name, i), direct.namespace
				_, err := direct.admin.CoreV1().Secrets(direct.namespace).Create(b.Context(), &object, metav1.CreateOptions{})
				require.NoError(b, err)
			}
		}
		_, err := direct.admin.CoreV1().Pods(direct.namespace).Create(b.Context(), pod, metav1.CreateOptions{})
		require.NoError(b, err)
	})
	plain := time.Since(begin)
	b.ReportMetric(through.Seconds(), "through-s")
	b.ReportMetric(plain.Seconds(), "direct-s")
	b.ReportMetric(through.Seconds()/plain.Seconds(), "ratio")
}

func parallel(count int, work func(int)) {
	var group sync.WaitGroup
	slots := make(chan struct{}, 64)
	for i := range count {
		group.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			work(i)
		})
	}
	group.Wait()
}

// BenchmarkChange measures from a status written at the API server to its line in
// the status stream.
func BenchmarkChange(b *testing.B) {
	s := start(b, nil)
	request := originPod("change")
	s.create(request)
	r := s.watch()
	r.next(ofType(interlink.EventSynced))
	i := 0
	for b.Loop() {
		i++
		message := fmt.Sprint("change ", i)
		s.setStatus(request.Pod.UID, corev1.PodStatus{Phase: corev1.PodRunning, Message: message})
		r.next(func(e interlink.StatusEvent) bool {
			return e.Type == interlink.EventStatus && e.Status.Detail.Message == message
		})
	}
}

// BenchmarkStatusList measures /status for 1,000 pods in one call.
func BenchmarkStatusList(b *testing.B) {
	s := start(b, nil)
	pods := make([]corev1.Pod, 1000)
	parallel(len(pods), func(i int) {
		request := originPod(fmt.Sprintf("list-%d", i))
		s.create(request)
		pods[i] = request.Pod
	})
	body, err := json.Marshal(pods)
	require.NoError(b, err)
	for b.Loop() {
		request, err := http.NewRequestWithContext(b.Context(), http.MethodGet, s.url+interlink.PathStatus, bytes.NewReader(body))
		require.NoError(b, err)
		response, err := http.DefaultTransport.RoundTrip(request)
		require.NoError(b, err)
		_, _ = io.Copy(io.Discard, response.Body)
		_ = response.Body.Close()
	}
}

// BenchmarkMemory measures what the table takes per pod, with the trimmed pod that
// the informer holds as well.
func BenchmarkMemory(b *testing.B) {
	const count = 5000
	for b.Loop() {
		pods := table.New()
		before := heap()
		for i := range count {
			pod := originPod(fmt.Sprint("pod-", i)).Pod
			pod.Labels = map[string]string{"offload.infn.it/uid": fmt.Sprint(i), "offload.infn.it/origin": "default", "app.kubernetes.io/managed-by": "interlink-sidecar"}
			pod.Status = corev1.PodStatus{
				Phase: corev1.PodRunning, PodIP: fmt.Sprint("10.0.0.", i),
				Conditions:        make([]corev1.PodCondition, 5),
				ContainerStatuses: []corev1.ContainerStatus{{Name: "main", ContainerID: strings.Repeat("x", 80), ImageID: strings.Repeat("y", 120)}},
			}
			pods.Observe(table.Trim(&pod))
		}
		after := heap()
		b.ReportMetric(float64(after-before)/count, "B/pod")
		runtime.KeepAlive(podstate.True(pods.Lookup(table.Key{Origin: "default", UID: "1"})))
		runtime.KeepAlive(pods)
	}
}

func heap() uint64 {
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.HeapAlloc
}
