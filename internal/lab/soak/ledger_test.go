// SPDX-License-Identifier: Apache-2.0

package soak_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/cloudveneto/caas/internal/lab/kwok"
	"github.com/cloudveneto/caas/internal/lab/soak"
)

func TestMisreported(t *testing.T) {
	t.Parallel()
	now := metav1.Now()
	ends := map[string]string{kwok.RunForAnnotation: "3s"}
	tests := map[string]struct {
		before, after corev1.PodPhase
		annotations   map[string]string
		deleted       *metav1.Time
		want          string
	}{
		"begins":                         {"", corev1.PodPending, nil, nil, ""},
		"runs":                           {corev1.PodPending, corev1.PodRunning, nil, nil, ""},
		"ends as it was to":              {corev1.PodRunning, corev1.PodSucceeded, ends, nil, ""},
		"ends as it was not to":          {corev1.PodRunning, corev1.PodSucceeded, nil, nil, "runs for ever"},
		"is said to have failed":         {corev1.PodRunning, corev1.PodFailed, ends, nil, "is said to have failed: Lost it is gone"},
		"fails while it is deleted":      {corev1.PodRunning, corev1.PodFailed, nil, &now, ""},
		"runs no more":                   {corev1.PodRunning, corev1.PodPending, nil, nil, "was Running and is Pending"},
		"comes back":                     {corev1.PodSucceeded, corev1.PodRunning, ends, nil, "was Succeeded and is Running"},
		"ends in two ways":               {corev1.PodSucceeded, corev1.PodFailed, ends, nil, "ended as Succeeded and then as Failed"},
		"comes back while it is deleted": {corev1.PodRunning, corev1.PodPending, nil, &now, "was Running and is Pending"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pod := &corev1.Pod{
				ObjectMeta: metav1.ObjectMeta{Annotations: tc.annotations, DeletionTimestamp: tc.deleted},
				Status:     corev1.PodStatus{Phase: tc.after, Reason: "Lost", Message: "it is gone"},
			}
			if tc.want == "" {
				assert.Empty(t, soak.Misreported(tc.before, pod))
				return
			}
			assert.Contains(t, soak.Misreported(tc.before, pod), tc.want)
		})
	}
}

func TestLedger(t *testing.T) {
	t.Parallel()
	ledger := soak.NewLedger()
	near := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "worker", UID: "one"}, Status: corev1.PodStatus{Phase: corev1.PodRunning}}
	far := func(uid types.UID) *corev1.Pod {
		return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "far", UID: uid, Labels: map[string]string{"offload.infn.it/uid": "one"}}}
	}
	ledger.Near(near, false)
	ledger.Far(far("1"), false)
	assert.Empty(t, ledger.Twice(*near))
	ledger.Far(far("1"), true)
	nearNow, farNow := ledger.Count()
	assert.Equal(t, []int{1, 0}, []int{nearNow, farNow})
	ledger.Remark("something is disturbed")
	ledger.Far(far("2"), false)
	require.Len(t, ledger.Twice(*near), 1)
	assert.Empty(t, ledger.Wrong())
	near = near.DeepCopy()
	near.Status.Phase = corev1.PodFailed
	ledger.Near(near, false)
	require.Len(t, ledger.Wrong(), 1)
	for _, part := range []string{"pod worker (one) at the origin is said to have failed", "target gone", "something is disturbed"} {
		assert.Contains(t, ledger.Wrong()[0], part)
	}
	for i := range 1000 {
		near = near.DeepCopy()
		near.ResourceVersion = fmt.Sprint(i)
		ledger.Near(near, false)
	}
	assert.Contains(t, ledger.History("one"), "v999\n")
	assert.Less(t, len(ledger.History("one")), 50_000, "a history has an end")
	assert.Contains(t, ledger.History("nobody"), "no history")
}

func TestMeasured(t *testing.T) {
	t.Parallel()
	const count = 90
	line := make([]float64, count)
	for i := range line {
		line[i] = 1000 + float64(10*i)
	}
	memory := soak.MeasuredHeap(0, line...)
	assert.InDelta(t, 1000, memory.Before.Heap, 0)
	assert.InDelta(t, line[count-1], memory.After.Heap, 0)
	assert.InDelta(t, 590, memory.Growth.Heap, 1e-6, "without a third of the time to warm up, and without the last one")
	assert.Equal(t, 59, memory.Pods)
	assert.Zero(t, soak.MeasuredHeap(count-10, line...).Steady, "it was killed not long ago")
	assert.Zero(t, soak.MeasuredHeap(0, line[0]).Growth)
}
