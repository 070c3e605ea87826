// SPDX-License-Identifier: Apache-2.0

//go:build integration

package controller_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/cloudveneto/caas/osnode/controller/controllertest"
)

// TestIntegrationMachinesThatComeAreLookedAtFirst because a pass that asks for one may take a minute.
func TestIntegrationMachinesThatComeAreLookedAtFirst(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.cloud.Change(func(s *controllertest.State) { s.BuildTime = time.Minute })
	priority := func() int {
		result, err := w.reconciler.Reconcile(t.Context(), reconcile.Request{NamespacedName: w.key("osn-01")})
		require.NoError(t, err)
		require.NotNil(t, result.Priority, "else it would stay what it was when the process began")
		return *result.Priority
	}
	w.cloud.Change(func(s *controllertest.State) { s.Trusting[owner] = false })
	w.osn("osn-01")
	assert.Zero(t, priority(), "nothing has been asked for")
	w.cloud.Change(func(s *controllertest.State) { s.Trusting[owner] = true })
	w.drive("osn-01", func() bool { return len(w.cloud.Servers()) == 1 })
	coming := priority()
	assert.Positive(t, coming)
	w.sleep(time.Minute)
	w.drive("osn-01", func() bool { return w.get("osn-01").Status.ProviderID != "" })
	assert.Equal(t, coming, priority(), "it has not joined yet")
	w.join("osn-01")
	w.heartbeat("osn-01", "True")
	w.drive("osn-01", func() bool { return w.get("osn-01").Status.Created != nil })
	assert.Zero(t, priority(), "it runs, and is in no hurry")
}
