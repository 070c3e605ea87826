// SPDX-License-Identifier: Apache-2.0

package provider_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes/fake"
	metadatafake "k8s.io/client-go/metadata/fake"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/client-go/tools/record"

	"github.com/cloudveneto/caas/internal/logging"
	"github.com/cloudveneto/caas/provider"
	"github.com/cloudveneto/caas/provider/bundle"
	"github.com/cloudveneto/caas/provider/providertest"
)

const (
	nodeName  = "far-away"
	clusterID = "origin-1"
	patience  = 10 * time.Second
	glance    = 5 * time.Millisecond
)

// harness is an origin with one provider in front of a far end.
type harness struct {
	t      *testing.T
	far    *providertest.Far
	client *fake.Clientset
	// objects is the metadata of ConfigMaps and Secrets; objectWatches counts their
	// watches that were opened.
	objects       *metadatafake.FakeMetadataClient
	objectWatches atomic.Int64
	figures       *prometheus.Registry
	mu            sync.Mutex
	events        *record.FakeRecorder
	node          *provider.Provider
	stop          func()
	// watches counts the watches of pods that are open. client-go's object tracker
	// forgets what happens between a list and the watch that follows it, which no
	// API server does, so nothing may happen then.
	watches atomic.Int64
	// silent keeps the far end's first answer back.
	silent bool
	// quiet is how long a pod may stay without a status; zero is the default.
	quiet time.Duration
	// version is the last one given to a pod; guarded by mu.
	version int
}

func start(t *testing.T, options providertest.Options, objects ...*corev1.Pod) *harness {
	t.Helper()
	h := &harness{t: t, far: providertest.Start(t, options), client: fake.NewClientset(), events: record.NewFakeRecorder(1000)}
	h.objects = registry(t)
	h.objects.PrependWatchReactor("*", func(action clienttesting.Action) (bool, watch.Interface, error) {
		stream, err := h.objects.Tracker().Watch(action.GetResource(), action.GetNamespace())
		h.objectWatches.Add(1)
		return true, stream, err
	})
	for _, pod := range objects {
		require.NoError(t, h.client.Tracker().Add(pod))
	}
	h.client.PrependWatchReactor("pods", func(action clienttesting.Action) (bool, watch.Interface, error) {
		stream, err := h.client.Tracker().Watch(action.GetResource(), action.GetNamespace())
		h.watches.Add(1)
		return true, stream, err
	})
	h.client.PrependReactor("patch", "pods", h.refuseStale)
	return h
}

// refuseStale refuses a status for a version of a pod that is no more, as every API server does.
func (h *harness) refuseStale(action clienttesting.Action) (bool, runtime.Object, error) {
	patch, ok := action.(clienttesting.PatchAction)
	if !ok || patch.GetSubresource() != "status" {
		return false, nil, nil
	}
	var asked metav1.PartialObjectMetadata
	if err := json.Unmarshal(patch.GetPatch(), &asked); err != nil || asked.ResourceVersion == "" {
		return false, nil, err //nolint:wrapcheck // the API server's answer
	}
	pods := corev1.SchemeGroupVersion.WithResource("pods")
	found, err := h.client.Tracker().Get(pods, patch.GetNamespace(), patch.GetName())
	if pod, ok := found.(*corev1.Pod); err == nil && ok && pod.ResourceVersion != asked.ResourceVersion {
		return true, nil, apierrors.NewConflict(pods.GroupResource(), pod.Name, errors.New("the object has been modified"))
	}
	return false, nil, nil
}

// up starts a provider, as a process would; h.stop ends it.
func (h *harness) up() {
	h.t.Helper()
	collector, err := bundle.New(bundle.Config{Client: h.client, Recorder: h.events})
	require.NoError(h.t, err)
	h.figures = prometheus.NewRegistry()
	far := h.far.Client(h.t)
	h.node, err = provider.New(provider.Config{
		NodeName: nodeName, ClusterID: clusterID, Client: h.client, Metadata: h.objects, FarEnd: far, Debugger: far, Bundler: collector,
		Recorder: h.events, Metrics: h.figures, Debounce: 200 * time.Millisecond, StatusInterval: 20 * time.Millisecond,
		FirstStatusAfter: h.quiet,
	})
	require.NoError(h.t, err)
	level := slog.LevelError
	if os.Getenv("TEST_LOG") != "" {
		level = slog.LevelDebug
	}
	logger := slog.New(slog.NewTextHandler(h.t.Output(), &slog.HandlerOptions{Level: level}))
	ctx, cancel := context.WithCancel(logging.Into(h.t.Context(), logger))
	done := make(chan error, 1)
	node, watches := h.node, h.watches.Load()
	go func() { done <- node.Run(ctx) }()
	if !h.silent {
		node.Offer(h.far.Ping())
	}
	stopped := false
	h.stop = func() {
		if !stopped {
			stopped = true
			cancel()
			require.NoError(h.t, <-done)
		}
	}
	h.t.Cleanup(h.stop)
	require.Eventually(h.t, func() bool { return node.Ready() && h.watches.Load() > watches }, patience, glance)
}

func newPod(name string, edits ...func(*corev1.Pod)) *corev1.Pod {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "user", Name: name, UID: types.UID("uid-" + name)},
		Spec: corev1.PodSpec{
			NodeName: nodeName, RestartPolicy: corev1.RestartPolicyNever,
			Containers: []corev1.Container{{Name: "main", Image: "busybox"}},
		},
		Status: corev1.PodStatus{Phase: corev1.PodPending, QOSClass: corev1.PodQOSBestEffort},
	}
	for _, edit := range edits {
		edit(pod)
	}
	return pod
}

func (h *harness) add(pod *corev1.Pod) {
	h.t.Helper()
	_, err := h.client.CoreV1().Pods(pod.Namespace).Create(h.t.Context(), pod, metav1.CreateOptions{})
	require.NoError(h.t, err)
}

func (h *harness) pod(name string) *corev1.Pod {
	h.t.Helper()
	pod, err := h.client.CoreV1().Pods("user").Get(h.t.Context(), name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	require.NoError(h.t, err)
	return pod
}

// delete marks a pod as the API server does for a graceful deletion. It is a
// patch, which the client does in one step: a read and a write could undo a
// deletion or a status that came between them, which no API server does.
func (h *harness) delete(name string) {
	h.t.Helper()
	patch := fmt.Sprintf(`{"metadata":{"deletionTimestamp":%q,"deletionGracePeriodSeconds":30}}`,
		time.Now().Add(30*time.Second).UTC().Format(time.RFC3339))
	_, err := h.client.CoreV1().Pods("user").Patch(h.t.Context(), name, types.MergePatchType, []byte(patch), metav1.PatchOptions{})
	if !apierrors.IsNotFound(err) {
		require.NoError(h.t, err)
	}
}

// vanish removes a pod's object at once, as a forced deletion does.
func (h *harness) vanish(name string) {
	h.t.Helper()
	require.NoError(h.t, h.client.Tracker().Delete(corev1.SchemeGroupVersion.WithResource("pods"), "user", name))
}

// patch changes a pod in one step, see delete, and gives it a new version.
func (h *harness) patch(name, patch string) {
	h.t.Helper()
	h.mu.Lock()
	h.version++
	patch = strings.Replace(patch, "{", fmt.Sprintf(`{"metadata":{"resourceVersion":"%d"},`, h.version), 1)
	h.mu.Unlock()
	_, err := h.client.CoreV1().Pods("user").Patch(h.t.Context(), name, types.StrategicMergePatchType, []byte(patch), metav1.PatchOptions{})
	require.NoError(h.t, err)
}

func (h *harness) relabel(name, key, value string) {
	h.t.Helper()
	h.mu.Lock()
	h.version++
	patch := fmt.Sprintf(`{"metadata":{"resourceVersion":"%d","labels":{%q:%q}}}`, h.version, key, value)
	h.mu.Unlock()
	_, err := h.client.CoreV1().Pods("user").Patch(h.t.Context(), name, types.StrategicMergePatchType, []byte(patch), metav1.PatchOptions{})
	require.NoError(h.t, err)
}

// figure is the value of a gauge or a counter, or of a histogram how often it was given one, of all its series together.
func (h *harness) figure(name string) float64 {
	h.t.Helper()
	families, err := h.figures.Gather()
	require.NoError(h.t, err)
	for _, family := range families {
		if family.GetName() != name {
			continue
		}
		total := 0.0
		for _, metric := range family.GetMetric() {
			total += metric.GetGauge().GetValue() + metric.GetCounter().GetValue() + float64(metric.GetHistogram().GetSampleCount())
		}
		return total
	}
	require.FailNow(h.t, "no such figure", name)
	return 0
}

// never fails when something happens in a moment that is longer than all pauses are.
func (h *harness) never(what string, check func() bool) {
	h.t.Helper()
	// require.Never may leave a look under way that fails when the test has ended.
	for end := time.Now().Add(time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		require.False(h.t, check(), what)
	}
}

func (h *harness) until(what string, check func() bool) {
	h.t.Helper()
	require.Eventually(h.t, check, patience, glance, what)
}

func (h *harness) untilPhase(name string, phase corev1.PodPhase) *corev1.Pod {
	h.t.Helper()
	h.until(fmt.Sprintf("%s is %s", name, phase), func() bool {
		pod := h.pod(name)
		return pod != nil && pod.Status.Phase == phase
	})
	return h.pod(name)
}

func (h *harness) untilGone(name string) {
	h.t.Helper()
	h.until(name+" is gone", func() bool { return h.pod(name) == nil })
}

func (h *harness) untilHeld(count int) {
	h.t.Helper()
	h.until(fmt.Sprintf("far end holds %d pods", count), func() bool { return len(h.far.Held()) == count })
}

// running adds the only pod, and returns it when it runs.
func (h *harness) running(name string) *corev1.Pod {
	h.t.Helper()
	h.add(newPod(name))
	h.untilHeld(1)
	h.far.Run(types.UID("uid-" + name))
	return h.untilPhase(name, corev1.PodRunning)
}

// lastPatch is the last patch of a pod's status.
func (h *harness) lastPatch(name string) string {
	patches := h.patches(name)
	if len(patches) == 0 {
		return ""
	}
	return patches[len(patches)-1]
}

// patches are all patches of a pod's status.
func (h *harness) patches(name string) []string {
	var texts []string
	for _, action := range h.client.Actions() {
		if patch, ok := action.(clienttesting.PatchAction); ok && patch.GetName() == name && patch.GetSubresource() == "status" {
			texts = append(texts, string(patch.GetPatch()))
		}
	}
	return texts
}

func (h *harness) untilEvent(reason string) string {
	h.t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	for {
		select {
		case event := <-h.events.Events:
			if strings.Contains(event, " "+reason+" ") {
				return event
			}
		case <-deadline.C:
			require.FailNow(h.t, "no event "+reason)
		}
	}
}
