// SPDX-License-Identifier: Apache-2.0

//go:build integration

package controller_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"sigs.k8s.io/controller-runtime/pkg/client"

	osnodev1 "github.com/cloudveneto/caas/osnode/api/v1"
	"github.com/cloudveneto/caas/osnode/cloud"
	"github.com/cloudveneto/caas/osnode/controller"
	"github.com/cloudveneto/caas/osnode/controller/controllertest"
)

// slowCloud takes its time to accept a machine.
type slowCloud struct {
	*controllertest.Cloud

	gate chan struct{}
}

func (c slowCloud) Create(ctx context.Context, account cloud.Account, request cloud.Request) (cloud.Server, error) {
	<-c.gate
	return c.Cloud.Create(ctx, account, request)
}

// TestIntegrationSlowCreationsBlockNobody: more machines are being asked for than there are
// workers, and OpenStack takes none of the requests for now.
func TestIntegrationSlowCreationsBlockNobody(t *testing.T) {
	w := newWorld(t)
	w.cloud = controllertest.New(clusterName, time.Now)
	w.cloud.Change(func(s *controllertest.State) { s.Trusting[owner] = true })
	slow := slowCloud{Cloud: w.cloud, gate: make(chan struct{})}
	released := false
	defer func() {
		if !released {
			close(slow.gate)
		}
	}()
	w.run(controller.Timers{PollCreating: 200 * time.Millisecond}, func(config *controller.Config) {
		config.Cloud, config.Workers = slow, 4
	})
	const count = 12
	for i := range count {
		w.osn(fmt.Sprintf("osn-%02d", i))
	}
	list := &osnodev1.OpenStackNodeList{}
	require.Eventually(t, func() bool {
		require.NoError(t, w.client.List(t.Context(), list, client.InNamespace(w.namespace)))
		named, asked := 0, 0
		for i := range list.Items {
			if list.Items[i].Status.NodeID != "" {
				named++
			}
			if list.Items[i].Status.Intent != nil {
				asked++
			}
		}
		return named == count && asked == 2
	}, 10*time.Second, 50*time.Millisecond, "all have their names, and two of four workers wait for OpenStack")
	for i := range list.Items {
		osn := &list.Items[i]
		if osn.Status.Intent == nil {
			require.NoError(t, w.client.Delete(t.Context(), osn))
			require.Eventually(t, func() bool { return w.gone(osn.Name) }, 10*time.Second, 50*time.Millisecond, "it is deleted all the same")
			break
		}
	}
	close(slow.gate)
	released = true
	require.Eventually(t, func() bool { return len(w.cloud.Servers()) == count-1 }, 20*time.Second, 50*time.Millisecond, "all the others get theirs")
	assert.Equal(t, count-1, w.cloud.Calls("Create"))
}
