// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package fidelity_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"

	"github.com/cloudveneto/caas/internal/interlink"
)

func deletionCases() []fidelityCase {
	return []fidelityCase{
		{name: "17 the grace period is the origin's", run: graceTravels},
		{name: "17 preStop longer than the grace period", run: longPreStop},
		{name: "17 a finalizer at the target", run: finalizerAtTarget},
		{name: "17 deletion by force", run: forcedDeletion},
		{name: "17 deleted while it is created", run: deletedWhileCreated},
		{name: "17 a create after its delete, and a delete of nothing", run: createAfterDelete},
	}
}

func graceTravels(t *testing.T, r *room) {
	created := r.create(t, r.shell("stubborn", "trap '' TERM; sleep 3600 & wait; sleep 3600"))
	r.awaitPhase(t, "stubborn", corev1.PodRunning)
	began := time.Now()
	r.delete(t, "stubborn", 6)
	eventually(t.Context(), t, "the target is told the same grace period", func() (bool, string) {
		far := r.far(t, created)
		return len(far) == 1 && far[0].DeletionGracePeriodSeconds != nil && *far[0].DeletionGracePeriodSeconds == 6, ""
	})
	assert.NotNil(t, container(r.get(t, "stubborn"), "main").State.Running, "the origin's object stays as long as the container runs")
	r.awaitGone(t, created)
	assert.Greater(t, time.Since(began), 5*time.Second, "the container had its time")
	assert.Empty(t, r.far(t, created))

	quick := r.create(t, r.shell("quick", "trap 'exit 0' TERM; sleep 3600 & wait"))
	r.awaitPhase(t, "quick", corev1.PodRunning)
	began = time.Now()
	r.delete(t, "quick", 600)
	r.awaitGone(t, quick) // which waits for less than that
	assert.Less(t, time.Since(began), 600*time.Second, "who ends at once does not wait for the period's end")
	assert.Empty(t, r.far(t, quick), "the target's is gone before the origin's")
}

func longPreStop(t *testing.T, r *room) {
	pod := r.shell("slow", "trap 'exit 0' TERM; sleep 3600 & wait")
	pod.Spec.Containers[0].Lifecycle = &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{Exec: &corev1.ExecAction{Command: []string{"sleep", "600"}}}}
	created := r.create(t, pod)
	r.awaitPhase(t, "slow", corev1.PodRunning)
	began := time.Now()
	r.delete(t, "slow", 4)
	r.awaitGone(t, created)
	assert.Greater(t, time.Since(began), 3*time.Second)
	assert.Less(t, time.Since(began), 600*time.Second, "the kubelet cuts the hook off")
	assert.Empty(t, r.far(t, created))
}

func finalizerAtTarget(t *testing.T, r *room) {
	created := r.create(t, r.shell("held", "trap 'exit 0' TERM; sleep 3600 & wait"))
	r.awaitPhase(t, "held", corev1.PodRunning)
	far := r.awaitFar(t, created)
	r.hold(t.Context(), t, far.Name, true)
	t.Cleanup(func() { r.release(t, far.Name) })
	r.delete(t, "held", 1)
	r.awaitPod(t, "held", "its container has ended", func(pod *corev1.Pod) bool { return container(pod, "main").State.Terminated != nil })
	stays(t.Context(), t, "the origin's stays as long as the target's", func() (bool, string) {
		now := r.get(t, "held")
		return now.UID == created.UID && now.DeletionTimestamp != nil, describe(now)
	})
	r.release(t, far.Name)
	r.awaitGone(t, created)
}

func forcedDeletion(t *testing.T, r *room) {
	pod := r.shell("forced", "trap '' TERM; sleep 3600 & wait; sleep 3600")
	pod.Spec.TerminationGracePeriodSeconds = new(int64(600)) // nobody waits for that
	created := r.create(t, pod)
	r.awaitPhase(t, "forced", corev1.PodRunning)
	r.kubectl(t, "delete", "pod", "forced", "--force", "--grace-period=0")
	eventually(t.Context(), t, "nothing is left at the target", func() (bool, string) { return len(r.far(t, created)) == 0, "" })
}

// deletedWhileCreated deletes pods at all moments of their creation.
func deletedWhileCreated(t *testing.T, r *room) {
	r.configMap(t, corev1.ConfigMap{ObjectMeta: meta("deck"), Data: map[string]string{"key": "value"}})
	names := []string{"d-0", "d-1", "d-2", "d-3", "d-4", "d-5", "d-6", "d-7"}
	var pods []*corev1.Pod
	for i, name := range names {
		pod := r.shell(name, "sleep 3600")
		pod.Spec.Volumes = []corev1.Volume{{Name: "deck", VolumeSource: fromConfigMap("deck")}}
		pod.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "deck", MountPath: "/deck"}}
		pods = append(pods, r.create(t, pod))
		time.Sleep(time.Duration(i*i) * 10 * time.Millisecond)
		r.delete(t, name, int64(i%2))
	}
	for _, pod := range pods {
		r.awaitGone(t, pod)
	}
	eventually(t.Context(), t, "nothing is left at the target", func() (bool, string) {
		left := r.left(t.Context(), t)
		return len(left) == 0, ""
	})
	stays(t.Context(), t, "and nothing comes back", func() (bool, string) { return len(r.left(t.Context(), t)) == 0, "" })
}

func createAfterDelete(t *testing.T, r *room) {
	client := r.apiClient(t)
	made := r.wire(r.shell("tomb", "sleep 3600"))
	made.Namespace, made.UID = r.namespace, "00000000-0000-4000-8000-0000000000aa"
	remove := func(pod *corev1.Pod) func() error {
		return func() error { return client.Delete(t.Context(), pod) }
	}
	require.NoError(t, insist(t.Context(), remove(made)), "a pod that was never created is deleted")
	err := insist(t.Context(), func() error {
		_, err := client.Create(t.Context(), &interlink.CreateRequest{Pod: *made})
		return err
	})
	require.Error(t, err, "a create that its delete has overtaken")
	assert.True(t, interlink.IsRefused(err), "%v", err)
	assert.Empty(t, r.far(t, made))
	require.NoError(t, insist(t.Context(), remove(made)), "a second delete is none the worse")

	created := r.create(t, r.shell("vanished", "sleep 3600"))
	r.awaitPhase(t, "vanished", corev1.PodRunning)
	require.NoError(t, insist(t.Context(), remove(r.wire(created))), "a delete past the virtual kubelet")
	r.delete(t, "vanished", 1)
	r.awaitGone(t, created)
	assert.Empty(t, r.far(t, created))
}
