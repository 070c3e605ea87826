// SPDX-License-Identifier: Apache-2.0

package table_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/cloudveneto/caas/internal/interlink"
	"github.com/cloudveneto/caas/sidecar/plugin/table"
	"github.com/cloudveneto/caas/sidecar/plugin/translate"
)

func pod(uid, remoteUID, node string) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
		Name: uid, Namespace: "cms", UID: types.UID(remoteUID),
		Labels:      map[string]string{translate.LabelUID: uid, translate.LabelOrigin: "default"},
		Annotations: map[string]string{interlink.AnnotationOriginCluster: "c1", interlink.AnnotationOriginNode: node},
	}}
}

func TestInsertNeverBeatsTheWatch(t *testing.T) {
	t.Parallel()
	pods := table.New()
	seen := pod("u", "r", "vk1")
	pods.Observe(seen)
	pods.Insert(pod("u", "r", "vk1"), time.Now())
	assert.Same(t, seen, pods.Lookup(table.KeyOf(seen)))
	assert.Empty(t, pods.Unseen(time.Now().Add(time.Hour)))

	early := pod("v", "r2", "vk1")
	pods.Insert(early, time.Now())
	assert.Equal(t, []*corev1.Pod{early}, pods.Unseen(time.Now().Add(time.Second)))
	pods.Observe(pod("v", "r2", "vk1"))
	assert.Empty(t, pods.Unseen(time.Now().Add(time.Hour)))
	assert.Equal(t, 2, pods.Len())
}

func TestRemoveLeavesANewerPod(t *testing.T) {
	t.Parallel()
	pods := table.New()
	pods.Observe(pod("u", "new", "vk1"))
	pods.Remove(pod("u", "old", "vk1"))
	assert.Equal(t, 1, pods.Len())
	assert.NotNil(t, pods.Created("new"))
	pods.Remove(pod("u", "new", "vk1"))
	assert.Zero(t, pods.Len())
	assert.Nil(t, pods.Created("new"))
}

func TestCreatedFollowsTheNewerPod(t *testing.T) {
	t.Parallel()
	pods := table.New()
	pods.Observe(pod("u", "old", "vk1"))
	pods.Observe(pod("u", "new", "vk1"))
	assert.Nil(t, pods.Created("old"), "another pod has its place")
	require.NotNil(t, pods.Created("new"))
	assert.Equal(t, "u", pods.Created("new").Labels[translate.LabelUID])
	pods.Remove(pod("u", "old", "vk1"))
	assert.NotNil(t, pods.Created("new"))
}

func TestSubscription(t *testing.T) {
	t.Parallel()
	pods := table.New()
	pods.Observe(pod("old", "r0", "vk1"))
	s := pods.Subscribe(table.Selection{Origin: "default", Cluster: "c1", Node: "vk1"})
	defer pods.Unsubscribe(s)
	snapshot := s.Take()
	require.Len(t, snapshot, 1)
	assert.Equal(t, "old", snapshot[0].Pod.Name)

	pods.Observe(pod("elsewhere", "r1", "vk2"))
	assert.Empty(t, s.Take())

	last := pod("old", "r0", "vk1")
	for range 100 {
		pods.Observe(last)
	}
	changes := s.Take()
	require.Len(t, changes, 1, "changes of one pod are merged")
	assert.Same(t, last, changes[0].Pod)

	pods.Observe(last)
	pods.Remove(last)
	next := pod("old", "r9", "vk1")
	pods.Observe(next)
	changes = s.Take()
	require.Len(t, changes, 2, "the one that went, then the one that came")
	assert.True(t, changes[0].Gone)
	assert.Same(t, next, changes[1].Pod)
}

func TestConcurrentUse(t *testing.T) {
	t.Parallel()
	pods := table.New()
	s := pods.Subscribe(table.Selection{Origin: "default"})
	var writers sync.WaitGroup
	for i := range 8 {
		writers.Go(func() {
			for j := range 200 {
				p := pod(fmt.Sprint(i, "-", j), fmt.Sprint(i, j), "vk1")
				pods.Observe(p)
				if j%2 == 0 {
					pods.Remove(p)
				}
			}
		})
	}
	gone, live := map[string]bool{}, map[string]bool{}
	done := make(chan struct{})
	go func() { writers.Wait(); close(done) }()
	take := func() {
		for _, change := range s.Take() {
			if change.Gone {
				gone[change.Pod.Name] = true
				delete(live, change.Pod.Name)
			} else {
				live[change.Pod.Name] = true
			}
		}
	}
	for running := true; running; {
		select {
		case <-s.Wake():
			take()
		case <-done:
			running = false
		}
	}
	take()
	assert.Len(t, live, 800)
	assert.Len(t, gone, 800)
	assert.Equal(t, 800, pods.Len())
}

func TestTrimKeepsLittle(t *testing.T) {
	t.Parallel()
	full := pod("u", "r", "vk1")
	full.ManagedFields = []metav1.ManagedFieldsEntry{{Manager: "x"}}
	full.Annotations[translate.AnnotationReport] = "[]"
	full.Labels["labels.offload.infn.it/app"] = "x"
	full.Spec.Containers = []corev1.Container{{Name: "a", Env: []corev1.EnvVar{{Name: "SECRET", Value: "x"}}}}
	full.Spec.Volumes = []corev1.Volume{{Name: "v"}}
	full.Status.Phase = corev1.PodRunning
	full.Status.EphemeralContainerStatuses = []corev1.ContainerStatus{{Name: "doctor"}}
	trimmed := table.Trim(full)
	assert.Empty(t, trimmed.ManagedFields)
	assert.NotContains(t, trimmed.Annotations, translate.AnnotationReport)
	assert.Empty(t, trimmed.Spec.Volumes)
	assert.Empty(t, trimmed.Spec.Containers[0].Env)
	assert.Equal(t, corev1.PodRunning, trimmed.Status.Phase)
	assert.Len(t, trimmed.Status.EphemeralContainerStatuses, 1)
	assert.Equal(t, table.KeyOf(full), table.KeyOf(trimmed))
}
