// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package truth_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cloudveneto/caas/internal/lab/offload"
)

// events returns the origin's events of a pod that come from where it runs.
func (w *world) events(t *testing.T, pod *corev1.Pod) []corev1.Event {
	t.Helper()
	list, err := w.af.CoreV1().Events(namespace).List(t.Context(), metav1.ListOptions{FieldSelector: "involvedObject.uid=" + string(pod.UID)})
	require.NoError(t, err)
	return slices.DeleteFunc(list.Items, func(event corev1.Event) bool {
		return event.Source.Host != node || event.Source.Component == "virtual-kubelet"
	})
}

func (w *world) awaitEvents(t *testing.T, pod *corev1.Pod, reasons ...string) []corev1.Event {
	t.Helper()
	var events []corev1.Event
	eventually(t, fmt.Sprintf("events %v of %s", reasons, pod.Name), func() (bool, string) {
		events = w.events(t, pod)
		var seen []string
		for i := range events {
			seen = append(seen, events[i].Reason)
		}
		return !slices.ContainsFunc(reasons, func(reason string) bool { return !slices.Contains(seen, reason) }), strings.Join(seen, " ")
	})
	return events
}

// TestFidelityTruthEvents: what happens to the pod where it runs is an Event of the
// origin's pod, readable in either way in which programs read times, and told once.
// It is not parallel, since it kills the path's processes.
func TestFidelityTruthEvents(t *testing.T) {
	w := theWorld(t)
	pod := w.create(t, shell("eventful", "sleep 3600"))
	w.await(t, "eventful", "runs", inPhase(corev1.PodRunning))
	before := w.awaitEvents(t, pod, "Scheduled", "Pulled", "Created", "Started")
	for i := range before {
		event := &before[i]
		assert.False(t, event.LastTimestamp.IsZero(), event.Reason)
		assert.False(t, event.FirstTimestamp.IsZero(), event.Reason)
		assert.False(t, event.EventTime.IsZero(), event.Reason)
		assert.Equal(t, corev1.EventTypeNormal, event.Type)
		assert.Equal(t, "eventful", event.InvolvedObject.Name)
		assert.GreaterOrEqual(t, event.Count, int32(1))
		assert.NotEmpty(t, event.Message)
		assert.LessOrEqual(t, pod.CreationTimestamp.Unix(), event.LastTimestamp.Unix()+1)
	}
	assert.Regexp(t, `(?m)Normal\s+Started\s+\S+\s+kubelet\s`, w.kubectl(t, "describe", "pod", "eventful"))

	for _, component := range []string{offload.Sidecar, offload.VirtualKubelet} {
		require.NoError(t, w.path.Kill(t.Context(), component))
		require.NoError(t, w.path.Start(t.Context(), component))
	}
	broken := shell("unpullable", "true")
	broken.Spec.Containers[0].Image = "docker.io/library/there-is-none:1"
	broken = w.create(t, broken)
	failing := w.awaitEvents(t, broken, "Failed", "BackOff")
	for i := range failing {
		if failing[i].Reason == "Failed" || failing[i].Reason == "BackOff" {
			assert.Contains(t, []string{corev1.EventTypeWarning, corev1.EventTypeNormal}, failing[i].Type)
			assert.Equal(t, "spec.containers{main}", failing[i].InvolvedObject.FieldPath)
		}
	}
	names := func(events []corev1.Event) []string {
		var list []string
		for i := range events {
			list = append(list, fmt.Sprintf("%s %s x%d", events[i].Name, events[i].Reason, events[i].Count))
		}
		slices.Sort(list)
		return list
	}
	assert.Equal(t, names(before), names(w.events(t, pod)), "new processes tell nothing twice")
}
