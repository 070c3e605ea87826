// SPDX-License-Identifier: Apache-2.0

package provider_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/cloudveneto/caas/internal/interlink"
	"github.com/cloudveneto/caas/provider/providertest"
)

func withTruth() providertest.Options {
	return providertest.Options{
		AutoRun: true, Extensions: append(providertest.All(), interlink.ExtensionEvents, interlink.ExtensionEphemeral, interlink.ExtensionStats),
	}
}

func happened(uid, id, reason string) interlink.StatusEvent {
	now := metav1.NowMicro()
	return interlink.StatusEvent{Type: interlink.EventPodEvent, Event: &interlink.PodEvent{
		PodUID: uid, ID: id, Reason: reason, Count: 1, First: now, Last: now, Component: "kubelet",
	}}
}

func (h *harness) eventsOf(name string) []string {
	h.t.Helper()
	list, err := h.client.CoreV1().Events("user").List(h.t.Context(), metav1.ListOptions{})
	require.NoError(h.t, err)
	var reasons []string
	for i := range list.Items {
		if list.Items[i].InvolvedObject.Name == name {
			reasons = append(reasons, list.Items[i].Reason)
		}
	}
	return reasons
}

func TestEventsOfTheFarEnd(t *testing.T) {
	t.Parallel()
	h := start(t, withTruth())
	h.up()
	h.add(newPod("a"))
	h.untilPhase("a", corev1.PodRunning)
	h.far.Tell(happened("uid-nobody", "e0", "Lost"))
	h.far.Tell(happened("uid-a", "e1", "Pulled"))
	h.far.Tell(happened("uid-a", "e1", "Pulled"))
	h.until("the event", func() bool { return len(h.eventsOf("a")) == 1 })
	h.stop()
	h.up() // a new process is told everything again
	h.until("a stream", func() bool { return h.far.Streams() == 1 })
	h.far.Tell(happened("uid-a", "e1", "Pulled"))
	h.far.Tell(happened("uid-a", "e2", "Started"))
	h.until("the other event", func() bool { return len(h.eventsOf("a")) == 2 })
	assert.ElementsMatch(t, []string{"Pulled", "Started"}, h.eventsOf("a"))
	for _, request := range h.far.Requests(interlink.PathWatch) {
		assert.Contains(t, request.Query, "events=true")
	}
}

func TestEventsAreAskedForWhenTheyAreOffered(t *testing.T) {
	t.Parallel()
	h := start(t, providertest.Options{AutoRun: true, Extensions: providertest.All()})
	h.up()
	h.until("a stream", func() bool { return h.far.Streams() == 1 })
	assert.NotContains(t, h.far.Requests(interlink.PathWatch)[0].Query, "events")
	ping := h.far.Ping()
	ping.Extensions = append(slices.Clip(ping.Extensions), interlink.ExtensionEvents)
	h.node.Offer(ping)
	h.far.Tell(interlink.StatusEvent{Type: interlink.EventHeartbeat})
	h.until("a new stream", func() bool {
		requests := h.far.Requests(interlink.PathWatch)
		return len(requests) == 2 && strings.Contains(requests[1].Query, "events=true")
	})
}

// debugPod adds ephemeral containers to a pod of the origin.
func (h *harness) debugPod(name string, containers ...string) {
	h.t.Helper()
	var entries []string
	for _, container := range containers {
		entries = append(entries, `{"name":"`+container+`","image":"busybox"}`)
	}
	patch := `{"spec":{"ephemeralContainers":[` + strings.Join(entries, ",") + `]}}`
	_, err := h.client.CoreV1().Pods("user").Patch(h.t.Context(), name, types.MergePatchType, []byte(patch), metav1.PatchOptions{})
	require.NoError(h.t, err)
}

func (h *harness) ephemeral(name string) []corev1.ContainerStatus {
	return h.pod(name).Status.EphemeralContainerStatuses
}

func TestEphemeralContainersTravel(t *testing.T) {
	t.Parallel()
	h := start(t, withTruth())
	h.up()
	h.add(newPod("a"))
	h.untilPhase("a", corev1.PodRunning)
	path := interlink.EphemeralPath("uid-a")
	h.far.Fail(path, providertest.Fault{CutBefore: true})
	h.debugPod("a", "doctor")
	h.until("it runs", func() bool { s := h.ephemeral("a"); return len(s) == 1 && s[0].State.Running != nil })
	sent := providertest.Decode[corev1.Pod](t, h.far.Requests(path)[0])
	assert.Equal(t, types.UID("uid-a"), sent.UID)
	assert.Equal(t, clusterID, sent.Annotations[interlink.AnnotationOriginCluster])

	h.far.Fail(path, providertest.Fault{Code: 422, Message: "spec.ephemeralContainers[evil]: no", Refuse: true})
	h.debugPod("a", "doctor", "evil")
	h.until("it is refused", func() bool { s := h.ephemeral("a"); return len(s) == 2 && s[1].State.Terminated != nil })
	assert.Equal(t, "spec.ephemeralContainers[evil]: no", h.ephemeral("a")[1].State.Terminated.Message)
	assert.Contains(t, h.untilEvent("EphemeralContainerRefused"), "evil")
	assert.Equal(t, corev1.PodRunning, h.pod("a").Status.Phase)
	asked := len(h.far.Requests(path))

	h.stop()
	h.up()
	h.until("a stream", func() bool { return h.far.Streams() == 1 })
	h.debugPod("a", "doctor", "evil", "nurse")
	h.until("the third runs", func() bool { s := h.ephemeral("a"); return len(s) == 3 && s[2].State.Running != nil })
	after := h.far.Requests(path)[asked:]
	require.Len(t, after, 1, "what was settled before is not sent again")
	again := providertest.Decode[corev1.Pod](t, after[0])
	require.Len(t, again.Spec.EphemeralContainers, 1)
	assert.Equal(t, "nurse", again.Spec.EphemeralContainers[0].Name)
}

func TestEphemeralContainersWithoutTheExtension(t *testing.T) {
	t.Parallel()
	h := start(t, providertest.Options{AutoRun: true})
	h.up()
	h.add(newPod("a"))
	h.untilPhase("a", corev1.PodRunning)
	h.debugPod("a", "doctor")
	h.until("it is refused", func() bool { s := h.ephemeral("a"); return len(s) == 1 && s[0].State.Terminated != nil })
	assert.Equal(t, "Refused", h.ephemeral("a")[0].State.Terminated.Reason)
	h.untilEvent("EphemeralContainerRefused")
}

func TestDisruptedPodThatVanishesSaysWhy(t *testing.T) {
	t.Parallel()
	h := start(t, withTruth())
	h.up()
	h.add(newPod("a"))
	h.untilPhase("a", corev1.PodRunning)
	wire := interlink.PodStatus{
		Name: "a", Namespace: "user", UID: "uid-a", Containers: []corev1.ContainerStatus{{
			Name: "main", State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: metav1.NewTime(time.Unix(1, 0))}},
		}},
		Detail: &interlink.PodDetail{Phase: corev1.PodRunning, Conditions: []corev1.PodCondition{{
			Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: "DeletionByTaintManager", Message: "the node does not answer",
		}}},
	}
	h.far.Tell(interlink.StatusEvent{Type: interlink.EventGone, Status: &wire})
	pod := h.untilPhase("a", corev1.PodFailed)
	assert.Equal(t, "DeletionByTaintManager", pod.Status.Reason)
	assert.Equal(t, "the node does not answer", pod.Status.Message)
	assert.Equal(t, int32(137), pod.Status.ContainerStatuses[0].State.Terminated.ExitCode)
}
