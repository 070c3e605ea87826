// SPDX-License-Identifier: Apache-2.0

package provider_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/cloudveneto/caas/internal/interlink"
	"github.com/cloudveneto/caas/provider/providertest"
)

// TestPodThatWaitsForItsTurn: how long a pod waits until the far end takes it, as it does in a burst, does not count
// against the time in which it may begin to run with a single write of its status.
func TestPodThatWaitsForItsTurn(t *testing.T) {
	t.Parallel()
	for quiet := time.Second; ; quiet *= 2 {
		if took, writes := waitForItsTurn(t, quiet); took < quiet {
			assert.Equal(t, 1, writes, "it runs, and was not said to wait before")
			return
		}
		// The machine took so long that the pod was right to be said to wait.
	}
}

// waitForItsTurn returns how long a pod took from when the far end could take it, and how often its status was written.
func waitForItsTurn(t *testing.T, quiet time.Duration) (time.Duration, int) {
	t.Helper()
	h := start(t, ours())
	h.quiet = quiet
	h.up()
	defer h.stop()
	turn := make(chan struct{})
	h.far.Fail(interlink.PathCreate, providertest.Fault{Hold: turn})
	h.add(newPod("a"))
	h.until("it is sent", func() bool { return len(h.far.Requests(interlink.PathCreate)) == 1 })
	time.Sleep(quiet)
	begun := time.Now()
	close(turn)
	h.untilHeld(1)
	time.Sleep(100 * time.Millisecond) // for what is to be said of a pod that waits
	h.far.Run(types.UID("uid-a"))
	h.untilPhase("a", corev1.PodRunning)
	return time.Since(begun), len(h.patches("a"))
}

// TestPodThatCannotStart: why a pod does not start is told at once, however long a pod of which there is nothing to be said
// may stay without a status.
func TestPodThatCannotStart(t *testing.T) {
	t.Parallel()
	h := start(t, ours())
	h.quiet = time.Hour
	h.up()
	defer h.stop()
	h.add(newPod("a"))
	h.untilHeld(1)
	h.far.Wait(types.UID("uid-a"), corev1.ContainerStateWaiting{Reason: "ErrImagePull", Message: "there is no such image"})
	h.until("its reason is told", func() bool {
		statuses := h.pod("a").Status.ContainerStatuses
		return len(statuses) == 1 && statuses[0].State.Waiting != nil && statuses[0].State.Waiting.Reason == "ErrImagePull"
	})
}
