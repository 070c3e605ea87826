// SPDX-License-Identifier: Apache-2.0

//go:build integration

package controller_test

import (
	"maps"
	"testing"

	"github.com/stretchr/testify/assert"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"

	osnodev1 "github.com/cloudveneto/caas/osnode/api/v1"
	"github.com/cloudveneto/caas/osnode/cloud"
)

// TestIntegrationDoubleIsWrittenBeforeDeleted: a process that ends in between leaves one machine and a token that the
// other has had, and the next one must know.
func TestIntegrationDoubleIsWrittenBeforeDeleted(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.osn("osn-01")
	w.reaches("osn-01", osnodev1.PhaseJoining)
	w.cloud.Add(cloud.Server{Name: "osn-01", ProjectID: w.project, Metadata: w.cloud.Servers()[0].Metadata})
	w.drive("osn-01", func() bool {
		ready := meta.FindStatusCondition(w.get("osn-01").Status.Conditions, osnodev1.ConditionServerReady)
		return ready != nil && ready.Reason == osnodev1.ReasonWaiting
	})
	assert.Zero(t, w.cloud.Calls("Delete"))
	assert.Len(t, w.cloud.Servers(), 2)
}

// TestIntegrationOldDoubleReplacesNobody: one that was made for an earlier node id has another token. It goes, and stays
// in error, again and again; that is nothing to the machine of today.
func TestIntegrationOldDoubleReplacesNobody(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.osn("osn-01")
	osn := w.reaches("osn-01", osnodev1.PhaseJoining)
	marks := maps.Clone(w.cloud.Servers()[0].Metadata)
	marks[osnodev1.MetaNodeID] = "osn-01-1600000000000"
	w.cloud.Add(cloud.Server{Name: "osn-01", ProjectID: w.project, Metadata: marks})
	w.drive("osn-01", func() bool { return w.told("DuplicateServer") == 1 })
	now := w.get("osn-01")
	assert.Equal(t, osn.Status.NodeID, now.Status.NodeID)
	assert.Equal(t, osn.Status.Server.ID, now.Status.Server.ID)
	assert.Zero(t, w.told("ServerRecreating"))
	assert.Len(t, w.cloud.Servers(), 1)
	w.join("osn-01")
	w.heartbeat("osn-01", corev1.ConditionTrue)
	w.reaches("osn-01", osnodev1.PhaseRunning)
}
