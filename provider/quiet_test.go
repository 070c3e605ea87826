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
