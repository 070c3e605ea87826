// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package drills_test

import (
	"fmt"
	"net/http"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cloudveneto/caas/internal/lab/openstack"
	osnodev1 "github.com/cloudveneto/caas/osnode/api/v1"
	"github.com/cloudveneto/caas/osnode/openstack/openstacktest"
)

// outage is how long Keystone is down here. The same with a clock of the test's, for ten minutes, is
// TestIntegrationOutage of the controller.
const outage = 20 * time.Second

// keystoneDown cuts Keystone off, with one node running, one being made, one being deleted and one new. Without Keystone
// the other services cannot check tokens, and say so.
func keystoneDown(d *drill) {
	running := d.running(d.id + "-running")
	leaving := d.running(d.id + "-leaving")
	letGo := d.machines.holdSpawn(d.id + "-creating")
	defer letGo()
	d.create(d.id + "-creating")
	creating := d.until(d.id+"-creating", "is in BUILD", func(osn *osnodev1.OpenStackNode) bool { return osn.Status.Server != nil })

	began := time.Now()
	d.faults.Add(openstacktest.Rule{Match: openstacktest.Match{Path: `^/u/0/`}, Cut: true})
	d.faults.Add(openstacktest.Rule{Answer: unavailable()})
	fresh := d.create(d.name())
	d.remove(leaving.Name)
	pause(d.t.Context(), outage)
	for osn, phase := range map[*osnodev1.OpenStackNode]osnodev1.Phase{
		running: osnodev1.PhaseRunning, creating: osnodev1.PhaseCreating, fresh: osnodev1.PhasePending, leaving: osnodev1.PhaseDeleting,
	} {
		now := d.get(osn.Name)
		assert.Equal(d.t, phase, now.Status.Phase, "%s is %s", osn.Name, describe(now))
		assert.Len(d.t, last(d.history.phases(osn.UID), 100), len(unique(d.history.phases(osn.UID))), "no phase comes twice: %v", d.history.phases(osn.UID))
		d.told(now, "OpenStackUnreachable", 1)
	}
	d.condition(d.get(d.name()), osnodev1.ConditionOwnerAuthorized, metav1.ConditionUnknown, d.get(d.name()).Status.LastError.Code, "")
	for _, call := range d.faults.Calls() {
		assert.False(d.t, call.Method == http.MethodDelete && call.Status != 0 && call.At.After(began), "%s %s", call.Method, call.Path)
	}
	for _, osn := range []*osnodev1.OpenStackNode{running, leaving, creating} {
		assert.Len(d.t, of(d.servers(false), osn.UID), 1)
	}

	d.faults.Clear()
	letGo()
	for _, osn := range []*osnodev1.OpenStackNode{running, creating, fresh} {
		now := d.reaches(osn.Name, osnodev1.PhaseRunning)
		d.until(osn.Name, "has no error any more", func(osn *osnodev1.OpenStackNode) bool { return osn.Status.LastError == nil })
		assert.Len(d.t, d.everMade(now.UID), 1)
		assert.NotContains(d.t, d.history.phases(osn.UID), osnodev1.PhaseFailed)
	}
	d.gone(leaving.Name)
}

func unique[T comparable](all []T) map[T]bool {
	set := map[T]bool{}
	for _, one := range all {
		set[one] = true
	}
	return set
}

// burstOf401 has Nova refuse the platform's tokens for a while, as when Keystone's keys are exchanged.
func burstOf401(d *drill) {
	running := d.running(d.id + "-running")
	refusal := &openstacktest.Answer{Status: http.StatusUnauthorized, Body: `{"error": {"code": 401, "message": "The request you have made requires authentication."}}`}
	d.faults.Add(openstacktest.Rule{Match: creation(d.name()), Times: 3, Answer: refusal})
	d.faults.Add(openstacktest.Rule{Match: openstacktest.Match{Path: `/v2\.1/`}, Times: 25, Answer: refusal})
	osn := d.running(d.name())
	assert.Len(d.t, d.everMade(osn.UID), 1)
	assert.NotContains(d.t, d.history.phases(osn.UID), osnodev1.PhaseFailed)
	now := d.until(running.Name, "has no error any more", func(osn *osnodev1.OpenStackNode) bool { return osn.Status.LastError == nil })
	assert.Equal(d.t, osnodev1.PhaseRunning, now.Status.Phase)
	assert.Equal(d.t, 1, countOf(d.history.phases(running.UID), osnodev1.PhaseRunning), "%v", d.history.phases(running.UID))
	assert.GreaterOrEqual(d.t, d.told401(), 28)
}

func (d *drill) told401() int {
	count := 0
	for _, call := range d.faults.Calls() {
		if call.Told == http.StatusUnauthorized && call.Status == 0 {
			count++
		}
	}
	return count
}

// trustRevoked is an owner who takes back what he has allowed: what runs goes on and can be deleted, nothing new begins.
func trustRevoked(d *drill) {
	running, kept := d.running(d.name()), d.running(d.id+"-kept")
	require.NoError(d.t, d.login(owner).Do(d.t.Context(), http.MethodDelete, "identity", "/OS-TRUST/trusts/"+d.trust, nil, nil))
	pause(d.t.Context(), 2*time.Second) // what was known of the trust is older than the controller believes
	d.create(d.id + "-new")
	fresh := d.until(d.id+"-new", "lacks a trust", func(osn *osnodev1.OpenStackNode) bool {
		return osn.Status.LastError != nil && osn.Status.LastError.Code == osnodev1.ReasonNoTrust
	})
	assert.Equal(d.t, osnodev1.PhasePending, fresh.Status.Phase)
	d.condition(fresh, osnodev1.ConditionOwnerAuthorized, metav1.ConditionFalse, osnodev1.ReasonNoTrust, "run kubectl openstack login")
	assert.Contains(d.t, fresh.Status.Description, "run kubectl openstack login")
	d.told(fresh, osnodev1.ReasonNoTrust, 1)
	assert.Empty(d.t, d.everMade(fresh.UID))
	assert.Equal(d.t, osnodev1.PhaseRunning, d.get(running.Name).Status.Phase)
	d.remove(running.Name)
	d.gone(running.Name)

	_, err := d.authorize(d.t.Context())
	require.NoError(d.t, err)
	d.reaches(fresh.Name, osnodev1.PhaseRunning)
	d.undisturbed(kept)
}

// userRemoved is an owner who is not in the project any more: his machines belong to the project, and the platform can
// still delete them.
func userRemoved(d *drill) {
	running, kept := d.running(d.name()), d.running(d.id+"-kept")
	admin := d.operator
	var roles struct{ Roles []struct{ ID, Name string } }
	require.NoError(d.t, admin.Do(d.t.Context(), http.MethodGet, "identity", "/roles?name="+openstack.RoleMember, nil, &roles))
	require.Len(d.t, roles.Roles, 1)
	who, err := d.cloud.User(owner)
	require.NoError(d.t, err)
	membership := fmt.Sprintf("/projects/%s/users/%s/roles/%s", d.project.ID, who.ID, roles.Roles[0].ID)
	require.NoError(d.t, admin.Do(d.t.Context(), http.MethodDelete, "identity", membership, nil, nil))
	pause(d.t.Context(), 2*time.Second)
	d.create(d.id + "-new")
	fresh := d.until(d.id+"-new", "lacks its owner's rights", func(osn *osnodev1.OpenStackNode) bool {
		return osn.Status.LastError != nil && osn.Status.Phase == osnodev1.PhasePending &&
			(osn.Status.LastError.Code == osnodev1.ReasonOwnerAuthorizationLost || osn.Status.LastError.Code == osnodev1.ReasonNoTrust)
	})
	d.condition(fresh, osnodev1.ConditionOwnerAuthorized, metav1.ConditionFalse, fresh.Status.LastError.Code, "kubectl openstack")
	assert.Empty(d.t, d.everMade(fresh.UID))
	assert.Equal(d.t, osnodev1.PhaseRunning, d.get(kept.Name).Status.Phase)
	d.remove(running.Name)
	d.gone(running.Name)

	require.NoError(d.t, admin.Do(d.t.Context(), http.MethodPut, "identity", membership, nil, nil))
	_, err = d.authorize(d.t.Context()) // his next login makes a trust, if the old one has not survived
	require.NoError(d.t, err)
	d.reaches(fresh.Name, osnodev1.PhaseRunning)
	d.undisturbed(kept)
}
