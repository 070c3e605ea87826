// SPDX-License-Identifier: Apache-2.0

package podstatus_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"

	"github.com/cloudveneto/caas/internal/interlink"
	"github.com/cloudveneto/caas/provider/podstatus"
)

func withEphemeral(names ...string) *corev1.Pod {
	p := pod(corev1.RestartPolicyNever, nil, "a")
	for _, name := range names {
		p.Spec.EphemeralContainers = append(p.Spec.EphemeralContainers, corev1.EphemeralContainer{
			EphemeralContainerCommon: corev1.EphemeralContainerCommon{Name: name, Image: "i"},
		})
	}
	return p
}

func TestEphemeralContainers(t *testing.T) {
	t.Parallel()
	p := withEphemeral("asked", "runs", "done", "no")
	told := interlink.PodStatus{Name: "p", Containers: list{running("a", true)}, Detail: &interlink.PodDetail{
		Phase: corev1.PodRunning, EphemeralContainers: list{running("runs", false), ended("done", 4), running("injected", false)},
	}}
	status := podstatus.From(podstatus.Input{
		Pod: p, Previous: p.Status, Now: at(10), Wire: told, Refused: map[string]string{"no": "never"},
	})
	got := status.EphemeralContainerStatuses
	require.Len(t, got, 4, "one for each of the spec, in its order, and no other")
	assert.Equal(t, "ContainerCreating", got[0].State.Waiting.Reason)
	assert.NotNil(t, got[1].State.Running)
	assert.Equal(t, int32(4), got[2].State.Terminated.ExitCode)
	assert.Equal(t, "Refused", got[3].State.Terminated.Reason)
	assert.Equal(t, "never", got[3].State.Terminated.Message)
	assert.Equal(t, corev1.PodRunning, status.Phase)
	assert.Equal(t, corev1.ConditionTrue, conditionOf(t, status, corev1.PodReady).Status, "they do not count")

	again := podstatus.From(podstatus.Input{Pod: p, Previous: status, Now: at(20), Wire: told})
	assert.Equal(t, status.EphemeralContainerStatuses, again.EphemeralContainerStatuses, "a refusal stays, also after a restart")

	failed := podstatus.Failed(p, status, at(30), podstatus.Outcome{Reason: "Gone", ExitCode: 137})
	assert.Equal(t, int32(137), failed.EphemeralContainerStatuses[1].State.Terminated.ExitCode)
	assert.Equal(t, int32(4), failed.EphemeralContainerStatuses[2].State.Terminated.ExitCode)
	assert.NotNil(t, failed.EphemeralContainerStatuses[0].State.Waiting, "what never ran has no exit code")
}

func TestDisruptionIsAReason(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		detail  interlink.PodDetail
		reason  string
		message string
	}{
		"evicted by the API": {
			detail: failedWith("EvictionByEvictionAPI", "moved"), reason: "Evicted", message: "moved",
		},
		"preempted": {detail: failedWith("PreemptionByScheduler", "m"), reason: "PreemptionByScheduler", message: "m"},
		"node lost": {detail: failedWith("DeletionByTaintManager", "m"), reason: "DeletionByTaintManager", message: "m"},
		"the kubelet's own words stay": {
			detail: func() interlink.PodDetail {
				d := failedWith("TerminationByKubelet", "m")
				d.Reason, d.Message = "Evicted", "low on memory"
				return d
			}(), reason: "Evicted", message: "low on memory",
		},
		"not disrupted": {detail: interlink.PodDetail{Phase: corev1.PodFailed}},
		"disrupted, but done": {detail: func() interlink.PodDetail {
			d := failedWith("EvictionByEvictionAPI", "m")
			d.Phase = corev1.PodSucceeded
			return d
		}()},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := pod(corev1.RestartPolicyNever, nil, "a")
			status := podstatus.From(podstatus.Input{Pod: p, Previous: p.Status, Now: at(1), Wire: interlink.PodStatus{
				Name: "p", Containers: list{ended("a", 143)}, Detail: &c.detail,
			}})
			assert.Equal(t, c.reason, status.Reason)
			assert.Equal(t, c.message, status.Message)
			if len(c.detail.Conditions) > 0 {
				assert.Equal(t, corev1.ConditionTrue, conditionOf(t, status, corev1.DisruptionTarget).Status)
			}
		})
	}
}

func failedWith(reason, message string) interlink.PodDetail {
	return interlink.PodDetail{Phase: corev1.PodFailed, Conditions: []corev1.PodCondition{
		{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: reason, Message: message},
	}}
}

func TestUnreachableNodeIsNoFailure(t *testing.T) {
	t.Parallel()
	p := pod(corev1.RestartPolicyNever, nil, "a")
	status := podstatus.From(podstatus.Input{Pod: p, Previous: p.Status, Now: at(10), Wire: interlink.PodStatus{
		Name: "p", Containers: list{running("a", true)}, Detail: &interlink.PodDetail{
			Phase: corev1.PodRunning, Deleting: true, Conditions: []corev1.PodCondition{
				{Type: corev1.PodReady, Status: corev1.ConditionFalse, Reason: "NodeNotReady", LastTransitionTime: at(5)},
				{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: "DeletionByTaintManager", LastTransitionTime: at(6)},
			},
		},
	}})
	assert.Equal(t, corev1.PodRunning, status.Phase)
	assert.NotNil(t, status.ContainerStatuses[0].State.Running)
	assert.Equal(t, corev1.ConditionFalse, conditionOf(t, status, corev1.PodReady).Status)
	assert.Equal(t, corev1.ConditionTrue, conditionOf(t, status, corev1.DisruptionTarget).Status)
}
