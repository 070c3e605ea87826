// SPDX-License-Identifier: Apache-2.0

package soak_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cloudveneto/caas/internal/lab/soak"
)

// pair is a pod at both ends, and its ConfigMap.
func pair() *soak.Seen {
	status := corev1.PodStatus{
		Phase: corev1.PodRunning, PodIP: "10.0.0.1",
		Conditions:        []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}},
		ContainerStatuses: []corev1.ContainerStatus{{Name: "main", Ready: true}},
	}
	spec := corev1.PodSpec{NodeName: "virtual", Containers: []corev1.Container{{Name: "main", Image: "one"}}}
	spec.Volumes = []corev1.Volume{{Name: "config", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{
		LocalObjectReference: corev1.LocalObjectReference{Name: "config"},
	}}}}
	near := corev1.Pod{ObjectMeta: metav1.ObjectMeta{
		Name: "pod", UID: "near", Labels: map[string]string{"soak.test/turn": "3"}, Annotations: map[string]string{"soak.test/turn": "3"},
	}, Spec: spec, Status: status}
	far := corev1.Pod{ObjectMeta: metav1.ObjectMeta{
		Name: "pod-remote", UID: "far", Annotations: map[string]string{"soak.test/turn": "3"},
		Labels: map[string]string{"offload.infn.it/uid": "near", "labels.offload.infn.it/soak.test_turn": "3"},
	}, Spec: *spec.DeepCopy(), Status: *status.DeepCopy()}
	return &soak.Seen{
		NodeReady: true, Origin: []corev1.Pod{near}, Remote: []corev1.Pod{far},
		OriginObjects: []soak.Object{{ObjectMeta: metav1.ObjectMeta{Name: "config"}, Kind: "ConfigMap", Data: map[string]string{"turn": "1"}}},
		RemoteObjects: []soak.Object{{ObjectMeta: metav1.ObjectMeta{
			Name: "config-remote", Annotations: map[string]string{"offload.infn.it/name": "config"},
			OwnerReferences: []metav1.OwnerReference{{UID: "far"}},
		}, Kind: "ConfigMap", Data: map[string]string{"turn": "1"}}},
	}
}

func TestDifferences(t *testing.T) {
	t.Parallel()
	now := metav1.Now()
	tests := map[string]struct {
		change func(*soak.Seen)
		// want is part of what is said; nothing when both agree.
		want string
	}{
		"equal":        {func(*soak.Seen) {}, ""},
		"the node":     {func(s *soak.Seen) { s.NodeReady = false }, "node is not ready"},
		"lost":         {func(s *soak.Seen) { s.Remote, s.RemoteObjects = nil, nil }, "has 0 at the target"},
		"doubled":      {func(s *soak.Seen) { s.Remote = append(s.Remote, *s.Remote[0].DeepCopy()) }, "has 2 at the target"},
		"orphan":       {func(s *soak.Seen) { s.Origin = nil }, "is an orphan"},
		"no node":      {func(s *soak.Seen) { s.Origin[0].Spec.NodeName = "" }, "has no node"},
		"ending here":  {func(s *soak.Seen) { s.Origin[0].DeletionTimestamp = &now }, "still ending at the origin"},
		"ending there": {func(s *soak.Seen) { s.Remote[0].DeletionTimestamp = &now }, "ending at the target"},
		"waits": {func(s *soak.Seen) {
			s.Origin[0].Status.Phase, s.Remote[0].Status.Phase = corev1.PodPending, corev1.PodPending
		}, "does not run"},
		"phase":          {func(s *soak.Seen) { s.Remote[0].Status.Phase = corev1.PodSucceeded }, "phase at the origin is Running"},
		"readiness":      {func(s *soak.Seen) { s.Origin[0].Status.Conditions[0].Status = corev1.ConditionFalse }, "readiness at the origin is False"},
		"container":      {func(s *soak.Seen) { s.Origin[0].Status.ContainerStatuses[0].Ready = false }, "ready at the origin"},
		"address":        {func(s *soak.Seen) { s.Origin[0].Status.PodIP = "" }, "address"},
		"label":          {func(s *soak.Seen) { s.Origin[0].Labels["soak.test/turn"] = "4" }, "label at the origin is 4"},
		"annotation":     {func(s *soak.Seen) { s.Origin[0].Annotations["soak.test/turn"] = "4" }, "annotation at the origin is 4"},
		"image":          {func(s *soak.Seen) { s.Origin[0].Spec.Containers[0].Image = "two" }, "image at the origin is two"},
		"content":        {func(s *soak.Seen) { s.OriginObjects[0].Data["turn"] = "2" }, `turn "2" at the origin and "1"`},
		"missing object": {func(s *soak.Seen) { s.RemoteObjects = nil }, "is missing at the target"},
		"orphan object":  {func(s *soak.Seen) { s.RemoteObjects = append(s.RemoteObjects, soak.Object{Kind: "Secret"}) }, "Secret  at the target is an orphan"},
		"ended, and no more brought up to date": {func(s *soak.Seen) {
			s.Origin[0].Status.Phase, s.Remote[0].Status.Phase = corev1.PodSucceeded, corev1.PodSucceeded
			s.OriginObjects[0].Data["turn"] = "2"
			s.Origin[0].Labels["soak.test/turn"] = "4"
		}, ""},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			seen := pair()
			tc.change(seen)
			found := soak.Differences(seen)
			if tc.want == "" {
				assert.Empty(t, found)
				return
			}
			require.NotEmpty(t, found)
			assert.Contains(t, found[0].What, tc.want)
		})
	}
}

func TestExcess(t *testing.T) {
	t.Parallel()
	const mib = 1 << 20
	tests := map[string]struct {
		memory soak.Memory
		want   []string
	}{
		"flat": {soak.Memory{Before: soak.Held{Heap: 20 * mib, Goroutines: 100}, After: soak.Held{Heap: 22 * mib, Goroutines: 120}}, nil},
		"heap": {
			soak.Memory{Program: "one", Before: soak.Held{Heap: mib}, After: soak.Held{Heap: 9 * mib}, Pods: 1000},
			[]string{"one: the heap with nothing to do, in bytes, is 9437184, and should not be above 6266880"},
		},
		"goroutines": {
			soak.Memory{Program: "one", Before: soak.Held{Goroutines: 10}, After: soak.Held{Goroutines: 200}},
			[]string{"one: the number of goroutines with nothing to do is 200, and should not be above 70"},
		},
		"growth":         {soak.Memory{Program: "one", Steady: 1, Growth: soak.Held{Heap: 3 * mib}}, []string{"one: the growth of the heap, in bytes, is 3145728, and should not be above 2097152"}},
		"growth, killed": {soak.Memory{Growth: soak.Held{Heap: 3 * mib}}, nil},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			assert.Equal(t, tc.want, tc.memory.Excess())
		})
	}
}
