// SPDX-License-Identifier: Apache-2.0

//go:build integration

package controller_test

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"

	osnodev1 "github.com/cloudveneto/caas/osnode/api/v1"
	"github.com/cloudveneto/caas/osnode/cloud"
	"github.com/cloudveneto/caas/osnode/controller/controllertest"
	"github.com/cloudveneto/caas/osnode/node"
)

func TestIntegrationFromNothingToRunningAndBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.cloud.Change(func(s *controllertest.State) { s.BuildTime, s.DeleteTime = 20*time.Second, 7*time.Second })
	created := w.osn("osn-01")
	w.pass("osn-01")

	osn := w.get("osn-01")
	assert.Equal(t, []string{osnodev1.Finalizer}, osn.Finalizers)
	assert.EqualValues(t, 2, osn.Generation, "the defaults are written once")
	assert.Equal(t, osnodev1.OpenStackNodeSpec{
		AvailabilityZone: "nova", Flavor: controllertest.Flavor, Image: &osnodev1.ImageReference{ID: new(""), Name: controllertest.Image},
		KeyPair: "Lisa", Policy: osnodev1.PolicyPrivate, Provider: "cloudveneto", Region: "regionOne",
		SecurityGroups: []string{"K8S"}, UserData: new(""),
	}, osn.Spec)
	millis, err := strconv.ParseInt(strings.TrimPrefix(osn.Status.NodeID, "osn-01-"), 10, 64)
	require.NoError(t, err)
	assert.WithinDuration(t, created.CreationTimestamp.Time, time.UnixMilli(millis), 5*time.Second)
	assert.Equal(t, osnodev1.PhaseCreating, osn.Status.Phase)
	assert.Equal(t, "The virtual machine is being created", osn.Status.Description)
	assert.Equal(t, "CloudVeneto", osn.Status.Provider)
	assert.Equal(t, "BUILD", osn.Status.Server.Status)
	require.Len(t, w.cloud.Servers(), 1)
	server := w.cloud.Servers()[0]
	assert.Equal(t, "osn-01", server.Name)
	assert.Equal(t, owner, server.UserID)
	assert.Equal(t, []string{"osn-" + clusterName}, server.Tags)
	assert.Equal(t, map[string]string{
		osnodev1.MetaUID: string(osn.UID), osnodev1.MetaCluster: clusterName, osnodev1.MetaNamespace: w.namespace,
		osnodev1.MetaName: "osn-01", osnodev1.MetaNodeID: osn.Status.NodeID, osnodev1.MetaOwner: owner,
	}, server.Metadata)
	tokens := w.tokens(osn.UID)
	require.Len(t, tokens, 1)
	assert.Equal(t, tokens[0].Name, osn.Labels[osnodev1.LabelSecret])
	assert.Equal(t, []string{osn.Status.NodeID + " " + string(tokens[0].Data["token-id"]) + "." + string(tokens[0].Data["token-secret"])}, w.data)

	osn = w.reaches("osn-01", osnodev1.PhaseJoining)
	assert.Equal(t, "Waiting for the node to join", osn.Status.Description)
	assert.Equal(t, "openstack://regionOne/"+server.ID, osn.Status.ProviderID)
	assert.NotEmpty(t, osn.Status.Server.IPv4)
	assert.Equal(t, []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: osn.Status.Server.IPv4}}, osn.Status.Addresses)

	w.join("osn-01")
	w.pass("osn-01")
	assert.True(t, meta.IsStatusConditionTrue(w.get("osn-01").Status.Conditions, osnodev1.ConditionNodeRegistered))
	assert.True(t, node.Waiting(w.node("osn-01")))
	w.heartbeat("osn-01", corev1.ConditionTrue)
	osn = w.reaches("osn-01", osnodev1.PhaseRunning)
	assert.Equal(t, "The node is running", osn.Status.Description)
	assert.True(t, meta.IsStatusConditionTrue(osn.Status.Conditions, osnodev1.ConditionReady))
	assert.NotNil(t, osn.Status.Created)
	assert.Empty(t, w.tokens(osn.UID), "the token is revoked")
	assert.NotEmpty(t, osn.Labels[osnodev1.LabelSecret], "its name stays")
	for _, taint := range w.node("osn-01").Spec.Taints {
		assert.NotEqual(t, osnodev1.TaintNotJoined, taint.Key)
	}
	for _, reason := range []string{"ServerCreated", "NodeJoined", "NodeReady"} {
		assert.Equal(t, 1, w.told(reason), reason)
	}
	version := osn.ResourceVersion
	for range 3 {
		w.sleep(w.pass("osn-01"))
	}
	assert.Equal(t, version, w.get("osn-01").ResourceVersion, "nothing is written when nothing changes")
	assert.Equal(t, 1, w.cloud.Calls("Create"))

	w.delete("osn-01")
	uid := osn.UID
	w.pass("osn-01")
	osn = w.get("osn-01")
	assert.Equal(t, osnodev1.PhaseDeleting, osn.Status.Phase)
	assert.Equal(t, "The virtual machine is being deleted", osn.Status.Description)
	w.drive("osn-01", func() bool { return w.gone("osn-01") })
	assert.Empty(t, w.cloud.Servers())
	w.cloud.Change(func(s *controllertest.State) { assert.Equal(t, []string{string(uid)}, s.Swept) })
	for _, reason := range []string{"ServerDeleting", "ServerDeleted"} {
		assert.Equal(t, 1, w.told(reason), reason)
	}
}

func TestIntegrationQuotaFullThenFreed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.cloud.Change(func(s *controllertest.State) {
		s.Limits[w.project] = cloud.Quota{Cores: cloud.Amount{Limit: 2}, Instances: cloud.Amount{Limit: -1}, MemoryMiB: cloud.Amount{Limit: -1}}
	})
	w.running("first")
	w.osn("second")
	osn := w.reaches("second", osnodev1.PhasePending)
	assert.Equal(t, "Waiting for quota: cores 2/2 used, 2 needed", osn.Status.Description)
	assert.Equal(t, 1, w.cloud.Calls("Create"), "no request that would be refused")
	nodeID := osn.Status.NodeID
	for range 4 {
		w.sleep(w.pass("second"))
	}
	assert.Equal(t, 1, w.told("QuotaExceeded"), "told once, not each time")
	assert.Equal(t, nodeID, w.get("second").Status.NodeID)
	w.delete("first")
	w.drive("first", func() bool { return w.gone("first") })
	osn = w.reaches("second", osnodev1.PhaseJoining)
	assert.Equal(t, nodeID, osn.Status.NodeID)
	assert.Nil(t, osn.Status.LastError)
}

func TestIntegrationNoTrustThenTrusted(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.cloud.Change(func(s *controllertest.State) { s.Trusting = map[string]bool{} })
	w.osn("osn-01")
	osn := w.reaches("osn-01", osnodev1.PhasePending)
	assert.Equal(t, "Run kubectl-openstack login to authorise node creation", osn.Status.Description)
	assert.Zero(t, w.cloud.Calls("Create"))
	w.cloud.Change(func(s *controllertest.State) { s.Trusting[owner] = true })
	w.reaches("osn-01", osnodev1.PhaseJoining)
}

func TestIntegrationOwnerUnknown(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*osnodev1.OpenStackNode){
		"no labels":     func(osn *osnodev1.OpenStackNode) { osn.Labels = nil },
		"other project": func(osn *osnodev1.OpenStackNode) { osn.Labels[osnodev1.LabelProjectID] = "somebody-elses" },
		"no user":       func(osn *osnodev1.OpenStackNode) { delete(osn.Labels, osnodev1.LabelUserID) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.osn("osn-01", change)
			for range 3 {
				w.sleep(w.pass("osn-01"))
			}
			osn := w.get("osn-01")
			assert.Equal(t, osnodev1.PhasePending, osn.Status.Phase)
			assert.Equal(t, osnodev1.ReasonOwnerUnknown, meta.FindStatusCondition(osn.Status.Conditions, osnodev1.ConditionOwnerAuthorized).Reason)
			assert.Equal(t, 1, w.told("OwnerUnknown"))
			assert.Zero(t, w.cloud.Calls("Create"))
			w.delete("osn-01")
			w.drive("osn-01", func() bool { return w.gone("osn-01") })
		})
	}
}

func TestIntegrationInvalidSpecIsFailedUntilMended(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.osn("osn-01", func(osn *osnodev1.OpenStackNode) { osn.Spec.Flavor = "unheard-of" })
	osn := w.reaches("osn-01", osnodev1.PhaseFailed)
	assert.Equal(t, "There is no flavor unheard-of", osn.Status.Description)
	assert.Equal(t, "InvalidSpec", osn.Status.LastError.Code)
	osn.Spec.Flavor = controllertest.Flavor
	require.NoError(t, w.client.Update(t.Context(), osn))
	w.pass("osn-01")
	assert.Equal(t, osnodev1.PhaseCreating, w.get("osn-01").Status.Phase, "a changed spec is tried at once")
}

func TestIntegrationUnreadableUserData(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.osn("osn-01", func(osn *osnodev1.OpenStackNode) { osn.Spec.UserData = new("unreadable") })
	osn := w.reaches("osn-01", osnodev1.PhaseFailed)
	assert.Equal(t, "user data: neither a script nor a cloud-config", osn.Status.Description)
	assert.Zero(t, w.cloud.Calls("Create"))
}

func TestIntegrationProviderUnknown(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.osn("osn-01", func(osn *osnodev1.OpenStackNode) { osn.Spec.Provider = "nowhere" })
	osn := w.reaches("osn-01", osnodev1.PhaseFailed)
	assert.Equal(t, "There is no provider nowhere", osn.Status.Description)
	w.delete("osn-01")
	w.drive("osn-01", func() bool { return w.gone("osn-01") })
}

func TestIntegrationIdleAndTTL(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		change func(*osnodev1.OpenStackNode)
		reason string
	}{
		"ttl":  {func(osn *osnodev1.OpenStackNode) { osn.Spec.TTL = duration(time.Hour) }, "Expired"},
		"idle": {func(osn *osnodev1.OpenStackNode) { osn.Spec.IdleTTL = duration(10 * time.Minute) }, "Idle"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.running("osn-01", tc.change)
			w.annotate("osn-01", osnodev1.AnnotationDoNotDisrupt, "true")
			w.sleep(2 * time.Hour)
			for range 3 {
				w.sleep(w.pass("osn-01"))
			}
			assert.True(t, w.get("osn-01").DeletionTimestamp.IsZero())
			w.annotate("osn-01", osnodev1.AnnotationDoNotDisrupt, "false")
			pod := w.pod("job", "osn-01")
			if tc.reason == "Idle" {
				for range 30 {
					w.sleep(w.pass("osn-01"))
				}
				assert.True(t, w.get("osn-01").DeletionTimestamp.IsZero(), "a node with a pod is not idle")
			}
			w.kill(pod)
			w.drive("osn-01", func() bool { return w.gone("osn-01") })
			assert.Equal(t, 1, w.told(tc.reason))
			assert.Empty(t, w.cloud.Servers())
		})
	}
}
