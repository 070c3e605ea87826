// SPDX-License-Identifier: Apache-2.0

package events_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"github.com/cloudveneto/caas/internal/interlink"
	"github.com/cloudveneto/caas/sidecar/plugin/events"
	"github.com/cloudveneto/caas/sidecar/plugin/table"
	"github.com/cloudveneto/caas/sidecar/plugin/translate"
)

const patience = 10 * time.Second

func created(uid, node string) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
		Name: "remote-" + uid, Namespace: "cms", UID: types.UID("remote-" + uid),
		Labels:      map[string]string{translate.LabelUID: uid, translate.LabelOrigin: "default"},
		Annotations: map[string]string{interlink.AnnotationOriginCluster: "c1", interlink.AnnotationOriginNode: node},
	}}
}

func second(s int64) metav1.Time { return metav1.NewTime(time.Unix(1_700_000_000+s, 0)) }

func happening(name, pod string, edit func(*corev1.Event)) *corev1.Event {
	event := &corev1.Event{
		ObjectMeta:     metav1.ObjectMeta{Namespace: "cms", Name: name, UID: types.UID("event-" + name), Labels: map[string]string{"owner": "me"}},
		InvolvedObject: corev1.ObjectReference{Kind: "Pod", Namespace: "cms", UID: types.UID("remote-" + pod), FieldPath: "spec.containers{main}"},
		Reason:         "BackOff", Message: "again", Type: corev1.EventTypeWarning, Count: 2,
		FirstTimestamp: second(1), LastTimestamp: second(2), Source: corev1.EventSource{Component: "kubelet", Host: "osn-1"},
	}
	if edit != nil {
		edit(event)
	}
	return event
}

// start runs a log that may, or may not, see events.
func start(t *testing.T, allowed bool, pods *table.Table, present ...runtime.Object) (*events.Log, *fake.Clientset) {
	t.Helper()
	client := fake.NewClientset(present...)
	client.PrependReactor("create", "selfsubjectaccessreviews", func(action clienttesting.Action) (bool, runtime.Object, error) {
		return true, &authorizationv1.SelfSubjectAccessReview{Status: authorizationv1.SubjectAccessReviewStatus{Allowed: allowed}}, nil
	})
	log, err := events.New(events.Config{Client: client, Table: pods, Namespaces: []string{"cms"}, Selector: "owner=me"})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- log.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-done)
	})
	return log, client
}

// untilWatched waits for the watch: client-go's object tracker forgets what happens
// between a list and the watch that follows it, which no API server does.
func untilWatched(t *testing.T, client *fake.Clientset) {
	t.Helper()
	require.Eventually(t, func() bool {
		return slices.ContainsFunc(client.Actions(), func(action clienttesting.Action) bool { return action.GetVerb() == "watch" })
	}, patience, time.Millisecond)
}

// next returns what a subscription has next.
func next(t *testing.T, s *events.Subscription) []interlink.PodEvent {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	for {
		select {
		case <-s.Wake():
			if taken := s.Take(); len(taken) > 0 {
				return taken
			}
		case <-deadline.C:
			require.FailNow(t, "nothing came")
		}
	}
}

func TestEventsReachWhoAskedForThem(t *testing.T) {
	t.Parallel()
	pods := table.New()
	pods.Observe(created("a", "vk1"))
	pods.Observe(created("b", "vk2"))
	log, client := start(t, true, pods, happening("old", "a", nil), happening("other", "b", nil),
		happening("foreign", "a", func(event *corev1.Event) { event.Labels = nil }))
	require.Eventually(t, func() bool { return log.Len() == 2 }, patience, time.Millisecond)
	assert.True(t, log.Offered())
	untilWatched(t, client)
	s := log.Subscribe(table.Selection{Origin: "default", Cluster: "c1", Node: "vk1"})
	defer log.Unsubscribe(s)
	assert.Equal(t, []interlink.PodEvent{{
		PodUID: "a", ID: "event-old", Type: corev1.EventTypeWarning, Reason: "BackOff", Message: "again", FieldPath: "spec.containers{main}",
		Count: 2, First: metav1.NewMicroTime(second(1).Time), Last: metav1.NewMicroTime(second(2).Time), Component: "kubelet",
	}}, next(t, s), "one that was there before, of this node's pods only")

	_, err := client.CoreV1().Events("cms").Create(t.Context(), happening("scheduled", "a", func(event *corev1.Event) {
		event.FirstTimestamp, event.LastTimestamp, event.Count = metav1.Time{}, metav1.Time{}, 0
		event.EventTime = metav1.NewMicroTime(second(5).Time)
		event.Series = &corev1.EventSeries{Count: 4, LastObservedTime: metav1.NewMicroTime(second(9).Time)}
		event.ReportingController, event.Source, event.Action = "default-scheduler", corev1.EventSource{}, "Binding"
		event.Message = strings.Repeat("x", 5000)
	}), metav1.CreateOptions{})
	require.NoError(t, err)
	got := next(t, s)[0]
	assert.Equal(t, int32(4), got.Count)
	assert.Equal(t, second(5).Unix(), got.First.Unix())
	assert.Equal(t, second(9).Unix(), got.Last.Unix())
	assert.Equal(t, "default-scheduler", got.Component)
	assert.Equal(t, "Binding", got.Action)
	assert.Len(t, got.Message, interlink.MaxEventMessage)

	require.NoError(t, client.CoreV1().Events("cms").Delete(t.Context(), "old", metav1.DeleteOptions{}))
	require.Eventually(t, func() bool { return log.Len() == 2 }, patience, time.Millisecond, "what the cluster forgets is forgotten")
}

func TestEventBeforeItsPodIsKnown(t *testing.T) {
	t.Parallel()
	pods := table.New()
	log, client := start(t, true, pods)
	s := log.Subscribe(table.Selection{Origin: "default"})
	defer log.Unsubscribe(s)
	untilWatched(t, client)
	_, err := client.CoreV1().Events("cms").Create(t.Context(), happening("early", "a", nil), metav1.CreateOptions{})
	require.NoError(t, err)
	require.Eventually(t, func() bool { return log.Len() == 1 }, patience, time.Millisecond)
	assert.Empty(t, s.Take())
	pods.Observe(created("a", "vk1"))
	_, err = client.CoreV1().Events("cms").Create(t.Context(), happening("later", "a", func(event *corev1.Event) { event.LastTimestamp = second(8) }), metav1.CreateOptions{})
	require.NoError(t, err)
	ids := map[string]bool{}
	for len(ids) < 2 {
		for _, event := range next(t, s) {
			ids[event.ID] = true
		}
	}
	assert.Equal(t, map[string]bool{"event-early": true, "event-later": true}, ids)
}

func TestEarlyEventIsClaimedWithoutAnother(t *testing.T) {
	t.Parallel()
	pods := table.New()
	log, client := start(t, true, pods)
	s := log.Subscribe(table.Selection{Origin: "default"})
	defer log.Unsubscribe(s)
	untilWatched(t, client)
	_, err := client.CoreV1().Events("cms").Create(t.Context(), happening("early", "a", nil), metav1.CreateOptions{})
	require.NoError(t, err)
	require.Eventually(t, func() bool { return log.Len() == 1 }, patience, time.Millisecond)
	pods.Observe(created("a", "vk1"))
	assert.Equal(t, "event-early", next(t, s)[0].ID)
}

func TestBoundedPerPod(t *testing.T) {
	t.Parallel()
	pods := table.New()
	pods.Observe(created("a", "vk1"))
	var present []runtime.Object
	for i := range 200 {
		present = append(present, happening(fmt.Sprintf("e%03d", i), "a", func(event *corev1.Event) { event.LastTimestamp = second(int64(i)) }))
	}
	log, _ := start(t, true, pods, present...)
	snapshot := func() []interlink.PodEvent {
		s := log.Subscribe(table.Selection{Origin: "default"})
		defer log.Unsubscribe(s)
		return s.Take()
	}
	require.Eventually(t, func() bool { // the list is taken in one by one
		kept := snapshot()
		return len(kept) > 0 && kept[len(kept)-1].ID == "event-e199" && kept[0].ID == "event-e136"
	}, patience, time.Millisecond, "the latest are kept")
	assert.Len(t, snapshot(), 64)
	assert.Equal(t, 64, log.Len())
}

func TestWithoutTheRightNothingIsOffered(t *testing.T) {
	t.Parallel()
	log, client := start(t, false, table.New())
	require.Eventually(t, func() bool {
		return len(client.Actions()) > 0
	}, patience, time.Millisecond)
	assert.Never(t, log.Offered, 100*time.Millisecond, 10*time.Millisecond)
	for _, action := range client.Actions() {
		assert.NotEqual(t, "events", action.GetResource().Resource, "nothing is watched that may not be seen")
	}
}
