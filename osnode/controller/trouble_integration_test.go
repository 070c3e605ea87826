// SPDX-License-Identifier: Apache-2.0

//go:build integration

package controller_test

import (
	"context"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	osnodev1 "github.com/cloudveneto/caas/osnode/api/v1"
	"github.com/cloudveneto/caas/osnode/cloud"
	"github.com/cloudveneto/caas/osnode/controller"
	"github.com/cloudveneto/caas/osnode/controller/controllertest"
	"github.com/cloudveneto/caas/osnode/node"
)

// TestIntegrationCrashAfterCreate ends a process between the request for a machine and
// the writing of its id, with and without a cloud whose lists are late.
func TestIntegrationCrashAfterCreate(t *testing.T) {
	t.Parallel()
	for name, lag := range map[string]time.Duration{"fresh lists": 0, "late lists": 20 * time.Second} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.cloud.Change(func(s *controllertest.State) { s.Lag = lag })
			w.osn("osn-01")
			config := w.config()
			config.Client = interceptor.NewClient(w.client, interceptor.Funcs{
				SubResourcePatch: func(ctx context.Context, c client.Client, name string, o client.Object, p client.Patch, opts ...client.SubResourcePatchOption) error {
					if w.cloud.Calls("Create") > 0 {
						return errors.New("the process has ended")
					}
					return c.SubResource(name).Patch(ctx, o, p, opts...)
				},
			})
			doomed, err := controller.New(config)
			require.NoError(t, err)
			_, err = doomed.Reconcile(t.Context(), reconcile.Request{NamespacedName: w.key("osn-01")})
			require.ErrorContains(t, err, "the process has ended")
			osn := w.get("osn-01")
			require.Nil(t, osn.Status.Server)
			require.NotNil(t, osn.Status.Intent)
			assert.Equal(t, osnodev1.PhaseCreating, osn.Status.Phase)

			w.restart()
			nodeID := osn.Status.NodeID
			osn = w.reaches("osn-01", osnodev1.PhaseJoining)
			assert.Equal(t, nodeID, osn.Status.NodeID)
			assert.Equal(t, 1, w.cloud.Calls("Create"))
			assert.Equal(t, 1, w.told("ServerAdopted"))
			assert.Len(t, w.cloud.Servers(), 1)
		})
	}
}

func TestIntegrationAnswerLost(t *testing.T) {
	t.Parallel()
	for name, accepted := range map[string]bool{"machine made": true, "machine not made": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.cloud.Change(func(s *controllertest.State) {
				s.Accept, s.Refuse["Create"], s.Lag = accepted, []error{outage()}, 10*time.Second
			})
			w.osn("osn-01")
			osn := w.reaches("osn-01", osnodev1.PhaseJoining)
			assert.Len(t, w.cloud.Servers(), 1)
			want := 2
			if accepted {
				want = 1
			}
			assert.Equal(t, want, w.cloud.Calls("Create"))
			assert.EqualValues(t, want, osn.Status.Intent.Attempt)
		})
	}
}

func TestIntegrationDuplicatesAreReaped(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	osn := w.running("osn-01")
	kept := osn.Status.Server.ID
	mine := w.cloud.Servers()[0].Metadata
	duplicate := w.cloud.Add(cloud.Server{Name: "osn-01", ProjectID: w.project, Metadata: mine})
	forged := w.cloud.Add(cloud.Server{Name: "osn-01", ProjectID: w.project, Metadata: map[string]string{
		osnodev1.MetaUID: string(osn.UID), osnodev1.MetaCluster: "another-cluster",
	}})
	foreign := w.cloud.Add(cloud.Server{Name: "osn-01", ProjectID: "another-project", Metadata: mine})
	stranger := w.cloud.Add(cloud.Server{Name: "osn-01", ProjectID: w.project})
	w.pass("osn-01")
	var left []string
	for _, s := range w.cloud.Servers() {
		left = append(left, s.ID)
	}
	assert.ElementsMatch(t, []string{kept, forged, foreign, stranger}, left)
	assert.NotContains(t, left, duplicate)
	assert.Equal(t, 1, w.told("DuplicateServer"))
	assert.Equal(t, osnodev1.PhaseRunning, w.get("osn-01").Status.Phase)
}

// TestIntegrationDuplicateBeforeJoining has two machines with the same token, of which the wrong one may have used it.
func TestIntegrationDuplicateBeforeJoining(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.osn("osn-01")
	osn := w.reaches("osn-01", osnodev1.PhaseJoining)
	token := w.tokens(osn.UID)[0].Data["token-secret"]
	duplicate := w.cloud.Add(cloud.Server{Name: "osn-01", ProjectID: w.project, Metadata: w.cloud.Servers()[0].Metadata})
	w.drive("osn-01", func() bool { return w.get("osn-01").Status.NodeID != osn.Status.NodeID })
	now := w.reaches("osn-01", osnodev1.PhaseJoining)
	servers := w.cloud.Servers()
	require.Len(t, servers, 1)
	assert.NotContains(t, []string{osn.Status.Server.ID, duplicate}, servers[0].ID)
	assert.Equal(t, servers[0].ID, now.Status.Server.ID)
	assert.NotEqual(t, token, w.tokens(osn.UID)[0].Data["token-secret"])
	assert.Equal(t, 1, w.told("DuplicateServer"))
	assert.Equal(t, 1, w.told("ServerRecreating"))
}

func TestIntegrationErrorIsRecreated(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ fault, reason, description string }{
		"no host": {"No valid host was found. There are not enough hosts available.", "NoValidHost", "No valid host was found. There are not enough hosts available."},
		"quota":   {"Quota exceeded for cores", "QuotaExceeded", "Waiting for quota: Quota exceeded for cores"},
		"other":   {"Build of instance aborted", "ServerError", "Build of instance aborted"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			fault := cloud.Fault{Code: 500, Message: tc.fault}
			w.cloud.Change(func(s *controllertest.State) { s.Faults, s.DeleteTime = []cloud.Fault{fault, fault}, 3*time.Second })
			w.osn("osn-01")
			osn := w.reaches("osn-01", osnodev1.PhasePending)
			assert.Equal(t, tc.description, osn.Status.Description)
			assert.Equal(t, tc.reason, osn.Status.LastError.Code)
			nodeID, began := osn.Status.NodeID, w.now()
			osn = w.reaches("osn-01", osnodev1.PhaseJoining)
			assert.Equal(t, nodeID, osn.Status.NodeID)
			assert.Equal(t, 3, w.cloud.Calls("Create"))
			assert.EqualValues(t, 3, osn.Status.Intent.Attempt)
			assert.Greater(t, w.now().Sub(began), 2*time.Minute, "one and two minutes of back-off")
			assert.Equal(t, 1, w.told(tc.reason))
			assert.Len(t, w.cloud.Servers(), 1)
		})
	}
}

// TestIntegrationCondemnedBeforeDeleted: that a machine is given up is written before it is deleted, or a process that
// ends in between leaves one that somebody seems to have deleted.
func TestIntegrationCondemnedBeforeDeleted(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.cloud.Change(func(s *controllertest.State) {
		s.Faults = []cloud.Fault{{Code: 500, Message: "No valid host was found."}}
	})
	w.osn("osn-01")
	w.drive("osn-01", func() bool {
		now := w.get("osn-01").Status
		ready := meta.FindStatusCondition(now.Conditions, osnodev1.ConditionServerReady)
		return ready != nil && ready.Reason == osnodev1.ReasonNoValidHost
	})
	assert.Zero(t, w.cloud.Calls("Delete"))
	assert.NotNil(t, w.get("osn-01").Status.Server)
	w.restart()
	w.drive("osn-01", func() bool { return w.cloud.Calls("Delete") == 1 })
	w.restart()
	w.reaches("osn-01", osnodev1.PhaseJoining)
	assert.Len(t, w.cloud.Servers(), 1)
	assert.Equal(t, 2, w.cloud.Calls("Create"))
}

func TestIntegrationErrorForGood(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.cloud.Change(func(s *controllertest.State) {
		for range 5 {
			s.Faults = append(s.Faults, cloud.Fault{Message: "image is broken"})
		}
	})
	w.osn("osn-01")
	osn := w.reaches("osn-01", osnodev1.PhaseFailed)
	assert.Equal(t, "image is broken", osn.Status.Description)
	assert.Empty(t, w.cloud.Servers())
	w.sleep(24 * time.Hour)
	w.pass("osn-01")
	assert.Equal(t, 5, w.cloud.Calls("Create"))
	w.annotate("osn-01", osnodev1.AnnotationRetry, "1")
	osn = w.reaches("osn-01", osnodev1.PhaseJoining)
	assert.NotContains(t, osn.Annotations, osnodev1.AnnotationRetry)
}

func TestIntegrationBuildTimeout(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.cloud.Change(func(s *controllertest.State) { s.BuildTime = time.Hour })
	w.osn("osn-01")
	w.reaches("osn-01", osnodev1.PhaseCreating)
	osn := w.reaches("osn-01", osnodev1.PhasePending)
	assert.Equal(t, "The virtual machine was not ready after 10m0s", osn.Status.Description)
	w.cloud.Change(func(s *controllertest.State) { s.BuildTime = 0 })
	w.reaches("osn-01", osnodev1.PhaseJoining)
	assert.Len(t, w.cloud.Servers(), 1)
}

func TestIntegrationStoppedAndStarted(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	osn := w.running("osn-01")
	id := osn.Status.Server.ID
	w.cloud.SetStatus(id, cloud.StatusShutoff, nil)
	w.heartbeat("osn-01", corev1.ConditionUnknown)
	osn = w.reaches("osn-01", osnodev1.PhaseStopped)
	assert.Equal(t, "The virtual machine is stopped", osn.Status.Description)
	assert.Equal(t, "SHUTOFF", osn.Status.Server.Status)
	w.sleep(time.Hour)
	w.pass("osn-01")
	assert.Equal(t, osnodev1.PhaseStopped, w.get("osn-01").Status.Phase)
	w.cloud.SetStatus(id, cloud.StatusActive, nil)
	w.heartbeat("osn-01", corev1.ConditionTrue)
	w.reaches("osn-01", osnodev1.PhaseRunning)
	assert.Equal(t, 1, w.cloud.Calls("Create"))

	w.cloud.SetStatus(id, cloud.StatusError, &cloud.Fault{Message: "host is down"})
	w.heartbeat("osn-01", corev1.ConditionUnknown)
	osn = w.reaches("osn-01", osnodev1.PhaseFailed)
	assert.Equal(t, "host is down", osn.Status.Description)
	assert.Len(t, w.cloud.Servers(), 1, "a machine that has run is not deleted")
	w.cloud.SetStatus(id, cloud.StatusActive, nil)
	w.heartbeat("osn-01", corev1.ConditionTrue)
	w.reaches("osn-01", osnodev1.PhaseRunning)
	w.cloud.SetStatus(id, "NEW_IN_NOVA", nil)
	w.pass("osn-01")
	assert.Equal(t, osnodev1.PhaseRunning, w.get("osn-01").Status.Phase)
}

func TestIntegrationNotReady(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.running("osn-01")
	w.heartbeat("osn-01", corev1.ConditionUnknown)
	w.pass("osn-01")
	osn := w.get("osn-01")
	assert.Equal(t, osnodev1.PhaseRunning, osn.Status.Phase, "for the first two minutes")
	assert.False(t, meta.IsStatusConditionTrue(osn.Status.Conditions, osnodev1.ConditionReady))
	osn = w.reaches("osn-01", osnodev1.PhaseNotReady)
	assert.Equal(t, "The node is not responding", osn.Status.Description)
	w.heartbeat("osn-01", corev1.ConditionTrue)
	w.reaches("osn-01", osnodev1.PhaseRunning)
}

func TestIntegrationJoinTimeout(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.osn("osn-01")
	w.reaches("osn-01", osnodev1.PhaseJoining)
	osn := w.reaches("osn-01", osnodev1.PhaseFailed)
	assert.Contains(t, osn.Status.Description, "has not joined the cluster 15m0s after")
	assert.Len(t, w.cloud.Servers(), 1, "its owner may want to look at it")
	old := osn.Status.NodeID
	w.annotate("osn-01", osnodev1.AnnotationRetry, "now")
	osn = w.reaches("osn-01", osnodev1.PhaseJoining)
	assert.NotEqual(t, old, osn.Status.NodeID, "another machine is another node")
	assert.Len(t, w.cloud.Servers(), 1)
	assert.Len(t, w.tokens(osn.UID), 1)
}

func TestIntegrationServerGone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	osn := w.running("osn-01")
	w.sleep(time.Minute)
	w.cloud.Vanish(osn.Status.Server.ID)
	w.pass("osn-01")
	assert.Equal(t, osnodev1.PhaseRunning, w.get("osn-01").Status.Phase, "a node that answers is believed")
	require.NotNil(t, w.node("osn-01"))
	w.heartbeat("osn-01", corev1.ConditionUnknown)
	osn = w.reaches("osn-01", osnodev1.PhaseFailed)
	assert.Equal(t, "The virtual machine is gone: it was deleted in OpenStack", osn.Status.Description)
	assert.Nil(t, w.node("osn-01"))
	assert.Equal(t, 1, w.told("ServerGone"))
	w.pass("osn-01")
	assert.Equal(t, 1, w.told("ServerGone"))
	assert.Equal(t, 1, w.cloud.Calls("Create"))

	osn = w.get("osn-01")
	osn.Spec.RepairPolicy = osnodev1.RepairRecreate
	require.NoError(t, w.client.Update(t.Context(), osn))
	again := w.reaches("osn-01", osnodev1.PhaseJoining)
	assert.NotEqual(t, osn.Status.NodeID, again.Status.NodeID)
	w.join("osn-01")
	w.heartbeat("osn-01", corev1.ConditionTrue)
	w.reaches("osn-01", osnodev1.PhaseRunning)
}

func TestIntegrationNodeDeletedByMistake(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.running("osn-01")
	require.NoError(t, w.client.Delete(t.Context(), w.node("osn-01")))
	w.pass("osn-01")
	made := w.node("osn-01")
	require.NotNil(t, made, "its kubelet may not make it again")
	assert.True(t, node.Waiting(made))
	w.heartbeat("osn-01", corev1.ConditionTrue)
	w.pass("osn-01")
	assert.False(t, node.Waiting(w.node("osn-01")))
}

// TestIntegrationOutage has Keystone down for ten minutes, at every stage of a node.
func TestIntegrationOutage(t *testing.T) {
	t.Parallel()
	for _, class := range []cloud.Class{cloud.Unavailable, cloud.Throttled, cloud.CredentialsInvalid} {
		t.Run(string(class), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.cloud.Change(func(s *controllertest.State) { s.BuildTime = 5 * time.Minute })
			w.osn("creating")
			w.pass("creating")
			w.cloud.Change(func(s *controllertest.State) { s.BuildTime = 0 })
			w.running("running")
			w.cloud.Change(func(s *controllertest.State) {
				s.BuildTime, s.Outage = 5*time.Minute, &cloud.Error{Class: class, Message: "no answer"}
			})
			w.osn("new")
			servers := len(w.cloud.Servers())
			for end := w.now().Add(10 * time.Minute); w.now().Before(end); w.sleep(20 * time.Second) {
				for name, phase := range map[string]osnodev1.Phase{
					"new": osnodev1.PhasePending, "creating": osnodev1.PhaseCreating, "running": osnodev1.PhaseRunning,
				} {
					w.pass(name)
					require.Equal(t, phase, w.get(name).Status.Phase, name)
				}
			}
			assert.Len(t, w.cloud.Servers(), servers)
			assert.Zero(t, w.cloud.Calls("Delete"))
			assert.Equal(t, 3, w.told("OpenStackUnreachable"), "once for each node")
			w.cloud.Change(func(s *controllertest.State) { s.BuildTime, s.Outage = 0, nil })
			w.reaches("new", osnodev1.PhaseJoining)
			w.reaches("creating", osnodev1.PhaseJoining)
			assert.Nil(t, w.get("creating").Status.LastError)
		})
	}
}

func TestIntegrationAbandon(t *testing.T) {
	t.Parallel()
	tests := map[string]func(*controllertest.State){
		"OpenStack does not answer":   func(s *controllertest.State) { s.Outage = outage() },
		"the machine does not go":     func(s *controllertest.State) { s.Stubborn = true },
		"the service has lost access": func(s *controllertest.State) { s.Outage = &cloud.Error{Class: cloud.NoTrust, Message: "no role"} },
	}
	for name, change := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			osn := w.running("osn-01")
			w.cloud.Change(change)
			w.delete("osn-01")
			for range 10 {
				w.sleep(max(w.pass("osn-01"), 20*time.Second))
			}
			require.False(t, w.gone("osn-01"), "it stays as long as its machine may be there")
			w.annotate("osn-01", osnodev1.AnnotationAbandon, "true")
			w.drive("osn-01", func() bool { return w.gone("osn-01") })
			assert.Equal(t, 1, w.told("Abandoned"))
			record := &corev1.ConfigMap{}
			require.NoError(t, w.client.Get(t.Context(), types.NamespacedName{Namespace: w.namespace, Name: controller.AbandonedConfigMap}, record))
			var left map[string]string
			require.NoError(t, json.Unmarshal([]byte(record.Data[string(osn.UID)]), &left))
			assert.Equal(t, osn.Status.Server.ID, left["server"])
			assert.Equal(t, w.project, left["projectID"])
		})
	}
}
