// SPDX-License-Identifier: Apache-2.0

package controller_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	osnodev1 "github.com/cloudveneto/caas/osnode/api/v1"
	"github.com/cloudveneto/caas/osnode/cloud"
	"github.com/cloudveneto/caas/osnode/controller"
)

func yes(kind string) metav1.Condition {
	return metav1.Condition{Type: kind, Status: metav1.ConditionTrue, Reason: "Fine"}
}

func no(kind, reason, message string) metav1.Condition {
	return metav1.Condition{Type: kind, Status: metav1.ConditionFalse, Reason: reason, Message: message}
}

func unknown(kind, reason, message string) metav1.Condition {
	return metav1.Condition{Type: kind, Status: metav1.ConditionUnknown, Reason: reason, Message: message}
}

func TestSummarize(t *testing.T) {
	t.Parallel()
	const (
		owner, spec, quota    = osnodev1.ConditionOwnerAuthorized, osnodev1.ConditionSpecResolved, osnodev1.ConditionQuotaAvailable
		server, node, revoked = osnodev1.ConditionServerReady, osnodev1.ConditionNodeReady, osnodev1.ConditionBootstrapTokenRevoked
	)
	active := metav1.Condition{Type: server, Status: metav1.ConditionTrue, Reason: osnodev1.ReasonServerActive}
	ready := func(phase osnodev1.Phase, text, reason string) controller.Summary {
		return controller.Summary{Phase: phase, Description: text, Reason: reason, Ready: phase == osnodev1.PhaseRunning && reason == "Ready"}
	}
	tests := map[string]struct {
		conditions []metav1.Condition
		deleting   bool
		want       controller.Summary
	}{
		"new":           {nil, false, ready("Pending", "The node is being prepared", "Pending")},
		"no trust":      {[]metav1.Condition{no(owner, "NoTrust", "Log in")}, false, ready("Pending", "Log in", "NoTrust")},
		"first missing": {[]metav1.Condition{no(quota, "QuotaExceeded", "q"), no(owner, "NoTrust", "Log in")}, false, ready("Pending", "Log in", "NoTrust")},
		"bad spec":      {[]metav1.Condition{yes(owner), no(spec, "InvalidSpec", "No such flavor")}, false, ready("Failed", "No such flavor", "InvalidSpec")},
		"no answer":     {[]metav1.Condition{yes(owner), unknown(spec, "Unavailable", "Silence")}, false, ready("Pending", "Silence", "Unavailable")},
		"quota":         {[]metav1.Condition{yes(owner), yes(spec), no(quota, "QuotaExceeded", "cores 20/20")}, false, ready("Pending", "Waiting for quota: cores 20/20", "QuotaExceeded")},
		"asked for":     {[]metav1.Condition{yes(owner), no(server, "ServerBuilding", "")}, false, ready("Creating", "The virtual machine is being created", "ServerBuilding")},
		"maybe made":    {[]metav1.Condition{yes(owner), unknown(server, "Unavailable", "")}, false, ready("Creating", "The virtual machine is being created", "Unavailable")},
		"no host":       {[]metav1.Condition{yes(owner), yes(quota), no(server, "NoValidHost", "No host")}, false, ready("Pending", "No host", "NoValidHost")},
		"given up":      {[]metav1.Condition{no(quota, "QuotaExceeded", "full"), no(server, "QuotaExceeded", "full")}, false, ready("Pending", "Waiting for quota: full", "QuotaExceeded")},
		"in error":      {[]metav1.Condition{no(server, "ServerError", "Host down")}, false, ready("Failed", "Host down", "ServerError")},
		"gone":          {[]metav1.Condition{no(server, "ServerGone", "Gone"), yes(revoked)}, false, ready("Failed", "Gone", "ServerGone")},
		"stopped":       {[]metav1.Condition{no(server, "ServerStopped", ""), no(node, "NodeNotReady", "")}, false, ready("Stopped", "The virtual machine is stopped", "ServerStopped")},
		"active":        {[]metav1.Condition{active}, false, ready("Joining", "Waiting for the node to join", "Waiting")},
		"joining":       {[]metav1.Condition{active, no(node, "Waiting", "")}, false, ready("Joining", "Waiting for the node to join", "Waiting")},
		"join timeout":  {[]metav1.Condition{active, no(node, "Timeout", "Late")}, false, ready("Failed", "Late", "Timeout")},
		"running":       {[]metav1.Condition{active, yes(node), yes(revoked)}, false, ready("Running", "The node is running", "Ready")},
		"old trust":     {[]metav1.Condition{no(owner, "NoTrust", "Log in"), active, yes(node), yes(revoked)}, false, ready("Running", "The node is running", "Ready")},
		"just silent":   {[]metav1.Condition{active, no(node, "Waiting", ""), yes(revoked)}, false, ready("Running", "The node is running", "NodeNotReady")},
		"silent":        {[]metav1.Condition{active, no(node, "NodeNotReady", ""), yes(revoked)}, false, ready("NotReady", "The node is not responding", "NodeNotReady")},
		"strange":       {[]metav1.Condition{unknown(server, "ServerUnknown", ""), yes(node), yes(revoked)}, false, ready("Running", "The node is running", "Ready")},
		"strange early": {[]metav1.Condition{unknown(server, "ServerUnknown", "")}, false, ready("Creating", "The virtual machine is being created", "ServerUnknown")},
		"deleting":      {[]metav1.Condition{active, yes(node), yes(revoked)}, true, ready("Deleting", "The node is being deleted", "Deleting")},
		"draining":      {[]metav1.Condition{active, no(osnodev1.ConditionDrained, "Draining", "3 pods")}, true, ready("Deleting", "3 pods", "Deleting")},
		"going":         {[]metav1.Condition{no(server, "Deleting", "Machine goes"), yes(osnodev1.ConditionDrained)}, true, ready("Deleting", "Machine goes", "Deleting")},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			assert.Equal(t, tc.want, controller.Summarize(tc.conditions, tc.deleting))
		})
	}
}

func TestConsequences(t *testing.T) {
	t.Parallel()
	timers := controller.DefaultTimers()
	tests := map[cloud.Class]struct {
		condition string
		transient bool
		delays    []time.Duration // after one, two and twenty refusals
	}{
		cloud.QuotaExceeded:          {osnodev1.ConditionQuotaAvailable, false, []time.Duration{time.Minute, 2 * time.Minute, 10 * time.Minute}},
		cloud.NoValidHost:            {osnodev1.ConditionServerReady, false, []time.Duration{time.Minute, 2 * time.Minute, 15 * time.Minute}},
		cloud.ServerError:            {osnodev1.ConditionServerReady, false, []time.Duration{time.Minute, 2 * time.Minute, 15 * time.Minute}},
		cloud.InvalidSpec:            {osnodev1.ConditionSpecResolved, false, []time.Duration{10 * time.Minute, 10 * time.Minute, 10 * time.Minute}},
		cloud.AmbiguousReference:     {osnodev1.ConditionSpecResolved, false, []time.Duration{10 * time.Minute, 10 * time.Minute, 10 * time.Minute}},
		cloud.ProviderUnknown:        {osnodev1.ConditionSpecResolved, false, []time.Duration{10 * time.Minute, 10 * time.Minute, 10 * time.Minute}},
		cloud.UserDataTooLarge:       {osnodev1.ConditionSpecResolved, false, []time.Duration{10 * time.Minute, 10 * time.Minute, 10 * time.Minute}},
		cloud.NotFound:               {osnodev1.ConditionSpecResolved, false, []time.Duration{10 * time.Minute, 10 * time.Minute, 10 * time.Minute}},
		cloud.NoTrust:                {osnodev1.ConditionOwnerAuthorized, false, []time.Duration{5 * time.Minute, 5 * time.Minute, 5 * time.Minute}},
		cloud.OwnerAuthorizationLost: {osnodev1.ConditionOwnerAuthorized, false, []time.Duration{5 * time.Minute, 5 * time.Minute, 5 * time.Minute}},
		cloud.CredentialsInvalid:     {"", true, []time.Duration{time.Second, 2 * time.Second, 5 * time.Minute}},
		cloud.Throttled:              {"", true, []time.Duration{time.Second, 2 * time.Second, 5 * time.Minute}},
		cloud.Unavailable:            {"", true, []time.Duration{time.Second, 2 * time.Second, 5 * time.Minute}},
		cloud.Unclassified:           {"", true, []time.Duration{time.Second, 2 * time.Second, 5 * time.Minute}},
		"NewClass":                   {"", true, []time.Duration{time.Second, 2 * time.Second, 5 * time.Minute}},
	}
	for class, tc := range tests {
		t.Run(string(class), func(t *testing.T) {
			t.Parallel()
			got := controller.ConsequenceOf(class, timers)
			assert.Equal(t, tc.condition, got.Condition)
			assert.Equal(t, tc.transient, got.Transient)
			assert.Equal(t, tc.delays, []time.Duration{got.Delay(1), got.Delay(2), got.Delay(20)})
		})
	}
}

func TestFault(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		fault *cloud.Fault
		want  cloud.Class
	}{
		"no fault":     {nil, cloud.ServerError},
		"no host":      {&cloud.Fault{Code: 500, Message: "No valid host was found. "}, cloud.NoValidHost},
		"no host left": {&cloud.Fault{Code: 500, Message: "Exceeded maximum number of retries. Exhausted all hosts available"}, cloud.NoValidHost},
		"quota":        {&cloud.Fault{Code: 500, Message: "Quota exceeded for cores: Requested 4"}, cloud.QuotaExceeded},
		"maximum":      {&cloud.Fault{Code: 500, Message: "Maximum number of ports exceeded"}, cloud.QuotaExceeded},
		"code":         {&cloud.Fault{Code: 413, Message: "Over the limit"}, cloud.QuotaExceeded},
		"anything":     {&cloud.Fault{Code: 500, Message: "Build of instance aborted"}, cloud.ServerError},
		"says nothing": {&cloud.Fault{Code: 500}, cloud.ServerError},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			class, message := controller.Fault(tc.fault)
			assert.Equal(t, tc.want, class)
			assert.NotEmpty(t, message)
		})
	}
}

func TestTokenID(t *testing.T) {
	t.Parallel()
	uid := types.UID("0b3f2c1e-8a52-4a3f-b55c-2f9d7f3a9a01")
	assert.Equal(t, controller.TokenID(uid, 0), controller.TokenID(uid, 0))
	seen := map[string]bool{}
	for probe := range 100 {
		id := controller.TokenID(uid, probe)
		assert.Regexp(t, `^[a-z0-9]{6}$`, id)
		seen[id] = true
	}
	assert.Len(t, seen, 100)
}

func TestNewNamesAllThatIsMissing(t *testing.T) {
	t.Parallel()
	_, err := controller.New(controller.Config{})
	for _, what := range []string{"Client", "Reader", "Recorder", "Cloud", "UserData", "Cluster", "Namespace", "DefaultProvider"} {
		require.ErrorContains(t, err, what+" is missing")
	}
}
