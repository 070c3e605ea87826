// SPDX-License-Identifier: Apache-2.0

package podstatus_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	corev1 "k8s.io/api/core/v1"

	"github.com/cloudveneto/caas/provider/podstatus"
)

func TestRebase(t *testing.T) {
	t.Parallel()
	told := &corev1.PodStatus{
		Phase: corev1.PodRunning, PodIP: "10.0.0.1", ContainerStatuses: list{running("main", true)},
		NominatedNodeName: "old", Conditions: []corev1.PodCondition{
			{Type: corev1.PodReady, Status: corev1.ConditionTrue},
			{Type: corev1.PodInitialized, Status: corev1.ConditionTrue},
			{Type: corev1.PodScheduled, Status: corev1.ConditionTrue},
			{Type: "example.org/withdrawn", Status: corev1.ConditionTrue},
		},
	}
	now := &corev1.PodStatus{
		Phase: corev1.PodPending, ContainerStatuses: list{waiting("main", "x")}, NominatedNodeName: "new", Conditions: []corev1.PodCondition{
			{Type: corev1.PodReady, Status: corev1.ConditionFalse},
			{Type: "example.org/gate", Status: corev1.ConditionTrue},
			{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: "EvictionByEvictionAPI"},
		},
	}
	before := [2]*corev1.PodStatus{told.DeepCopy(), now.DeepCopy()}
	assert.Equal(t, corev1.PodStatus{
		Phase: corev1.PodRunning, PodIP: "10.0.0.1", ContainerStatuses: list{running("main", true)},
		NominatedNodeName: "new", Conditions: []corev1.PodCondition{
			{Type: corev1.PodReady, Status: corev1.ConditionTrue},
			{Type: "example.org/gate", Status: corev1.ConditionTrue},
			{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: "EvictionByEvictionAPI"},
			{Type: corev1.PodInitialized, Status: corev1.ConditionTrue},
			{Type: corev1.PodScheduled, Status: corev1.ConditionTrue},
		},
	}, podstatus.Rebase(told, now))
	assert.Equal(t, before, [2]*corev1.PodStatus{told, now}, "nothing of the input is changed")
}

func TestEqual(t *testing.T) {
	t.Parallel()
	ready := corev1.PodCondition{Type: corev1.PodReady, Status: corev1.ConditionTrue}
	begun := corev1.PodCondition{Type: corev1.PodInitialized, Status: corev1.ConditionTrue}
	unready := corev1.PodCondition{Type: corev1.PodReady, Status: corev1.ConditionFalse}
	status := func(conditions ...corev1.PodCondition) *corev1.PodStatus {
		return &corev1.PodStatus{Conditions: conditions}
	}
	assert.True(t, podstatus.Equal(status(ready, begun), status(begun, ready)))
	assert.True(t, podstatus.Equal(&corev1.PodStatus{ContainerStatuses: list{}}, status()))
	assert.False(t, podstatus.Equal(status(ready), status(unready)))
	assert.False(t, podstatus.Equal(status(ready), status(ready, begun)))
	assert.False(t, podstatus.Equal(status(), &corev1.PodStatus{Phase: corev1.PodRunning}))
}
