// SPDX-License-Identifier: Apache-2.0

package provider_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	clienttesting "k8s.io/client-go/testing"

	"github.com/cloudveneto/caas/internal/interlink"
	"github.com/cloudveneto/caas/provider/providertest"
)

func TestRestartAdopts(t *testing.T) {
	t.Parallel()
	for name, options := range map[string]providertest.Options{"ours": ours(), "upstream": {}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := start(t, options)
			h.up()
			h.add(newPod("a"))
			h.add(newPod("b"))
			h.untilHeld(2)
			h.far.Run("uid-a")
			h.untilPhase("a", corev1.PodRunning)
			if len(options.Extensions) == 0 {
				h.until("b is annotated", func() bool { return h.pod("b").Annotations[interlink.AnnotationJobID] == "job-uid-b" })
			}
			h.stop()
			h.far.Finish("uid-a", 42)
			h.far.Run("uid-b")
			h.add(newPod("c"))
			h.up()
			ended := h.untilPhase("a", corev1.PodFailed)
			assert.Equal(t, int32(42), ended.Status.ContainerStatuses[0].State.Terminated.ExitCode)
			h.untilPhase("b", corev1.PodRunning)
			h.untilHeld(3)
			for _, uid := range []types.UID{"uid-a", "uid-b", "uid-c"} {
				_, times := h.far.Created(uid)
				assert.Equal(t, 1, times, uid)
			}
		})
	}
}

// The pauses between tries grow with an outage: without an end to them, those of this
// test would take many minutes.
func TestAnOutageIsOverWithTheFirstAnswer(t *testing.T) {
	t.Parallel()
	const tries = 20
	faults := slices.Repeat([]providertest.Fault{{Code: http.StatusServiceUnavailable, Message: "the target cluster does not answer"}}, tries)
	t.Run("the stream comes back with a ping", func(t *testing.T) {
		t.Parallel()
		h := start(t, ours())
		h.far.Fail(interlink.PathWatch, faults...)
		h.up()
		h.until("a stream is open", func() bool {
			h.node.Offer(h.far.Ping())
			return h.far.Streams() == 1
		})
		assert.Len(t, h.far.Requests(interlink.PathWatch), tries+1)
	})
	t.Run("pods come back with the stream", func(t *testing.T) {
		t.Parallel()
		options := ours()
		options.AutoRun = true
		h := start(t, options)
		h.far.Fail(interlink.PathCreate, faults...)
		h.up()
		h.add(newPod("a"))
		h.until("it is created", func() bool {
			h.far.Disconnect()
			h.node.Offer(h.far.Ping())
			return len(h.far.Held()) == 1
		})
		h.untilPhase("a", corev1.PodRunning)
		_, times := h.far.Created("uid-a")
		assert.Equal(t, 1, times)
	})
}

func TestRestartWhileTheFarEndIsDown(t *testing.T) {
	t.Parallel()
	for name, options := range map[string]providertest.Options{"ours": ours(), "upstream": {}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			options.AutoRun = true
			h := start(t, options)
			h.up()
			h.add(newPod("a"))
			h.untilPhase("a", corev1.PodRunning)
			h.stop()
			h.far.SetDown(true)
			h.up()
			h.add(newPod("b"))
			h.until("b is tried", func() bool { return len(h.far.Requests(interlink.PathCreate)) > 1 })
			assert.Equal(t, corev1.PodRunning, h.pod("a").Status.Phase, "what cannot be asked is not changed")
			h.far.SetDown(false)
			h.untilPhase("b", corev1.PodRunning)
			assert.Equal(t, corev1.PodRunning, h.pod("a").Status.Phase)
			_, times := h.far.Created("uid-a")
			assert.Equal(t, 1, times)
		})
	}
}

func TestFarEndThatNeverAnswered(t *testing.T) {
	t.Parallel()
	h := start(t, ours(), newPod("ran", func(p *corev1.Pod) {
		p.Status.Phase = corev1.PodRunning
		p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "main", State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}}}
	}), newPod("waits"))
	h.silent = true
	h.up()
	h.until("a pod that never ran says what it waits for", func() bool {
		statuses := h.pod("waits").Status.ContainerStatuses
		return len(statuses) == 1 && statuses[0].State.Waiting != nil && statuses[0].State.Waiting.Message != ""
	})
	assert.Equal(t, corev1.PodRunning, h.pod("ran").Status.Phase)
	assert.Empty(t, h.far.Requests(interlink.PathCreate))
	h.node.Offer(h.far.Ping())
	h.untilHeld(1)
	lost := h.untilPhase("ran", corev1.PodFailed)
	assert.Equal(t, "RemotePodLost", lost.Status.Reason)
}

// TestHalfMadePodBeforeItsInformer: the far end tells of a pod that a create was cut off for
// before the new process has it from its informer. It is sent again, not taken for whole.
func TestHalfMadePodBeforeItsInformer(t *testing.T) {
	t.Parallel()
	h := start(t, ours())
	h.up()
	pod := newPod("half")
	h.client.PrependReactor("list", "pods", func(action clienttesting.Action) (bool, runtime.Object, error) {
		asked := action.(clienttesting.ListAction).GetListRestrictions().Fields.String()
		return strings.Contains(asked, "metadata.name="+pod.Name), &corev1.PodList{Items: []corev1.Pod{*pod}}, nil
	})
	h.until("the stream is open", func() bool { return h.far.Streams() == 1 })
	h.far.Tell(interlink.StatusEvent{Type: interlink.EventStatus, Status: &interlink.PodStatus{
		Name: pod.Name, Namespace: pod.Namespace, UID: string(pod.UID), JobID: "job-1",
		Detail: &interlink.PodDetail{Phase: corev1.PodPending, OriginCluster: clusterID, OriginNode: nodeName, Incomplete: true},
	}})
	h.until("it is created again", func() bool {
		_, times := h.far.Created(pod.UID)
		return times == 1
	})
}

func TestDeletedWhileDown(t *testing.T) {
	t.Parallel()
	h := start(t, providertest.Options{Extensions: providertest.All(), AutoRun: true})
	h.up()
	for _, name := range []string{"a", "b", "stays"} {
		h.add(newPod(name))
		h.untilPhase(name, corev1.PodRunning)
	}
	h.stop()
	h.vanish("a")
	h.delete("b")
	h.up()
	h.untilHeld(1)
	h.untilGone("b")
	assert.Equal(t, []types.UID{"uid-stays"}, h.far.Held())
}

// The Node authorizer does not say of a pod that it is not there: it forbids the question.
func TestOrphanOfANodeThatMayNotAskForIt(t *testing.T) {
	t.Parallel()
	h := start(t, providertest.Options{Extensions: providertest.All(), AutoRun: true})
	h.client.PrependReactor("get", "pods", func(action clienttesting.Action) (bool, runtime.Object, error) {
		name := action.(clienttesting.GetAction).GetName()
		if _, err := h.client.Tracker().Get(action.GetResource(), action.GetNamespace(), name); err == nil {
			return false, nil, nil
		}
		return true, nil, apierrors.NewForbidden(corev1.Resource("pods"), name, errors.New("no relationship found between node and this object"))
	})
	h.up()
	for _, name := range []string{"gone", "stays"} {
		h.add(newPod(name))
		h.untilPhase(name, corev1.PodRunning)
	}
	h.stop()
	h.vanish("gone")
	h.up()
	h.untilHeld(1)
	assert.Equal(t, []types.UID{"uid-stays"}, h.far.Held())
}

// TestNothingIsLostNorDoubled lets pods come and go while requests fail, streams
// break and the virtual kubelet is restarted. In the end both ends agree.
func TestNothingIsLostNorDoubled(t *testing.T) {
	t.Parallel()
	for name, options := range map[string]providertest.Options{"ours": ours(), "upstream": {}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			options.AutoRun = true
			random := rand.New(rand.NewPCG(1, 2))
			h := start(t, options)
			h.up()
			next := 0
			for range 60 {
				h.mischief(random, options)
				switch random.IntN(5) {
				case 0, 1, 2:
					h.add(newPod(fmt.Sprintf("p%d", next)))
					next++
				case 3:
					if name := fmt.Sprintf("p%d", random.IntN(next+1)); h.pod(name) != nil {
						h.delete(name)
					}
				case 4:
					if random.IntN(3) == 0 {
						h.stop()
						h.up()
					}
				}
				<-time.NewTimer(time.Duration(random.IntN(15)) * time.Millisecond).C
			}
			disagreement := ""
			t.Cleanup(func() {
				if t.Failed() {
					t.Log(disagreement)
				}
			})
			h.until("both ends agree", func() bool {
				pods, err := h.client.CoreV1().Pods("user").List(t.Context(), metav1.ListOptions{})
				require.NoError(t, err)
				held := h.far.Held()
				for i := range pods.Items {
					pod := &pods.Items[i]
					if pod.DeletionTimestamp != nil || pod.Status.Phase != corev1.PodRunning || !slices.Contains(held, pod.UID) {
						disagreement = fmt.Sprintf("%s: deleted %v, %s %s, the far end holds %v", pod.UID, pod.DeletionTimestamp, pod.Status.Phase, pod.Status.Message, held)
						return false
					}
				}
				disagreement = fmt.Sprintf("%d pods at the origin, the far end holds %v", len(pods.Items), held)
				return len(pods.Items) == len(held)
			})
			if len(options.Extensions) > 0 {
				return
			}
			for i := range next {
				_, times := h.far.Created(types.UID(fmt.Sprintf("uid-p%d", i)))
				assert.LessOrEqual(t, times, 1, "upstream's far ends run a pod once per create")
			}
		})
	}
}

// mischief lets some requests fail.
func (h *harness) mischief(random *rand.Rand, options providertest.Options) {
	faults := []providertest.Fault{
		{CutBefore: true}, {CutAfter: true}, {Code: http.StatusInternalServerError, Message: "out of order"},
	}
	paths := []string{interlink.PathCreate, interlink.PathDelete, interlink.PathStatus}
	if random.IntN(2) == 0 {
		h.far.Fail(paths[random.IntN(len(paths))], faults[random.IntN(len(faults))])
	}
	if len(options.Extensions) > 0 && random.IntN(8) == 0 {
		h.far.Disconnect()
	}
}
