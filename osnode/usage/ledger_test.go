// SPDX-License-Identifier: Apache-2.0

package usage_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	osnodev1 "github.com/cloudveneto/caas/osnode/api/v1"
	"github.com/cloudveneto/caas/osnode/usage"
)

func start() time.Time { return time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC) }

// machine has 4 CPUs, 8 GiB and a GPU.
func machine(id, status string, created time.Time) osnodev1.OpenStackNode {
	return osnodev1.OpenStackNode{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "qst", Name: "osn-" + id,
			Labels: map[string]string{
				osnodev1.LabelUserID: "u1", osnodev1.LabelUserName: "zangrand-at-infn.it",
				osnodev1.LabelProjectID: "p1", osnodev1.LabelProjectName: "QST",
			},
		},
		Spec: osnodev1.OpenStackNodeSpec{Flavor: "cloudveneto.medium"},
		Status: osnodev1.OpenStackNodeStatus{
			Resolved: &osnodev1.Resolved{VCPUs: 4, MemoryMiB: 8192, GPUs: 1, GPU: "A100"},
			Server:   &osnodev1.ServerStatus{ID: id, Status: status, Created: &metav1.Time{Time: created}},
		},
	}
}

func account() usage.Account {
	return usage.Account{
		Namespace: "qst", ProjectID: "p1", ProjectName: "QST", UserID: "u1", UserName: "zangrand-at-infn.it",
		Flavor: "cloudveneto.medium", GPU: "A100",
	}
}

func hours(n float64) usage.Total {
	return usage.Total{Nodes: n, VCPUs: 4 * n, MemoryGiB: 8 * n, GPUs: n}
}

func TestAccrueStates(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		change        func(*osnodev1.OpenStackNode)
		stoppedCounts bool
		want          float64
	}{
		"running":                {nil, false, 2},
		"building":               {func(o *osnodev1.OpenStackNode) { o.Status.Server.Status = "BUILD" }, false, 2},
		"rebooting":              {func(o *osnodev1.OpenStackNode) { o.Status.Server.Status = "REBOOT" }, false, 2},
		"stopped":                {func(o *osnodev1.OpenStackNode) { o.Status.Server.Status = "SHUTOFF" }, false, 0},
		"stopped, and it counts": {func(o *osnodev1.OpenStackNode) { o.Status.Server.Status = "SHUTOFF" }, true, 2},
		"in error":               {func(o *osnodev1.OpenStackNode) { o.Status.Server.Status = "ERROR" }, true, 0},
		"deleted":                {func(o *osnodev1.OpenStackNode) { o.Status.Server.Status = "DELETED" }, true, 0},
		"unknown":                {func(o *osnodev1.OpenStackNode) { o.Status.Server.Status = "UNKNOWN" }, true, 0},
		"no server":              {func(o *osnodev1.OpenStackNode) { o.Status.Server = nil }, true, 0},
		"no id":                  {func(o *osnodev1.OpenStackNode) { o.Status.Server.ID = "" }, true, 0},
		"no time":                {func(o *osnodev1.OpenStackNode) { o.Status.Server.Created = nil }, true, 0},
		"nothing resolved":       {func(o *osnodev1.OpenStackNode) { o.Status.Resolved = nil }, true, 0},
		"a clock that is ahead":  {func(o *osnodev1.OpenStackNode) { o.Status.Server.Created.Time = start().Add(time.Minute) }, false, 0},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			osn := machine("s1", "ACTIVE", start().Add(-2*time.Hour))
			if tc.change != nil {
				tc.change(&osn)
			}
			var ledger usage.Ledger
			ledger.Accrue([]osnodev1.OpenStackNode{osn}, start(), tc.stoppedCounts)
			if tc.want == 0 {
				assert.Empty(t, ledger.Totals)
				return
			}
			assert.Equal(t, map[usage.Account]usage.Total{account(): hours(tc.want)}, ledger.Totals)
		})
	}
}

func TestAccrueOverTime(t *testing.T) {
	t.Parallel()
	var ledger usage.Ledger
	at := func(d time.Duration, nodes ...osnodev1.OpenStackNode) float64 {
		ledger.Accrue(nodes, start().Add(d), false)
		return ledger.Totals[account()].Nodes
	}
	one, late := machine("s1", "ACTIVE", start()), machine("s2", "ACTIVE", start().Add(30*time.Minute))
	stopped := machine("s1", "SHUTOFF", start())
	assert.InDelta(t, 0, at(0), 1e-9)
	assert.InDelta(t, 1, at(time.Hour, one), 1e-9, "heard of late, and counted from its creation")
	assert.InDelta(t, 1, at(time.Hour, one), 1e-9, "no time has passed")
	assert.InDelta(t, 1, at(30*time.Minute, one), 1e-9, "a clock that goes backwards")
	assert.InDelta(t, 3.5, at(2*time.Hour, one, late), 1e-9, "one hour more, and one and a half of the second")
	assert.InDelta(t, 4.5, at(3*time.Hour, stopped, late), 1e-9)
	assert.InDelta(t, 5.5, at(4*time.Hour, one), 1e-9, "started again: the time it was stopped is not made up for")
	assert.InDelta(t, 5.5, at(5*time.Hour), 1e-9, "gone, and not forgotten")
}

// A new process continues where the last one stopped, for what still exists.
func TestAccrueAfterRestart(t *testing.T) {
	t.Parallel()
	var before usage.Ledger
	before.Accrue([]osnodev1.OpenStackNode{machine("s1", "ACTIVE", start().Add(-time.Hour))}, start(), false)
	text, err := before.Encode()
	require.NoError(t, err)

	after, err := usage.Decode(text)
	require.NoError(t, err)
	after.Accrue([]osnodev1.OpenStackNode{
		machine("s1", "ACTIVE", start().Add(-time.Hour)), machine("s2", "ACTIVE", start().Add(15*time.Minute)),
	}, start().Add(30*time.Minute), false)
	assert.InDelta(t, 1+0.5+0.25, after.Totals[account()].Nodes, 1e-9)
}

func TestEncode(t *testing.T) {
	t.Parallel()
	ledger := usage.Ledger{At: start(), Totals: map[usage.Account]usage.Total{account(): hours(1.25)}}
	for _, user := range []string{"u2", "u3", "u4"} {
		other := account()
		other.UserID, other.GPU = user, ""
		ledger.Totals[other] = hours(3)
	}
	text, err := ledger.Encode()
	require.NoError(t, err)
	again, err := ledger.Encode()
	require.NoError(t, err)
	assert.Equal(t, text, again)
	decoded, err := usage.Decode(text)
	require.NoError(t, err)
	assert.Equal(t, ledger, decoded)
	for name, bad := range map[string]string{
		"nothing": "", "no JSON": "x", "negative": `{"at":"2026-11-20T12:00:00Z","entries":[{"projectid":"p","vcpus":-1}]}`,
	} {
		_, err := usage.Decode(bad)
		assert.ErrorContains(t, err, "decode usage", name)
	}
}

func FuzzDecode(f *testing.F) {
	ledger := usage.Ledger{At: start(), Totals: map[usage.Account]usage.Total{account(): hours(1)}}
	text, err := ledger.Encode()
	require.NoError(f, err)
	f.Add(text)
	f.Add(`{"entries":[{"nodes":1e308},{"nodes":1e308}]}`)
	f.Fuzz(func(t *testing.T, text string) {
		decoded, err := usage.Decode(text)
		if err != nil {
			return
		}
		encoded, err := decoded.Encode()
		require.NoError(t, err)
		again, err := usage.Decode(encoded)
		require.NoError(t, err)
		assert.True(t, decoded.At.Equal(again.At))
		assert.Equal(t, decoded.Totals, again.Totals)
	})
}
