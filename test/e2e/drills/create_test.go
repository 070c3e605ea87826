// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package drills_test

import (
	"net/http"
	"strings"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/cloudveneto/caas/internal/lab/hypervisor/joiner"
	"github.com/cloudveneto/caas/internal/lab/openstack"
	osnodev1 "github.com/cloudveneto/caas/osnode/api/v1"
	"github.com/cloudveneto/caas/osnode/openstack/openstacktest"
)

func unavailable() *openstacktest.Answer {
	return &openstacktest.Answer{Status: http.StatusServiceUnavailable, Body: "the load balancer has no server"}
}

// acceptedThenRefused answers 503 although Nova has made the machine.
func acceptedThenRefused(d *drill) {
	d.faults.Add(openstacktest.Rule{Match: creation(d.name()), Times: 1, Answer: unavailable(), Forward: true})
	osn := d.running(d.name())
	assert.Len(d.t, d.everMade(osn.UID), 1)
	assert.EqualValues(d.t, 1, osn.Status.Intent.Attempt)
	assert.Nil(d.t, osn.Status.LastError)
	assert.Equal(d.t, []osnodev1.Phase{osnodev1.PhaseCreating, osnodev1.PhaseJoining, osnodev1.PhaseRunning}, last(d.history.phases(osn.UID), 3))
	d.told(osn, "OpenStackUnreachable", 1)
	d.told(osn, "ServerAdopted", 1)
	d.told(osn, "ServerCreated", 0)
}

// lateLists loses the answer of the request and has Nova's lists lag behind: for less than the controller waits, which
// is nothing but a delay, and for longer, which makes two machines with one token: both are removed for a third.
func lateLists(d *drill) {
	within, beyond := d.id+"-within", d.id+"-beyond"
	for name, lag := range map[string]time.Duration{within: settle / 4, beyond: 2 * settle} {
		d.faults.Add(openstacktest.Rule{Match: finding(name), LagTime: lag})
		d.faults.Add(openstacktest.Rule{Match: creation(name), Times: 1, Cut: true, Forward: true})
	}
	// A machine that has used the token before the other one is listed is kept, and nothing is left to be told of.
	d.machines.behave(beyond, joiner.Options{Never: true})
	d.create(within)
	d.create(beyond)
	osn := d.reaches(within, osnodev1.PhaseRunning)
	assert.Len(d.t, d.everMade(osn.UID), 1)
	assert.EqualValues(d.t, 1, osn.Status.Intent.Attempt)
	d.told(osn, "DuplicateServer", 0)

	osn = d.get(beyond)
	d.told(osn, "ServerRecreating", 1)
	d.machines.behave(beyond, joiner.Options{})
	osn = d.reaches(beyond, osnodev1.PhaseRunning)
	d.told(osn, "DuplicateServer", 1)
	assert.Len(d.t, d.everMade(osn.UID), 3)
	d.eventually("one machine is left", func() (bool, string) {
		left := of(d.servers(false), osn.UID)
		return len(left) == 1 && left[0].ID == d.get(beyond).Status.Server.ID, describe(osn)
	})
	assert.Equal(d.t, osnodev1.PhaseRunning, d.get(beyond).Status.Phase)
}

// quotaFreed has a project with room for two.
func quotaFreed(d *drill) {
	other := d.running(d.id + "-other")
	d.reaches(d.id+"-beside", osnodev1.PhaseRunning)
	require.NoError(d.t, d.cloud.SetQuota(d.t.Context(), d.project.Name, openstack.Quota{Instances: 2}))
	d.create(d.name())
	osn := d.until(d.name(), "waits for quota", func(osn *osnodev1.OpenStackNode) bool {
		return osn.Status.Description == "Waiting for quota: instances 2/2 used, 1 needed"
	})
	assert.Equal(d.t, osnodev1.PhasePending, osn.Status.Phase)
	d.condition(osn, osnodev1.ConditionQuotaAvailable, metav1.ConditionFalse, osnodev1.ReasonQuotaExceeded, "instances 2/2 used, 1 needed")
	d.told(osn, osnodev1.ReasonQuotaExceeded, 1)
	d.remove(other.Name)
	osn = d.reaches(d.name(), osnodev1.PhaseRunning)
	d.condition(osn, osnodev1.ConditionQuotaAvailable, metav1.ConditionTrue, osnodev1.ReasonQuotaAvailable, "")
	assert.Len(d.t, d.everMade(osn.UID), 1, "none was asked for in vain")
	d.told(osn, osnodev1.ReasonQuotaExceeded, 1)
	d.gone(other.Name)
}

// quotaInFault has Nova find out only when it builds the machine.
func quotaInFault(d *drill) {
	const fault = "Quota exceeded for cores: Requested 1, but already used 20 of 20 cores"
	d.machines.refuse(d.name(), fault)
	osn := d.running(d.name())
	assert.Contains(d.t, d.history.phases(osn.UID), osnodev1.PhasePending)
	said := false
	for _, moment := range d.history.of(osn.UID) {
		said = said || moment.Phase == osnodev1.PhasePending && strings.HasPrefix(moment.Description, "Waiting for quota: ") &&
			strings.Contains(moment.Description, fault)
	}
	assert.True(d.t, said, "%+v", d.history.of(osn.UID))
	assert.Len(d.t, d.everMade(osn.UID), 2)
	d.told(osn, osnodev1.ReasonQuotaExceeded, 1)
	assert.Nil(d.t, osn.Status.LastError)
}

// noValidHost asks for more than any host has, and then for something else.
func noValidHost(d *drill) {
	require.NoError(d.t, d.cloud.SetQuota(d.t.Context(), d.project.Name, openstack.Quota{}))
	osn := d.create(d.name(), func(osn *osnodev1.OpenStackNode) { osn.Spec.Flavor = "lab.giant" })
	now := d.until(d.name(), "has been told", func(osn *osnodev1.OpenStackNode) bool {
		return osn.Status.LastError != nil && osn.Status.LastError.Code == osnodev1.ReasonNoValidHost && osn.Status.Phase == osnodev1.PhasePending
	})
	d.condition(now, osnodev1.ConditionServerReady, metav1.ConditionFalse, osnodev1.ReasonNoValidHost, "No valid host was found")
	assert.Contains(d.t, now.Status.Description, "No valid host was found")
	d.told(osn, "TryAnotherFlavor", 1)
	d.told(osn, osnodev1.ReasonNoValidHost, 1)
	require.NotContains(d.t, d.history.phases(osn.UID), osnodev1.PhaseFailed)
	// The flavor can be changed while there is no machine.
	d.eventually("the flavor is changed", func() (bool, string) {
		err := d.change(d.name(), func(osn *osnodev1.OpenStackNode) { osn.Spec.Flavor = flavor })
		return err == nil, ""
	})
	now = d.reaches(d.name(), osnodev1.PhaseRunning)
	assert.Len(d.t, of(d.servers(false), osn.UID), 1)
	assert.EqualValues(d.t, 1, now.Status.Resolved.VCPUs)
}

// throttled has Nova refuse everything for a while, with a time to wait and without.
func throttled(d *drill) {
	const polite, long = 2 * time.Second, 4 * time.Second
	running := d.running(d.id + "-running")
	too := func(header http.Header) *openstacktest.Answer {
		return &openstacktest.Answer{Status: http.StatusTooManyRequests, Header: header, Body: `{"overLimit": {"code": 429, "message": "slow down"}}`}
	}
	const compute = `/v2\.1/`
	d.faults.Forget()
	d.faults.Add(openstacktest.Rule{Match: openstacktest.Match{Path: compute}, Times: 1, Answer: too(http.Header{"Retry-After": {"2"}})})
	d.eventually("the first refusal", func() (bool, string) { return len(d.refused()) == 1, "" })
	d.create(d.id + "-polite")
	polited := d.reaches(d.id+"-polite", osnodev1.PhaseRunning)
	at := d.refused()[0].At
	for _, call := range d.faults.Calls() {
		early := call.At.After(at.Add(100*time.Millisecond)) && call.At.Before(at.Add(polite-50*time.Millisecond))
		assert.False(d.t, early && strings.Contains(call.Path, "/v2.1/"), "%s %s came %s after a refusal", call.Method, call.Path, call.At.Sub(at))
	}
	assert.Len(d.t, d.everMade(polited.UID), 1)

	d.faults.Forget()
	refuse := d.faults.Add(openstacktest.Rule{Match: openstacktest.Match{Path: compute}, Answer: too(nil)})
	osn := d.create(d.name())
	pause(d.t.Context(), long)
	calls := len(d.refused())
	refuse()
	assert.NotZero(d.t, calls)
	assert.Less(d.t, calls, 80, "refusals slow the controller down")
	assert.Equal(d.t, osnodev1.PhasePending, d.get(d.name()).Status.Phase)
	assert.Empty(d.t, d.everMade(osn.UID))
	osn = d.reaches(d.name(), osnodev1.PhaseRunning)
	assert.Len(d.t, d.everMade(osn.UID), 1)

	// The request for a machine itself is refused: it was not carried out.
	d.faults.Add(openstacktest.Rule{Match: creation(d.id + "-post"), Times: 1, Answer: too(nil)})
	osn = d.running(d.id + "-post")
	assert.Len(d.t, d.everMade(osn.UID), 1)
	assert.Equal(d.t, []osnodev1.Phase{osnodev1.PhaseRunning}, last(d.history.phases(running.UID), 1))
	assert.Equal(d.t, 1, countOf(d.history.phases(running.UID), osnodev1.PhaseRunning), "%v", d.history.phases(running.UID))
}

// refused are the calls that were told to come later.
func (d *drill) refused() []openstacktest.Call {
	var all []openstacktest.Call
	for _, call := range d.faults.Calls() {
		if call.Told == http.StatusTooManyRequests {
			all = append(all, call)
		}
	}
	return all
}

// tokenOutlived has a machine that is switched off before it can join, and on again when the token that it has would
// not be valid any more, had nobody extended it.
func tokenOutlived(d *drill) {
	d.machines.behave(d.name(), joiner.Options{Never: true})
	osn := d.create(d.name())
	now := d.reaches(d.name(), osnodev1.PhaseJoining)
	secret := &corev1.Secret{}
	key := types.NamespacedName{Namespace: metav1.NamespaceSystem, Name: now.Labels[osnodev1.LabelSecret]}
	expiry := func() time.Time {
		require.NoError(d.t, d.admin.Get(d.t.Context(), key, secret))
		at, err := time.Parse(time.RFC3339, string(secret.Data["expiration"]))
		require.NoError(d.t, err)
		return at
	}
	first, token := expiry(), ""
	token = string(secret.Data["token-secret"])
	require.WithinDuration(d.t, osn.CreationTimestamp.Add(createTimer+joinTimer+tokenMargin), first, 5*time.Second)
	d.act(d.login(owner), now.Status.Server.ID, object{"os-stop": nil})
	d.reaches(d.name(), osnodev1.PhaseStopped)
	pause(d.t.Context(), time.Until(first.Add(2*time.Second)))
	require.True(d.t, expiry().After(first), "the token was extended")
	require.Equal(d.t, token, string(secret.Data["token-secret"]), "the machine has this one")
	d.machines.behave(d.name(), joiner.Options{})
	d.act(d.login(owner), now.Status.Server.ID, object{"os-start": nil})
	now = d.reaches(d.name(), osnodev1.PhaseRunning)
	assert.Len(d.t, d.everMade(osn.UID), 1)
	assert.NotContains(d.t, d.history.phases(osn.UID), osnodev1.PhaseFailed)
	d.condition(now, osnodev1.ConditionBootstrapTokenRevoked, metav1.ConditionTrue, osnodev1.ReasonTokenRevoked, "")
	err := d.admin.Get(d.t.Context(), key, secret)
	assert.True(d.t, apierrors.IsNotFound(err), "the token is gone when the node is Ready: %v", err)
}
