// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package drills_test

import (
	"bytes"
	"context"
	"net/http"
	"path/filepath"
	"syscall"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/cloudveneto/caas/internal/lab/proc"
	osnodev1 "github.com/cloudveneto/caas/osnode/api/v1"
	"github.com/cloudveneto/caas/osnode/openstack/openstacktest"
)

// creation matches the request that creates the server of a name.
func creation(name string) openstacktest.Match {
	return openstacktest.Match{Method: http.MethodPost, Path: `/servers$`, Body: func(body []byte) bool {
		return bytes.Contains(body, []byte(`"name":"`+name+`"`))
	}}
}

// finding matches the question for the servers of a name, listing the one for all servers.
func finding(name string) openstacktest.Match {
	return openstacktest.Match{Method: http.MethodGet, Path: `/servers/detail\?.*name=%5E` + name}
}

// crashAfterPost kills the controller before the request for a machine leaves, and when Nova has accepted it and the
// controller does not know.
func crashAfterPost(d *drill) {
	ended := make(chan error, 2) // one for each crash
	kill := func(*http.Request) { ended <- d.controls.kill(mainController) }
	before, after := d.id+"-before", d.name()
	d.reaches(d.id+"-beside", osnodev1.PhaseRunning)

	d.faults.Add(openstacktest.Rule{Match: creation(before), Times: 1, Before: kill, Cut: true})
	d.create(before)
	require.NoError(d.t, <-ended)
	osn := d.get(before)
	require.NotNil(d.t, osn.Status.Intent, "the intent is written before the request")
	assert.Nil(d.t, osn.Status.Server)
	assert.Empty(d.t, d.everMade(osn.UID))
	require.NoError(d.t, d.controls.start(d.t.Context(), mainController))
	osn = d.reaches(before, osnodev1.PhaseRunning)
	assert.Len(d.t, d.everMade(osn.UID), 1)
	assert.EqualValues(d.t, 2, osn.Status.Intent.Attempt)
	d.told(osn, "ServerCreated", 1)
	d.told(osn, "ServerAdopted", 0)

	d.faults.Add(openstacktest.Rule{Match: creation(after), Times: 1, After: kill})
	d.create(after)
	require.NoError(d.t, <-ended)
	osn = d.get(after)
	assert.Nil(d.t, osn.Status.Server, "the crash came before the status")
	assert.Equal(d.t, osnodev1.PhaseCreating, osn.Status.Phase)
	assert.Len(d.t, d.everMade(osn.UID), 1)
	nodeID := osn.Status.NodeID
	require.NoError(d.t, d.controls.start(d.t.Context(), mainController))
	osn = d.reaches(after, osnodev1.PhaseRunning)
	assert.Len(d.t, d.everMade(osn.UID), 1, "it was found again")
	assert.Equal(d.t, nodeID, osn.Status.NodeID)
	assert.EqualValues(d.t, 1, osn.Status.Intent.Attempt)
	d.told(osn, "ServerAdopted", 1)
	d.told(osn, "ServerCreated", 0)
	d.condition(osn, osnodev1.ConditionReady, metav1.ConditionTrue, osnodev1.ReasonReady, "The node is running")
}

// leaderChange freezes the leader when its request has been accepted, until another controller has taken over and
// finished its work.
func leaderChange(d *drill) {
	const first, second = "leader-1", "leader-2"
	d.reaches(d.id+"-beside", osnodev1.PhaseRunning)
	require.NoError(d.t, d.controls.kill(mainController))
	d.t.Cleanup(func() { d.backToOne(first, second) })
	ctx := d.t.Context()
	require.NoError(d.t, d.controls.start(ctx, first, "--leader-elect"))
	lease := &coordinationv1.Lease{}
	holder := func() string {
		err := d.admin.Get(context.WithoutCancel(ctx), types.NamespacedName{Namespace: platform, Name: "osnode-controller"}, lease)
		if err != nil || lease.Spec.HolderIdentity == nil {
			return ""
		}
		return *lease.Spec.HolderIdentity
	}
	d.eventually("there is a leader", func() (bool, string) { return holder() != "", "" })
	old := holder()
	require.NoError(d.t, d.controls.start(ctx, second, "--leader-elect"))

	frozen := make(chan error, 1)
	freeze := once(func() { frozen <- d.controls.freeze(first) })
	d.faults.Add(openstacktest.Rule{Match: creation(d.name()), Times: 1, After: func(*http.Request) { freeze() }})
	d.create(d.name())
	require.NoError(d.t, <-frozen)
	assert.Nil(d.t, d.get(d.name()).Status.Server)
	assert.Equal(d.t, old, holder())

	osn := d.reaches(d.name(), osnodev1.PhaseRunning)
	assert.NotEqual(d.t, old, holder(), "another leads")
	assert.Len(d.t, d.everMade(osn.UID), 1)
	d.told(osn, "ServerAdopted", 1)
	d.told(osn, "ServerCreated", 0)

	// The old leader wakes up with the answer in its hands. It must notice that it leads no more, and end.
	process := d.controls.process(first)
	require.NoError(d.t, d.controls.thaw(first))
	d.eventually("the old leader ends by itself", func() (bool, string) { return !process.Alive(), "it runs" })
	now := d.get(d.name())
	assert.Equal(d.t, osn.Status.NodeID, now.Status.NodeID)
	assert.Equal(d.t, osn.Status.Server.ID, now.Status.Server.ID)
	assert.Equal(d.t, osnodev1.PhaseRunning, now.Status.Phase)
	assert.Len(d.t, d.everMade(osn.UID), 1)
	d.told(osn, "DuplicateServer", 0)
}

// backToOne ends controllers and starts the usual one.
func (d *drill) backToOne(names ...string) {
	for _, name := range names {
		_ = d.controls.kill(name) // it may never have been started
	}
	assert.NoError(d.t, d.controls.start(context.WithoutCancel(d.t.Context()), mainController))
}

// apiServerOutage freezes the API server for as long as requests may take, and ends and restarts it, with a machine
// being made. Whoever believes that what he cannot see is gone would delete machines here.
func apiServerOutage(d *drill) {
	running := d.running(d.id + "-running")
	d.reaches(d.id+"-beside", osnodev1.PhaseRunning)
	apiServer, err := proc.Load(filepath.Join(d.dir, "kube", "run"), "kube-apiserver")
	require.NoError(d.t, err)
	letGo := d.machines.holdSpawn(d.name())
	defer letGo()
	d.create(d.name())
	d.reaches(d.name(), osnodev1.PhaseCreating)
	began := time.Now()

	require.NoError(d.t, syscall.Kill(apiServer.PID(), syscall.SIGSTOP))
	letGo()
	pause(d.t.Context(), orphanAge+collect+time.Second)
	require.NoError(d.t, syscall.Kill(apiServer.PID(), syscall.SIGCONT))
	osn := d.reaches(d.name(), osnodev1.PhaseRunning)

	require.NoError(d.t, apiServer.Kill())
	pause(d.t.Context(), collect)
	_, err = proc.Start(d.t.Context(), filepath.Join(d.dir, "kube", "run"), apiServer.Spec())
	require.NoError(d.t, err)
	d.eventually("the API server answers", func() (bool, string) {
		err := d.admin.List(d.t.Context(), &osnodev1.OpenStackNodeList{})
		return err == nil, ""
	})
	pause(d.t.Context(), orphanAge+collect)
	for _, one := range []*osnodev1.OpenStackNode{running, osn} {
		now := d.reaches(one.Name, osnodev1.PhaseRunning)
		assert.Equal(d.t, one.Status.NodeID, now.Status.NodeID)
		assert.Len(d.t, d.everMade(one.UID), 1)
		assert.Equal(d.t, []osnodev1.Phase{osnodev1.PhaseRunning}, last(d.history.phases(one.UID), 1))
	}
	for id, door := range d.doors {
		for _, call := range door.faults.Calls() {
			assert.False(d.t, call.Method == http.MethodDelete && call.At.After(began), "%s: %s %s", id, call.Method, call.Path)
		}
	}
	// It works as before.
	d.running(d.id + "-after")
}

func last[T any](all []T, n int) []T { return all[max(0, len(all)-n):] }
