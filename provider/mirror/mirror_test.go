// SPDX-License-Identifier: Apache-2.0

package mirror_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"github.com/cloudveneto/caas/internal/interlink"
	"github.com/cloudveneto/caas/provider/mirror"
)

const patience = 10 * time.Second

func pod(name string) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "user", Name: name, UID: types.UID("uid-" + name)}}
}

func at(second int) metav1.MicroTime {
	return metav1.NewMicroTime(time.Unix(1_700_000_000+int64(second), 0))
}

func event(id, reason string, count int32) interlink.PodEvent {
	return interlink.PodEvent{
		PodUID: "ignored", ID: id, Type: corev1.EventTypeWarning, Reason: reason, Message: "no luck " + reason, Count: count,
		First: at(0), Last: at(int(count)), Component: "kubelet", FieldPath: "spec.containers{main}",
	}
}

// start runs a mirror until the test ends, or stop is called.
func start(t *testing.T, client *fake.Clientset, edit func(*mirror.Config)) (m *mirror.Mirror, stop func()) {
	t.Helper()
	cfg := mirror.Config{Client: client, Node: "caas-0", Metrics: prometheus.NewRegistry()}
	if edit != nil {
		edit(&cfg)
	}
	m, err := mirror.New(cfg)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	stopped := false
	stop = func() {
		if !stopped {
			stopped = true
			cancel()
			require.NoError(t, <-done)
		}
	}
	t.Cleanup(stop)
	return m, stop
}

func events(t *testing.T, client *fake.Clientset) []corev1.Event {
	t.Helper()
	list, err := client.CoreV1().Events("user").List(t.Context(), metav1.ListOptions{})
	require.NoError(t, err)
	return list.Items
}

func TestEventHasBothTimes(t *testing.T) {
	t.Parallel()
	client := fake.NewClientset()
	m, _ := start(t, client, nil)
	m.Take(pod("a"), event("e1", "BackOff", 3))
	require.Eventually(t, func() bool { return len(events(t, client)) == 1 }, patience, time.Millisecond)
	got := events(t, client)[0]
	assert.Equal(t, corev1.ObjectReference{
		Kind: "Pod", APIVersion: "v1", Namespace: "user", Name: "a", UID: "uid-a", FieldPath: "spec.containers{main}",
	}, got.InvolvedObject)
	assert.Equal(t, corev1.EventSource{Component: "kubelet", Host: "caas-0"}, got.Source)
	assert.Equal(t, "BackOff", got.Reason)
	assert.Equal(t, corev1.EventTypeWarning, got.Type)
	assert.Equal(t, int32(3), got.Count)
	assert.Equal(t, at(0).Unix(), got.FirstTimestamp.Unix())
	assert.Equal(t, at(3).Unix(), got.LastTimestamp.Unix())
	assert.Equal(t, at(0).Unix(), got.EventTime.Unix())
	assert.Equal(t, "kubelet", got.ReportingController, "the API server wants these with eventTime")
	assert.Equal(t, "caas-0", got.ReportingInstance)
	assert.Equal(t, "BackOff", got.Action)
}

func TestOddEventsAreStillTaken(t *testing.T) {
	t.Parallel()
	client := fake.NewClientset()
	m, _ := start(t, client, nil)
	odd := interlink.PodEvent{ID: "x", Message: strings.Repeat("é", 2000), Component: "not a name", First: at(9), Last: at(1)}
	long := pod(strings.Repeat("a", 240) + "." + strings.Repeat("b", 12))
	m.Take(long, odd)
	require.Eventually(t, func() bool { return len(events(t, client)) == 1 }, patience, time.Millisecond)
	got := events(t, client)[0]
	assert.LessOrEqual(t, len(got.Name), 253)
	assert.LessOrEqual(t, len(got.Message), interlink.MaxEventMessage)
	assert.True(t, strings.HasPrefix(strings.Repeat("é", 2000), got.Message), "no character is split")
	assert.Equal(t, "Unknown", got.Reason)
	assert.Equal(t, corev1.EventTypeNormal, got.Type)
	assert.Equal(t, "interlink", got.ReportingController)
	assert.Equal(t, got.FirstTimestamp, got.LastTimestamp)
	assert.Equal(t, int32(1), got.Count)
}

func TestNothingIsDoubled(t *testing.T) {
	t.Parallel()
	client := fake.NewClientset()
	first, stop := start(t, client, nil)
	first.Take(pod("a"), event("e1", "BackOff", 1))
	require.Eventually(t, func() bool { return len(events(t, client)) == 1 }, patience, time.Millisecond)
	before := len(client.Actions())
	first.Take(pod("a"), event("e1", "BackOff", 1))
	first.Take(pod("a"), event("e1", "BackOff", 2))
	require.Eventually(t, func() bool { return events(t, client)[0].Count == 2 }, patience, time.Millisecond)
	stop()
	patches := 0
	for _, action := range client.Actions()[before:] {
		if action.GetVerb() == "patch" {
			patches++
		}
		assert.NotEqual(t, "create", action.GetVerb(), "what is known to be there is patched")
	}
	assert.Equal(t, 1, patches, "what is known already is not written again")

	again, _ := start(t, client, nil) // another process
	again.Take(pod("a"), event("e1", "BackOff", 5))
	require.Eventually(t, func() bool { return events(t, client)[0].Count == 5 }, patience, time.Millisecond)
	assert.Len(t, events(t, client), 1)
	assert.Equal(t, at(5).Unix(), events(t, client)[0].LastTimestamp.Unix())

	require.NoError(t, client.CoreV1().Events("user").Delete(t.Context(), events(t, client)[0].Name, metav1.DeleteOptions{}))
	again.Take(pod("a"), event("e1", "BackOff", 6))
	require.Eventually(t, func() bool { return len(events(t, client)) == 1 }, patience, time.Millisecond, "one whose time is over comes anew")
}

func TestBoundsPerPod(t *testing.T) {
	t.Parallel()
	client := fake.NewClientset()
	m, stop := start(t, client, func(cfg *mirror.Config) {
		cfg.PodRate = mirror.Limit{Every: time.Hour, Burst: 3}
	})
	for i := range 1000 {
		m.Take(pod("noisy"), event(fmt.Sprint("n", i), "Noise", 1))
	}
	m.Take(pod("quiet"), event("q", "Quiet", 1))
	require.Eventually(t, func() bool { return len(events(t, client)) == 4 }, patience, time.Millisecond)
	stop()
	written := map[string]int{}
	for _, got := range events(t, client) {
		written[got.InvolvedObject.Name]++
	}
	assert.Equal(t, map[string]int{"noisy": 3, "quiet": 1}, written)
}

func TestOverallRate(t *testing.T) {
	t.Parallel()
	client := fake.NewClientset()
	m, stop := start(t, client, func(cfg *mirror.Config) { cfg.Rate = mirror.Limit{Every: time.Hour, Burst: 7} })
	for i := range 50 {
		m.Take(pod(fmt.Sprint("p", i)), event("e", "Once", 1))
	}
	require.Eventually(t, func() bool { return len(events(t, client)) == 7 }, patience, time.Millisecond)
	stop()
	assert.Len(t, events(t, client), 7)
}

func TestTroubleIsRetriedAndHopelessIsNot(t *testing.T) {
	t.Parallel()
	client := fake.NewClientset()
	tries := map[string]int{}
	client.PrependReactor("create", "events", func(action clienttesting.Action) (bool, runtime.Object, error) {
		create, ok := action.(clienttesting.CreateAction)
		if !ok {
			return false, nil, nil
		}
		created, ok := create.GetObject().(*corev1.Event)
		if !ok {
			return false, nil, nil
		}
		tries[created.Reason]++
		switch {
		case created.Reason == "Denied":
			return true, nil, apierrors.NewForbidden(schema.GroupResource{Resource: "events"}, created.Name, nil)
		case tries[created.Reason] == 1:
			return true, nil, apierrors.NewServiceUnavailable("later")
		}
		return false, nil, nil
	})
	m, stop := start(t, client, nil)
	m.Take(pod("a"), event("e1", "Denied", 1))
	m.Take(pod("a"), event("e2", "Flaky", 1))
	require.Eventually(t, func() bool { return len(events(t, client)) == 1 }, patience, time.Millisecond)
	stop()
	assert.Equal(t, map[string]int{"Denied": 1, "Flaky": 2}, tries)
}

func TestForgetDropsWhatWaits(t *testing.T) {
	t.Parallel()
	client := fake.NewClientset()
	m, err := mirror.New(mirror.Config{Client: client, Node: "n"})
	require.NoError(t, err)
	m.Take(pod("a"), event("e1", "Killing", 1))
	m.Take(pod("b"), event("e2", "Killing", 1))
	m.Forget("uid-a")
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	require.Eventually(t, func() bool { return len(events(t, client)) == 1 }, patience, time.Millisecond)
	cancel()
	require.NoError(t, <-done)
	assert.Equal(t, "b", events(t, client)[0].InvolvedObject.Name)
}
