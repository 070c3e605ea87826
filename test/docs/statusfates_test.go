// SPDX-License-Identifier: Apache-2.0

package docs_test

import (
	"encoding/json"
	"reflect"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cloudveneto/caas/internal/interlink"
	"github.com/cloudveneto/caas/provider/podstatus"
	"github.com/cloudveneto/caas/sidecar/plugin/podstate"
	"github.com/cloudveneto/caas/sidecar/plugin/table"
)

// TestStatusFates sets each field of a status, alone, in the target's pod, has it told as the status stream tells it, and
// wants at the origin what the page says.
func TestStatusFates(t *testing.T) {
	t.Parallel()
	for _, one := range compatibility(t, "PodStatus") {
		t.Run(one.field, func(t *testing.T) {
			t.Parallel()
			var target, before corev1.PodStatus
			field := byName(reflect.ValueOf(&target).Elem(), one.field)
			if statuses, isList := reflect.TypeAssert[*[]corev1.ContainerStatus](field.Addr()); isList {
				*statuses = []corev1.ContainerStatus{{Name: "injected", State: running()}, {Name: "main", State: running()}}
			} else {
				set(t, field, "PodStatus."+one.field)
			}
			if one.fate == "own" {
				own := byName(reflect.ValueOf(&before).Elem(), one.field)
				fill(t, own)
				differ(own)
			}
			after := told(t, target, before)
			checkStatus(t, one, field, byName(reflect.ValueOf(before), one.field), byName(reflect.ValueOf(after), one.field))
		})
	}
}

// TestContainerStatusFates does the same with the status of one container.
func TestContainerStatusFates(t *testing.T) {
	t.Parallel()
	for _, one := range compatibility(t, "ContainerStatus") {
		t.Run(one.field, func(t *testing.T) {
			t.Parallel()
			status := corev1.ContainerStatus{Name: "main", State: running()}
			field := byName(reflect.ValueOf(&status).Elem(), one.field)
			if one.field != "name" {
				fill(t, field)
			}
			target := corev1.PodStatus{Phase: corev1.PodRunning, ContainerStatuses: []corev1.ContainerStatus{status}}
			after := told(t, target, corev1.PodStatus{})
			require.Len(t, after.ContainerStatuses, 1)
			got := byName(reflect.ValueOf(after.ContainerStatuses[0]), one.field)
			checkStatus(t, one, field, reflect.Zero(field.Type()), got)
		})
	}
}

func checkStatus(t *testing.T, one row, target, before, after reflect.Value) {
	t.Helper()
	same := func(a, b reflect.Value) bool { return equality.Semantic.DeepEqual(a.Interface(), b.Interface()) }
	switch one.fate {
	case "kept":
		assert.True(t, same(target, after), "%v became %v", target, after)
	case "mapped":
		assert.False(t, same(target, after), "it is the target's %v", after)
		assert.False(t, same(before, after), "the target's word changes nothing")
	case "own":
		assert.False(t, before.IsZero())
		assert.True(t, same(before, after), "the origin's %v became %v", before, after)
	case "dropped":
		assert.True(t, before.IsZero())
		assert.True(t, after.IsZero(), "%v", after)
	default:
		assert.Fail(t, "nothing of a status can be "+one.fate)
	}
}

func running() corev1.ContainerState {
	return corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: metav1.NewTime(time.Unix(1_700_000_000, 0))}}
}

// differ makes the origin's value another than the target's.
func differ(value reflect.Value) {
	switch {
	case value.CanInt():
		value.SetInt(value.Int() + 1)
	case value.Kind() == reflect.String:
		value.SetString("the origin's " + value.String())
	}
}

// told is the status of the origin's pod, which was before, after the target's pod has the given one.
func told(t *testing.T, target, before corev1.PodStatus) corev1.PodStatus {
	t.Helper()
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "pod", Namespace: "physics", UID: "u1"},
		Spec: corev1.PodSpec{
			InitContainers: []corev1.Container{{Name: "main"}}, Containers: []corev1.Container{{Name: "main"}},
			EphemeralContainers: []corev1.EphemeralContainer{{EphemeralContainerCommon: corev1.EphemeralContainerCommon{Name: "main"}}},
		},
	}
	remote := pod.DeepCopy()
	remote.Status = target
	encoded, err := json.Marshal(podstate.True(table.Trim(remote)))
	require.NoError(t, err)
	var wire interlink.PodStatus
	require.NoError(t, json.Unmarshal(encoded, &wire))
	return podstatus.From(podstatus.Input{Pod: pod, Previous: before, Wire: wire, Now: metav1.Now()})
}
