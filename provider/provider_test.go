// SPDX-License-Identifier: Apache-2.0

package provider_test

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/cloudveneto/caas/internal/interlink"
	"github.com/cloudveneto/caas/provider/providertest"
)

func ours() providertest.Options { return providertest.Options{Extensions: providertest.All()} }

func TestPodRunsAndEnds(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		options  providertest.Options
		exitCode int32
		phase    corev1.PodPhase
	}{
		"success":            {ours(), 0, corev1.PodSucceeded},
		"failure":            {ours(), 42, corev1.PodFailed},
		"killed":             {ours(), 137, corev1.PodFailed},
		"success, upstream":  {providertest.Options{}, 0, corev1.PodSucceeded},
		"failure, upstream":  {providertest.Options{}, 42, corev1.PodFailed},
		"success, first pod": {providertest.Options{FirstOnly: true}, 0, corev1.PodSucceeded},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := start(t, c.options)
			h.up()
			for _, name := range []string{"a", "b", "c"} {
				h.add(newPod(name))
			}
			h.untilHeld(3)
			for _, name := range []string{"a", "b", "c"} {
				h.far.Run(types.UID("uid-" + name))
				running := h.untilPhase(name, corev1.PodRunning)
				assert.True(t, running.Status.ContainerStatuses[0].Ready)
				h.far.Finish(types.UID("uid-"+name), c.exitCode)
				ended := h.untilPhase(name, c.phase)
				require.NotNil(t, ended.Status.ContainerStatuses[0].State.Terminated)
				assert.Equal(t, c.exitCode, ended.Status.ContainerStatuses[0].State.Terminated.ExitCode)
				_, times := h.far.Created(types.UID("uid-" + name))
				assert.Equal(t, 1, times)
			}
		})
	}
}

func TestDetailReachesTheOrigin(t *testing.T) {
	t.Parallel()
	h := start(t, ours())
	h.up()
	pod := h.running("a")
	assert.Equal(t, "10.1.2.3", pod.Status.PodIP)
	assert.Equal(t, "10.9.9.9", pod.Status.HostIP)
	assert.Equal(t, corev1.PodQOSBestEffort, pod.Status.QOSClass)
	assert.Empty(t, pod.Annotations, "the origin's object is not annotated when the far end is idempotent")
}

func TestCreateIsRetried(t *testing.T) {
	t.Parallel()
	broken := providertest.Fault{Code: http.StatusInternalServerError, Message: "plugin is unreachable"}
	cases := map[string]struct {
		options providertest.Options
		faults  []providertest.Fault
		created int
	}{
		"errors":                    {ours(), []providertest.Fault{broken, broken, broken, broken}, 1},
		"cut before":                {ours(), []providertest.Fault{{CutBefore: true}, {CutBefore: true}}, 1},
		"cut after":                 {ours(), []providertest.Fault{{CutAfter: true}}, 2},
		"errors, upstream":          {providertest.Options{}, []providertest.Fault{broken, broken}, 1},
		"cut before, upstream":      {providertest.Options{}, []providertest.Fault{{CutBefore: true}}, 1},
		"never twice, for upstream": {providertest.Options{}, []providertest.Fault{{CutAfter: true}}, 1},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := start(t, c.options)
			h.far.Fail(interlink.PathCreate, c.faults...)
			h.up()
			h.add(newPod("a"))
			h.untilHeld(1)
			h.far.Run("uid-a")
			h.untilPhase("a", corev1.PodRunning)
			_, times := h.far.Created("uid-a")
			assert.LessOrEqual(t, times, c.created)
		})
	}
}

func TestTroubleIsTold(t *testing.T) {
	t.Parallel()
	h := start(t, ours())
	broken := providertest.Fault{Code: http.StatusInternalServerError, Message: "plugin is unreachable"}
	h.far.Fail(interlink.PathCreate, broken, broken, broken, broken)
	h.up()
	h.add(newPod("a"))
	assert.Contains(t, h.untilEvent("RemoteCreateFailed"), "plugin is unreachable")
	h.until("the pod says why it waits", func() bool {
		statuses := h.pod("a").Status.ContainerStatuses
		return len(statuses) == 1 && statuses[0].State.Waiting != nil && statuses[0].State.Waiting.Reason == "RemoteCreateFailed"
	})
	h.untilHeld(1)
}

func TestRefusedPodFails(t *testing.T) {
	t.Parallel()
	h := start(t, ours())
	const sentence = "spec.hostNetwork is not allowed here"
	h.far.Fail(interlink.PathCreate, providertest.Fault{Code: http.StatusUnprocessableEntity, Message: sentence, Refuse: true})
	h.up()
	h.add(newPod("a"))
	pod := h.untilPhase("a", corev1.PodFailed)
	assert.Equal(t, "Refused", pod.Status.Reason)
	assert.Equal(t, sentence, pod.Status.Message)
	require.NotNil(t, pod.Status.ContainerStatuses[0].State.Terminated)
	h.untilEvent("Refused")
	h.delete("a")
	h.untilGone("a")
	assert.Empty(t, h.far.Requests(interlink.PathDelete), "nothing is held, so nothing is deleted")
}

func TestDeleteWaitsForTheFarEnd(t *testing.T) {
	t.Parallel()
	h := start(t, providertest.Options{Extensions: providertest.All(), AutoRun: true, HoldDeletes: true})
	h.up()
	h.add(newPod("a"))
	h.untilPhase("a", corev1.PodRunning)
	h.delete("a")
	h.until("the delete is sent", func() bool { return len(h.far.Requests(interlink.PathDelete)) == 1 })
	require.NotNil(t, h.pod("a"), "the object stays while the far end holds the pod")
	h.far.Release("uid-a", 7)
	h.untilGone("a")
	assert.Contains(t, h.lastPatch("a"), `"exitCode":7`)
	assert.Contains(t, h.lastPatch("a"), `"phase":"Failed"`)
	assert.Len(t, h.far.Requests(interlink.PathDelete), 1)
}

func TestDeleteIsRetried(t *testing.T) {
	t.Parallel()
	for name, options := range map[string]providertest.Options{
		"ours": {Extensions: providertest.All(), AutoRun: true}, "upstream": {AutoRun: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := start(t, options)
			h.up()
			h.add(newPod("a"))
			h.untilPhase("a", corev1.PodRunning)
			h.far.Fail(interlink.PathDelete, providertest.Fault{CutBefore: true},
				providertest.Fault{Code: http.StatusInternalServerError, Message: "busy"})
			h.delete("a")
			h.untilGone("a")
			assert.Empty(t, h.far.Held())
		})
	}
}

// TestSilentConnectionIsGivenUp: a far end that is gone without a word answers nothing that was asked before.
func TestSilentConnectionIsGivenUp(t *testing.T) {
	t.Parallel()
	for name, path := range map[string]string{"create": interlink.PathCreate, "delete": interlink.PathDelete} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := start(t, providertest.Options{Extensions: providertest.All(), AutoRun: true})
			h.far.Fail(path, providertest.Fault{Silent: true})
			h.up()
			h.until("the stream is open", func() bool { return h.far.Streams() == 1 })
			h.add(newPod("a"))
			if path == interlink.PathDelete {
				h.untilPhase("a", corev1.PodRunning)
				h.delete("a")
			}
			h.until("it was asked", func() bool { return len(h.far.Requests(path)) == 1 })
			h.far.Break()
			h.until("it is asked again", func() bool { return len(h.far.Requests(path)) == 2 })
			if path == interlink.PathDelete {
				h.untilGone("a")
				return
			}
			h.untilPhase("a", corev1.PodRunning)
		})
	}
}

func TestDeleteOvertakesNoCreate(t *testing.T) {
	t.Parallel()
	h := start(t, ours())
	h.far.SetDown(true)
	h.up()
	h.add(newPod("a"))
	h.until("a create was tried", func() bool { return len(h.far.Requests(interlink.PathCreate)) > 0 })
	h.delete("a")
	h.far.SetDown(false)
	h.untilGone("a")
	assert.Empty(t, h.far.Held())
}

func TestForcedDeletionReachesTheFarEnd(t *testing.T) {
	t.Parallel()
	h := start(t, providertest.Options{Extensions: providertest.All(), AutoRun: true})
	h.up()
	h.add(newPod("a"))
	h.untilPhase("a", corev1.PodRunning)
	h.vanish("a")
	h.untilHeld(0)
}

func TestStrangersAreLeftAlone(t *testing.T) {
	t.Parallel()
	h := start(t, ours())
	other := *newPod("other")
	other.Annotations = map[string]string{
		interlink.AnnotationOriginCluster: "another", interlink.AnnotationOriginNode: nodeName,
	}
	h.far.Hold(other)
	h.up()
	h.add(newPod("a"))
	h.untilHeld(2)
	// A far end that mixes up its streams must not make us delete others' pods.
	h.far.Tell(interlink.StatusEvent{Type: interlink.EventStatus, Status: &interlink.PodStatus{
		Name: "other", Namespace: "user", UID: "uid-other",
		Detail: &interlink.PodDetail{OriginCluster: "another", OriginNode: nodeName},
	}})
	h.far.Run("uid-a")
	h.untilPhase("a", corev1.PodRunning)
	assert.Empty(t, h.far.Requests(interlink.PathDelete))
}

func TestSameNameNewUID(t *testing.T) {
	t.Parallel()
	h := start(t, providertest.Options{Extensions: providertest.All(), AutoRun: true, HoldDeletes: true})
	h.up()
	h.add(newPod("web-0"))
	h.untilPhase("web-0", corev1.PodRunning)
	// The informer may see one update instead of a delete and an add.
	next := newPod("web-0", func(p *corev1.Pod) { p.UID = "uid-next" })
	require.NoError(t, h.client.Tracker().Update(corev1.SchemeGroupVersion.WithResource("pods"), next, "user"))
	h.untilHeld(2)
	pod := h.untilPhase("web-0", corev1.PodRunning)
	assert.Equal(t, types.UID("uid-next"), pod.UID)
	h.until("the old one is deleted", func() bool { return len(h.far.Requests(interlink.PathDelete)) == 1 })
	h.far.Release("uid-web-0", 1)
	h.untilHeld(1)
	h.far.Finish("uid-next", 0)
	h.untilPhase("web-0", corev1.PodSucceeded)
}

func TestDeletedBehindOurBack(t *testing.T) {
	t.Parallel()
	h := start(t, providertest.Options{Extensions: providertest.All(), AutoRun: true})
	h.up()
	h.add(newPod("a"))
	h.untilPhase("a", corev1.PodRunning)
	h.far.Vanish("uid-a")
	pod := h.untilPhase("a", corev1.PodFailed)
	assert.Equal(t, "RemotePodDeleted", pod.Status.Reason)
	assert.Equal(t, int32(137), pod.Status.ContainerStatuses[0].State.Terminated.ExitCode)
}

func TestLostWhileDisconnected(t *testing.T) {
	t.Parallel()
	h := start(t, providertest.Options{Extensions: providertest.All(), AutoRun: true})
	h.up()
	h.add(newPod("a"))
	h.add(newPod("b"))
	h.untilPhase("a", corev1.PodRunning)
	h.untilPhase("b", corev1.PodRunning)
	h.far.SetDown(true)
	h.far.Vanish("uid-a")
	h.far.Finish("uid-b", 0)
	h.far.SetDown(false)
	pod := h.untilPhase("a", corev1.PodFailed)
	assert.Equal(t, "RemotePodLost", pod.Status.Reason)
	h.untilEvent("RemotePodLost")
	h.untilPhase("b", corev1.PodSucceeded)
}

func TestMissingObjectIsWaitedFor(t *testing.T) {
	t.Parallel()
	h := start(t, ours())
	h.up()
	h.add(newPod("a", func(p *corev1.Pod) {
		p.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{
			ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: "settings"}},
		}}}
	}))
	assert.Contains(t, h.untilEvent("MissingObject"), "ConfigMap user/settings")
	h.until("the pod says what it waits for", func() bool {
		statuses := h.pod("a").Status.ContainerStatuses
		return len(statuses) == 1 && statuses[0].State.Waiting != nil && statuses[0].State.Waiting.Reason == "CreateContainerConfigError"
	})
	_, err := h.client.CoreV1().ConfigMaps("user").Create(t.Context(), &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: "user", Name: "settings"}, Data: map[string]string{"k": "v"},
	}, metav1.CreateOptions{})
	require.NoError(t, err)
	h.untilHeld(1)
	request := providertest.Decode[interlink.CreateRequest](t, h.far.Requests(interlink.PathCreate)[0])
	require.Len(t, request.ConfigMaps, 1)
	assert.Equal(t, "v", request.ConfigMaps[0].Data["k"])
}

func TestBurst(t *testing.T) {
	t.Parallel()
	const count = 100
	h := start(t, providertest.Options{Extensions: providertest.All(), AutoRun: true})
	h.up()
	for i := range count {
		h.add(newPod(fmt.Sprintf("p%d", i)))
	}
	running := func() int {
		pods, err := h.client.CoreV1().Pods("user").List(t.Context(), metav1.ListOptions{})
		require.NoError(t, err)
		total := 0
		for i := range pods.Items {
			if pods.Items[i].Status.Phase == corev1.PodRunning {
				total++
			}
		}
		return total
	}
	h.until("all run", func() bool { return running() == count })
	for i := range count {
		h.delete(fmt.Sprintf("p%d", i))
	}
	h.until("all are gone", func() bool {
		pods, err := h.client.CoreV1().Pods("user").List(t.Context(), metav1.ListOptions{})
		require.NoError(t, err)
		return len(pods.Items) == 0 && len(h.far.Held()) == 0
	})
	assert.Len(t, h.far.Requests(interlink.PathCreate), count)
	assert.Empty(t, h.far.Requests(interlink.PathStatus), "with a stream nothing is polled")
}
