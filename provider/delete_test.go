// SPDX-License-Identifier: Apache-2.0

package provider_test

import (
	"testing"

	"github.com/cloudveneto/caas/internal/interlink"
	"github.com/cloudveneto/caas/provider/providertest"
)

// TestDeletedBeforeTheStreamBegan: no stream ever tells that a pod has gone which went before it began, and whose
// creation was accepted while it was being asked for.
func TestDeletedBeforeTheStreamBegan(t *testing.T) {
	t.Parallel()
	h := start(t, ours())
	begin := make(chan struct{})
	h.far.Fail(interlink.PathWatch, providertest.Fault{Hold: begin})
	h.up()
	h.until("the stream is asked for", func() bool { return len(h.far.Requests(interlink.PathWatch)) == 1 })
	h.add(newPod("a"))
	h.untilHeld(1)
	h.delete("a")
	h.untilHeld(0)
	close(begin)
	h.untilGone("a")
}
