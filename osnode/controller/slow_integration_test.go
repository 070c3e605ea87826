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

// TestIntegrationSlowCreationsBlockNobody: more machines are being asked for than there are
// workers, and OpenStack takes none of the requests for now.
func TestIntegrationSlowCreationsBlockNobody(t *testing.T) {
	w := newWorld(t)
	w.cloud = controllertest.New(clusterName, time.Now)
	w.cloud.Change(func(s *controllertest.State) { s.Trusting[owner] = true })
	gate := make(chan struct{})
	slow := overridden{Cloud: w.cloud, create: func() { <-gate }}
	released := false
	defer func() {
		if !released {
			close(gate)
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
	close(gate)
	released = true
	require.Eventually(t, func() bool { return len(w.cloud.Servers()) == count-1 }, 20*time.Second, 50*time.Millisecond, "all the others get theirs")
	assert.Equal(t, count-1, w.cloud.Calls("Create"))
}

// overridden is the cloud with some answers of the test's.
type overridden struct {
	*controllertest.Cloud

	create func()
	list   func() (cloud.Listing, bool)
	server func() (cloud.Server, bool)
}

func (o overridden) Create(ctx context.Context, account cloud.Account, request cloud.Request) (cloud.Server, error) {
	if o.create != nil {
		o.create()
	}
	return o.Cloud.Create(ctx, account, request)
}

func (o overridden) List(ctx context.Context, account cloud.Account, maxAge time.Duration) (cloud.Listing, error) {
	if o.list != nil {
		if listing, ok := o.list(); ok {
			return listing, nil
		}
	}
	return o.Cloud.List(ctx, account, maxAge)
}

func (o overridden) Server(ctx context.Context, account cloud.Account, id string) (cloud.Server, error) {
	if o.server != nil {
		if server, ok := o.server(); ok {
			return server, nil
		}
	}
	return o.Cloud.Server(ctx, account, id)
}

// override begins again with another cloud.
func (w *world) override(answers overridden) {
	w.t.Helper()
	config := w.config()
	answers.Cloud = w.cloud
	config.Cloud = answers
	made, err := controller.New(config)
	require.NoError(w.t, err)
	w.reconciler = made
}

// TestIntegrationRequestGivenUpLate: the request for a machine is given up after two minutes,
// and only then does OpenStack do what it was asked.
func TestIntegrationRequestGivenUpLate(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.cloud.Change(func(s *controllertest.State) {
		s.Accept, s.Refuse["Create"], s.Lag = true, []error{outage()}, 10*time.Second
	})
	w.override(overridden{create: func() { w.sleep(2 * time.Minute) }})
	w.osn("osn-01")
	w.reaches("osn-01", osnodev1.PhaseJoining)
	assert.Equal(t, 1, w.cloud.Calls("Create"), "what was asked for has time to appear")
	assert.Equal(t, 1, w.told("ServerAdopted"))
}

// TestIntegrationRequestOfAProcessThatIsNoMore: nobody knows when its request ends, so no other is made for as long as it
// may be under way, and what it has made is found in the meantime.
func TestIntegrationRequestOfAProcessThatIsNoMore(t *testing.T) {
	t.Parallel()
	for name, made := range map[string]bool{"carried out": true, "lost": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.cloud.Change(func(s *controllertest.State) { s.Refuse["Create"] = []error{outage()} })
			w.osn("osn-01")
			w.drive("osn-01", func() bool { return w.cloud.Calls("Create") == 1 })
			intent := w.get("osn-01").Status.Intent
			require.NotNil(t, intent)
			w.restart()
			w.sleep(time.Minute)
			for range 3 {
				after := w.pass("osn-01")
				require.LessOrEqual(t, after, 15*time.Second, "the machine is looked for")
				w.sleep(after)
			}
			require.Equal(t, 1, w.cloud.Calls("Create"))
			if made {
				w.cloud.Add(cloud.Server{Name: "osn-01", ProjectID: w.project, Metadata: map[string]string{
					osnodev1.MetaUID: string(w.get("osn-01").UID), osnodev1.MetaCluster: clusterName,
					osnodev1.MetaNodeID: w.get("osn-01").Status.NodeID, osnodev1.MetaOwner: owner,
				}})
			}
			w.reaches("osn-01", osnodev1.PhaseJoining)
			if made {
				assert.Equal(t, 1, w.cloud.Calls("Create"))
				return
			}
			assert.Equal(t, 2, w.cloud.Calls("Create"))
			again := w.get("osn-01").Status.Intent
			assert.GreaterOrEqual(t, again.At.Sub(intent.At.Time), 150*time.Second)
			assert.Less(t, again.At.Sub(intent.At.Time), 170*time.Second)
		})
	}
}

// TestIntegrationDeletionOfDuplicates asks for the end of all in one go.
func TestIntegrationDeletionOfDuplicates(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.running("osn-01")
	for range 3 {
		w.cloud.Add(cloud.Server{Name: "osn-01", ProjectID: w.project, Metadata: w.cloud.Servers()[0].Metadata})
	}
	w.cloud.Change(func(s *controllertest.State) { s.Refuse["Delete"] = []error{outage()} })
	w.delete("osn-01")
	w.drive("osn-01", func() bool { return w.cloud.Calls("Delete") > 0 })
	assert.Equal(t, 4, w.cloud.Calls("Delete"), "that one is refused keeps nobody from asking for the others")
	began := w.now()
	w.drive("osn-01", func() bool { return w.gone("osn-01") })
	assert.Less(t, w.now().Sub(began), controller.DefaultTimers().DeleteAgain)
	assert.Empty(t, w.cloud.Servers())
}

// TestIntegrationDeletionByAnOldList: the answer to a request was lost, and the list that a slow OpenStack gave is older
// than the request, although that has settled by now.
func TestIntegrationDeletionByAnOldList(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	began := w.now()
	w.override(overridden{list: func() (cloud.Listing, bool) {
		return cloud.Listing{At: began}, w.now().Before(began.Add(time.Minute))
	}})
	w.cloud.Change(func(s *controllertest.State) { s.Accept, s.Refuse["Create"] = true, []error{outage()} })
	w.osn("osn-01")
	w.drive("osn-01", func() bool { return w.cloud.Calls("Create") == 1 })
	require.Nil(t, w.get("osn-01").Status.Server)
	w.sleep(40 * time.Second)
	w.delete("osn-01")
	w.drive("osn-01", func() bool { return w.gone("osn-01") })
	assert.Empty(t, w.cloud.Servers())
}

// TestIntegrationDeletionWithItsCellDown: a new process has never seen the machine's metadata, and Nova cannot tell them.
func TestIntegrationDeletionWithItsCellDown(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	osn := w.running("osn-01")
	w.sleep(time.Minute)
	down := true
	w.override(overridden{
		list: func() (cloud.Listing, bool) { return cloud.Listing{At: w.now()}, down },
		server: func() (cloud.Server, bool) {
			return cloud.Server{ID: osn.Status.Server.ID, ProjectID: w.project, Status: "UNKNOWN"}, down
		},
	})
	w.cloud.Change(func(s *controllertest.State) { s.Refuse["Delete"] = []error{outage(), outage(), outage()} })
	w.delete("osn-01")
	w.drive("osn-01", func() bool { return w.cloud.Calls("Delete") == 3 })
	require.False(t, w.gone("osn-01"))
	down = false
	w.drive("osn-01", func() bool { return w.gone("osn-01") })
	assert.Empty(t, w.cloud.Servers())
}
