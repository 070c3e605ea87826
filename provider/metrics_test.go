// SPDX-License-Identifier: Apache-2.0

package provider_test

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"
	corev1 "k8s.io/api/core/v1"

	"github.com/cloudveneto/caas/internal/interlink"
	"github.com/cloudveneto/caas/provider/providertest"
)

// TestFigures: what an operator sees of a pod that is created at the second try, runs, and of a far end that goes away.
func TestFigures(t *testing.T) {
	t.Parallel()
	h := start(t, ours())
	h.far.Fail(interlink.PathCreate, providertest.Fault{Code: http.StatusServiceUnavailable})
	h.up()
	h.until("in step", func() bool { return h.figure("virtual_kubelet_status_streams") == 1 })
	assert.Zero(t, h.figure("virtual_kubelet_status_seconds"))
	h.add(newPod("a"))
	h.untilHeld(1)
	h.far.Run("uid-a")
	h.untilPhase("a", corev1.PodRunning)
	h.until("a status took its time", func() bool { return h.figure("virtual_kubelet_status_seconds") >= 1 })
	h.until("nothing left to do", func() bool {
		return h.figure("virtual_kubelet_queue_length") == 0 && h.figure("virtual_kubelet_requests_in_flight") == 0
	})
	assert.InDelta(t, 1, h.figure("virtual_kubelet_create_seconds"), 0)
	assert.GreaterOrEqual(t, h.figure("virtual_kubelet_retries_total"), 1.0)
	assert.InDelta(t, 1, h.figure("virtual_kubelet_pods"), 0)
	h.far.SetDown(true)
	h.far.Disconnect()
	h.until("cut off", func() bool {
		return h.figure("virtual_kubelet_status_streams") == 0 && h.figure("virtual_kubelet_stream_ends_total") >= 1
	})
}
