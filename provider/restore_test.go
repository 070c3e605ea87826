// SPDX-License-Identifier: Apache-2.0

package provider_test

import (
	"encoding/json"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	clienttesting "k8s.io/client-go/testing"

	"github.com/cloudveneto/caas/provider/podstatus"
)

// patchStatus writes the status of a pod as somebody else does.
func (h *harness) patchStatus(name, patch string) {
	h.t.Helper()
	_, err := h.client.CoreV1().Pods("user").Patch(h.t.Context(), name, types.StrategicMergePatchType, []byte(patch), metav1.PatchOptions{}, "status")
	require.NoError(h.t, err)
}

func hasCondition(pod *corev1.Pod, kind corev1.PodConditionType, status corev1.ConditionStatus) bool {
	for _, condition := range pod.Status.Conditions {
		if condition.Type == kind {
			return condition.Status == status
		}
	}
	return false
}

// TestStatusThatOthersChangedIsTold has others write what the provider answers for: the node controller, which calls the pods
// of a node that was away unready, and a request of an earlier process that comes through late.
func TestStatusThatOthersChangedIsTold(t *testing.T) {
	t.Parallel()
	for name, patch := range map[string]string{
		"node controller": `{"status":{"conditions":[{"type":"Ready","status":"False","lastTransitionTime":"2026-01-01T00:00:00Z"}]}}`,
		"late request": `{"status":{"phase":"Pending","containerStatuses":[{"name":"main","state":{"running":null,"waiting":{"reason":"ContainerCreating"}}}],
			"conditions":[{"type":"Ready","status":"False"},{"type":"ContainersReady","status":"False"}]}}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := start(t, ours())
			h.up()
			before := h.running("a")
			require.True(t, hasCondition(before, corev1.PodReady, corev1.ConditionTrue))
			h.patchStatus("a", patch)
			require.False(t, hasCondition(h.pod("a"), corev1.PodReady, corev1.ConditionTrue))
			h.until("the status is told again", func() bool { return hasCondition(h.pod("a"), corev1.PodReady, corev1.ConditionTrue) })
			assert.True(t, podstatus.Equal(&before.Status, &h.pod("a").Status))
		})
	}
}

// TestLateRequestBeforeTheEnd has a request of which nobody knows that it arrived make the pod ready just before its final
// status is written, as the difference to one that was not ready.
func TestLateRequestBeforeTheEnd(t *testing.T) {
	t.Parallel()
	h := start(t, ours())
	h.up()
	h.add(newPod("a"))
	h.untilHeld(1)
	h.until("it is said to wait", func() bool { return len(h.pod("a").Status.ContainerStatuses) == 1 })
	var late sync.Once
	h.client.PrependReactor("patch", "pods", func(action clienttesting.Action) (bool, runtime.Object, error) {
		patch, ok := action.(clienttesting.PatchAction)
		if !ok || !strings.Contains(string(patch.GetPatch()), `"phase":"Succeeded"`) {
			return false, nil, nil
		}
		late.Do(func() {
			pods := corev1.SchemeGroupVersion.WithResource("pods")
			found, err := h.client.Tracker().Get(pods, "user", "a")
			pod, ok := found.(*corev1.Pod)
			if !assert.NoError(t, err) || !assert.True(t, ok) {
				return
			}
			for i := range pod.Status.Conditions {
				pod.Status.Conditions[i].Status = corev1.ConditionTrue
			}
			assert.NoError(t, h.client.Tracker().Update(pods, pod, "user"))
		})
		return false, nil, nil
	})
	h.far.Finish("uid-a", 0)
	ended := h.untilPhase("a", corev1.PodSucceeded)
	require.True(t, hasCondition(ended, corev1.PodReady, corev1.ConditionTrue), "the late request came through")
	h.until("it is not ready", func() bool { return hasCondition(h.pod("a"), corev1.PodReady, corev1.ConditionFalse) })
	assert.True(t, hasCondition(h.pod("a"), corev1.ContainersReady, corev1.ConditionFalse))
	assert.Equal(t, corev1.PodSucceeded, h.pod("a").Status.Phase)
}

// versioned starts a provider with a pod that runs and whose object has version 1, and has do see each patch of its status
// before it is applied, with the version that it is for. What do returns is the API server's answer, nil the ordinary one.
func versioned(t *testing.T, do func(h *harness, version string, pod *corev1.Pod) *corev1.Pod) *harness {
	t.Helper()
	h := start(t, ours(), newPod("a", func(pod *corev1.Pod) { pod.ResourceVersion = "1" }))
	h.up()
	h.untilHeld(1)
	h.far.Run("uid-a")
	h.untilPhase("a", corev1.PodRunning)
	h.client.PrependReactor("patch", "pods", func(action clienttesting.Action) (bool, runtime.Object, error) {
		patch, ok := action.(clienttesting.PatchAction)
		if !ok || patch.GetSubresource() != "status" {
			return false, nil, nil
		}
		var asked metav1.PartialObjectMetadata
		found, err := h.client.Tracker().Get(corev1.SchemeGroupVersion.WithResource("pods"), "user", "a")
		pod, ok := found.(*corev1.Pod)
		if !assert.NoError(t, err) || !assert.True(t, ok) || !assert.NoError(t, json.Unmarshal(patch.GetPatch(), &asked)) {
			return false, nil, nil
		}
		if answer := do(h, asked.ResourceVersion, pod.DeepCopy()); answer != nil {
			return true, answer, nil
		}
		return false, nil, nil
	})
	return h
}

// TestLateRequest: a status that comes through when the object is another already is refused, whatever it says, and the
// status is told again when the newer object is seen.
func TestLateRequest(t *testing.T) {
	t.Parallel()
	versions := make(chan string, 10)
	h := versioned(t, func(h *harness, version string, pod *corev1.Pod) *corev1.Pod {
		versions <- version
		if version == "1" {
			pod.ResourceVersion = "1000"
			assert.NoError(t, h.client.Tracker().Update(corev1.SchemeGroupVersion.WithResource("pods"), pod, "user"))
		}
		return nil
	})
	h.far.Finish("uid-a", 0)
	h.untilPhase("a", corev1.PodSucceeded)
	assert.Equal(t, "1", <-versions)
	assert.Equal(t, "1000", <-versions)
	assert.Empty(t, versions)
}

// TestForgottenStatus: the API server took a status, and has forgotten it before anybody saw it, as when its storage is
// restored from a backup. What is said next is a change of what it has.
func TestForgottenStatus(t *testing.T) {
	t.Parallel()
	var forgotten atomic.Bool
	h := versioned(t, func(_ *harness, version string, pod *corev1.Pod) *corev1.Pod {
		if version != "1" || forgotten.Swap(true) {
			return nil
		}
		pod.ResourceVersion = "2000"
		return pod
	})
	h.far.Wait("uid-a", corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff", Message: "it ended"})
	h.until("a status is forgotten", forgotten.Load)
	h.far.Finish("uid-a", 0)
	h.untilPhase("a", corev1.PodSucceeded)
}

// TestReadinessGate has somebody else open a pod's gate at the origin.
func TestReadinessGate(t *testing.T) {
	t.Parallel()
	h := start(t, ours())
	h.up()
	h.add(newPod("a", func(pod *corev1.Pod) {
		pod.Spec.ReadinessGates = []corev1.PodReadinessGate{{ConditionType: "example.org/checked"}}
	}))
	h.untilHeld(1)
	h.far.Run("uid-a")
	h.untilPhase("a", corev1.PodRunning)
	assert.True(t, hasCondition(h.pod("a"), corev1.PodReady, corev1.ConditionFalse))
	h.patchStatus("a", `{"status":{"conditions":[{"type":"example.org/checked","status":"True"}],"resourceClaimStatuses":[{"name":"gpu","resourceClaimName":"a-gpu"}]}}`)
	h.until("the open gate makes the pod ready", func() bool { return hasCondition(h.pod("a"), corev1.PodReady, corev1.ConditionTrue) })
	h.far.Finish("uid-a", 0)
	ended := h.untilPhase("a", corev1.PodSucceeded)
	assert.True(t, hasCondition(ended, "example.org/checked", corev1.ConditionTrue), "others' conditions stay")
	assert.Equal(t, new("a-gpu"), ended.Status.ResourceClaimStatuses[0].ResourceClaimName)
}

// TestRefusedStatusIsNotRepeated has the API server refuse a status: the same one is not sent again, the next one is.
func TestRefusedStatusIsNotRepeated(t *testing.T) {
	t.Parallel()
	h := start(t, ours())
	var refused atomic.Int32
	h.client.PrependReactor("patch", "pods", func(action clienttesting.Action) (bool, runtime.Object, error) {
		patch, ok := action.(clienttesting.PatchAction)
		if !ok || !strings.Contains(string(patch.GetPatch()), `"phase":"Running"`) {
			return false, nil, nil
		}
		refused.Add(1)
		return true, nil, apierrors.NewInvalid(schema.GroupKind{Kind: "Pod"}, "a", nil)
	})
	h.up()
	h.add(newPod("a"))
	h.untilHeld(1)
	h.far.Run("uid-a")
	h.until("the status is refused", func() bool { return refused.Load() > 0 })
	time.Sleep(6 * time.Second) // the first check comes after five
	assert.EqualValues(t, 1, refused.Load())
	h.far.Finish("uid-a", 0)
	h.untilPhase("a", corev1.PodSucceeded)
}
