// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package drills_test

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	osnodev1 "github.com/cloudveneto/caas/osnode/api/v1"
	"github.com/cloudveneto/caas/test/e2e/labtest"
)

// exercise is one drill of the table.
type exercise struct {
	// name begins with the drill's letter and number.
	name string
	// alone runs it before the others: it stops what all need.
	alone bool
	// apart has the undisturbed node in another project, because the trouble is with all of the drill's own.
	apart bool
	run   func(d *drill)
}

// letter is what the drill is known by, id the same as a part of names.
func (e exercise) letter() string { return strings.Fields(e.name)[0] }
func (e exercise) id() string     { return strings.ToLower(e.letter()) }

func drills() []exercise {
	return []exercise{
		{name: "C1 crash after POST", alone: true, run: crashAfterPost},
		{name: "C4 leader change in the middle of a creation", alone: true, run: leaderChange},
		{name: "A1 outage of the API server", alone: true, run: apiServerOutage},

		{name: "T1 token would have expired before the machine boots", run: tokenOutlived},
		{name: "D1 machine deleted out of band", run: deletedOutOfBand},
		{name: "K4 Keystone down", apart: true, run: keystoneDown},
		{name: "D6 node that never joined", run: neverJoined},
		{name: "C2 503 after the request was accepted", run: acceptedThenRefused},
		{name: "C3 lists that are late", run: lateLists},
		{name: "Q1 quota full, then freed", run: quotaFreed},
		{name: "Q2 quota only when the machine is built", run: quotaInFault},
		{name: "H1 no valid host", run: noValidHost},
		{name: "E1 ACTIVE, ERROR, ACTIVE", run: errorAndBack},
		{name: "S1 SHUTOFF, and started again", run: stoppedAndStarted},
		{name: "D2 soft delete", apart: true, run: softDelete},
		{name: "D3 deleted while in BUILD", run: deletedWhileBuilding},
		{name: "D4 deleted before it joined, and the machine boots later", run: bootsAfterDeletion},
		{name: "D5 disruption budget blocks the drain", run: blockedDrain},
		{name: "K1 burst of 401", apart: true, run: burstOf401},
		{name: "K2 trust revoked while running, then deleted", apart: true, run: trustRevoked},
		{name: "K3 user removed from the project", apart: true, run: userRemoved},
		{name: "N1 429 with and without Retry-After", apart: true, run: throttled},
		{name: "G1 foreign server with the same name", run: foreignName},
		{name: "G2 foreign servers with forged metadata", run: forgedMetadata},
		{name: "B1 bare-metal Node", run: bareMetal},
		{name: "M1 key pair of another user", run: foreignKeyPair},
		{name: "V1 user data of 64 KiB", run: longUserData},
		{name: "X1 bad input", run: badInput},
	}
}

// TestDrills does all drills: first, one by one, those that stop what all need, then the others at the same time.
func TestDrills(t *testing.T) {
	labtest.NeedRoot(t)
	w := theWorld(t)
	calmly, err := newTenant(t.Context(), w, calm)
	require.NoError(t, err)
	stay := (&drill{tenant: calmly, t: t}).running("calm-vm")
	t.Run("all", func(t *testing.T) {
		for _, one := range drills() {
			t.Run(one.name, func(t *testing.T) {
				if !one.alone {
					t.Parallel()
				}
				w.exercise(t, one, &drill{tenant: calmly, t: t}, stay)
			})
		}
	})
	last := &drill{tenant: calmly, t: t}
	last.undisturbed(stay)
	last.finish()
}

// exercise does one drill, with a node beside it that nothing happens to.
func (w *world) exercise(t *testing.T, one exercise, calmly *drill, stay *osnodev1.OpenStackNode) {
	t.Helper()
	made, err := newTenant(t.Context(), w, one.id())
	require.NoError(t, err)
	d := &drill{tenant: made, t: t}
	t.Cleanup(func() { d.abort(t) })
	beside, where := stay, calmly
	if !one.apart {
		beside, where = d.create(d.id+"-beside"), d
	}
	one.run(d)
	where.undisturbed(beside)
	d.finish()
}

// abort reports what is there after a failure, and takes it away from under the drills that follow.
func (d *drill) abort(t *testing.T) {
	t.Helper()
	if !t.Failed() {
		return
	}
	d.faults.Clear()
	d.tamper.set(nil)
	ctx := context.WithoutCancel(t.Context())
	list := &osnodev1.OpenStackNodeList{}
	_ = d.admin.List(ctx, list) // the failure has been reported
	for i := range list.Items {
		if osn := &list.Items[i]; osn.Namespace == d.namespace {
			t.Logf("%s went through %+v and is %s", osn.Name, d.history.of(osn.UID), describe(osn))
			_ = d.user.Delete(ctx, osn)
		}
	}
	for _, uuid := range d.machines.Servers() {
		if machine, ok := d.machines.Status(uuid); ok && strings.HasPrefix(machine.Server.Name, d.id+"-") {
			t.Logf("machine %s is %s as node %s after requests %v: %v", machine.Server.Name, machine.State, machine.NodeID, machine.Requests, machine.Errors)
		}
	}
	for _, line := range d.controls.logged(mainController, `"`+d.id+`-`) {
		t.Log(line)
	}
	for _, call := range d.faults.Calls() {
		if call.Told >= 400 || call.Told == 0 || call.Method != http.MethodGet {
			t.Logf("%s %s %s: service %d, told %d, %s", call.At.Format("15:04:05.000"), call.Method, call.Path, call.Status, call.Told, call.Took)
		}
	}
}

// once does something the first time that it is called.
func once(do func()) func() {
	var first sync.Once
	return func() { first.Do(do) }
}
