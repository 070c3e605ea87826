// SPDX-License-Identifier: Apache-2.0

//go:build integration

package controller_test

import (
	"maps"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	osnodev1 "github.com/cloudveneto/caas/osnode/api/v1"
	"github.com/cloudveneto/caas/osnode/cloud"
	"github.com/cloudveneto/caas/osnode/controller/controllertest"
)

func duration(d time.Duration) *metav1.Duration { return &metav1.Duration{Duration: d} }

// pod runs on the node of an OpenStackNode.
func (w *world) pod(name, osn string) *corev1.Pod {
	w.t.Helper()
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: name, Labels: map[string]string{"app": name}},
		Spec: corev1.PodSpec{
			NodeName: w.get(osn).Status.NodeID, Containers: []corev1.Container{{Name: "main", Image: "example.org/image"}},
		},
	}
	require.NoError(w.t, w.client.Create(w.t.Context(), pod))
	before := pod.DeepCopy()
	pod.Status.Phase = corev1.PodRunning
	pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
	require.NoError(w.t, w.client.Status().Patch(w.t.Context(), pod, client.MergeFrom(before)))
	return pod
}

// kill ends a pod at once, as its kubelet does when its containers have ended.
func (w *world) kill(pod *corev1.Pod) {
	w.t.Helper()
	require.NoError(w.t, client.IgnoreNotFound(w.client.Delete(w.t.Context(), pod, client.GracePeriodSeconds(0))))
}

func (w *world) leaving(pod *corev1.Pod) bool {
	w.t.Helper()
	current := &corev1.Pod{}
	err := w.client.Get(w.t.Context(), client.ObjectKeyFromObject(pod), current)
	return apierrors.IsNotFound(err) || !current.DeletionTimestamp.IsZero()
}

// budget keeps a pod from being evicted, until it is allowed.
func (w *world) budget(app string) *policyv1.PodDisruptionBudget {
	w.t.Helper()
	budget := &policyv1.PodDisruptionBudget{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: app},
		Spec: policyv1.PodDisruptionBudgetSpec{
			MinAvailable: new(intstr.FromInt32(1)), Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": app}},
		},
	}
	require.NoError(w.t, w.client.Create(w.t.Context(), budget))
	budget.Status = policyv1.PodDisruptionBudgetStatus{ObservedGeneration: budget.Generation, ExpectedPods: 1, CurrentHealthy: 1, DesiredHealthy: 1}
	require.NoError(w.t, w.client.Status().Update(w.t.Context(), budget))
	return budget
}

func TestIntegrationDrainRespectsBudgets(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.running("osn-01")
	free, kept := w.pod("free", "osn-01"), w.pod("kept", "osn-01")
	budget := w.budget("kept")
	w.delete("osn-01")
	for range 5 {
		w.sleep(w.pass("osn-01"))
	}
	assert.True(t, w.leaving(free))
	assert.False(t, w.leaving(kept), "its budget keeps it")
	current := w.node("osn-01")
	assert.True(t, current.Spec.Unschedulable)
	assert.Contains(t, current.Spec.Taints, corev1.Taint{Key: osnodev1.TaintDeleting, Effect: corev1.TaintEffectNoSchedule})
	assert.Equal(t, "Waiting for 2 pods to leave the node", w.get("osn-01").Status.Description)
	assert.Zero(t, w.cloud.Calls("Delete"))
	assert.Equal(t, 1, w.told("Draining"))

	budget.Status = policyv1.PodDisruptionBudgetStatus{
		ObservedGeneration: budget.Generation, DisruptionsAllowed: 1, ExpectedPods: 1, CurrentHealthy: 1,
	}
	require.NoError(t, w.client.Status().Update(t.Context(), budget))
	w.sleep(w.pass("osn-01"))
	assert.True(t, w.leaving(kept))
	w.kill(free)
	w.kill(kept)
	w.drive("osn-01", func() bool { return w.gone("osn-01") })
	assert.Zero(t, w.told("DrainTimeout"))
}

func TestIntegrationDrainTimeout(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.running("osn-01", func(osn *osnodev1.OpenStackNode) { osn.Spec.DrainTimeout = duration(3 * time.Minute) })
	kept := w.pod("kept", "osn-01")
	w.budget("kept")
	w.delete("osn-01")
	began := w.now()
	w.drive("osn-01", func() bool { return w.leaving(kept) })
	assert.InDelta(t, 3*time.Minute, w.now().Sub(began), float64(10*time.Second))
	assert.Equal(t, 1, w.told("DrainTimeout"))
	w.drive("osn-01", func() bool { return w.gone("osn-01") })
	assert.Less(t, w.now().Sub(began), 8*time.Minute, "a pod that does not go keeps nobody for ever")
}

func TestIntegrationForceDelete(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.running("osn-01")
	w.pod("kept", "osn-01")
	w.budget("kept")
	w.annotate("osn-01", osnodev1.AnnotationForceDelete, "true")
	w.delete("osn-01")
	began := w.now()
	w.drive("osn-01", func() bool { return w.gone("osn-01") })
	assert.Less(t, w.now().Sub(began), time.Minute)
}

func TestIntegrationVolumesAreWaitedFor(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	osn := w.running("osn-01")
	attachment := &storagev1.VolumeAttachment{
		ObjectMeta: metav1.ObjectMeta{Name: "csi-" + w.namespace},
		Spec: storagev1.VolumeAttachmentSpec{
			Attacher: "cinder.csi.openstack.org", NodeName: osn.Status.NodeID,
			Source: storagev1.VolumeAttachmentSource{PersistentVolumeName: new("pv-1")},
		},
	}
	require.NoError(t, w.client.Create(t.Context(), attachment))
	w.delete("osn-01")
	w.pass("osn-01")
	assert.Zero(t, w.cloud.Calls("Delete"))
	assert.Equal(t, "Waiting for 1 volumes to be detached", w.get("osn-01").Status.Description)
	began := w.now()
	w.drive("osn-01", func() bool { return w.gone("osn-01") })
	assert.Greater(t, w.now().Sub(began), 2*time.Minute)
	assert.Less(t, w.now().Sub(began), 3*time.Minute)
	require.NoError(t, w.client.Delete(t.Context(), attachment))
}

func TestIntegrationDeletedWhileBuilding(t *testing.T) {
	t.Parallel()
	for name, lag := range map[string]time.Duration{"seen": 0, "not yet in any list": 15 * time.Second} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.cloud.Change(func(s *controllertest.State) { s.BuildTime, s.Lag = time.Minute, lag })
			osn := w.osn("osn-01")
			w.pass("osn-01")
			require.Len(t, w.cloud.Servers(), 1)
			w.delete("osn-01")
			w.pass("osn-01")
			assert.Empty(t, w.tokens(osn.UID), "nothing can join any more")
			w.drive("osn-01", func() bool { return w.gone("osn-01") })
			assert.Empty(t, w.cloud.Servers())
		})
	}
}

func TestIntegrationDeletionWaitsForOpenStack(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.running("osn-01")
	w.cloud.Change(func(s *controllertest.State) { s.Outage = outage() })
	w.delete("osn-01")
	for range 10 {
		w.sleep(w.pass("osn-01"))
	}
	require.False(t, w.gone("osn-01"))
	assert.Equal(t, 1, w.told("DeletionIncomplete"))
	w.cloud.Change(func(s *controllertest.State) { s.Outage = nil })
	w.drive("osn-01", func() bool { return w.gone("osn-01") })
	assert.Empty(t, w.cloud.Servers())
}

func TestIntegrationDeletionThatNovaGaveUp(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.cloud.Change(func(s *controllertest.State) { s.DeleteTime = 10 * time.Second })
	w.running("osn-01")
	w.delete("osn-01")
	w.drive("osn-01", func() bool { return w.cloud.Calls("Delete") == 1 })
	w.cloud.GiveUp(w.get("osn-01").Status.Server.ID)
	began := w.now()
	w.drive("osn-01", func() bool { return w.gone("osn-01") })
	assert.Equal(t, 2, w.cloud.Calls("Delete"), "asked for again, and not at each look")
	assert.Less(t, w.now().Sub(began), 40*time.Second)
	assert.Empty(t, w.cloud.Servers())
}

func TestIntegrationDeletedObjectIsLeftAlone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	stays := "example.org/stays"
	w.running("osn-01")
	before := w.get("osn-01")
	after := before.DeepCopy()
	after.Finalizers = append(after.Finalizers, stays)
	require.NoError(t, w.client.Patch(t.Context(), after, client.MergeFrom(before)))
	w.delete("osn-01")
	w.drive("osn-01", func() bool { return len(w.get("osn-01").Finalizers) == 1 })
	sweeps := w.cloud.Calls("Sweep")
	assert.Zero(t, w.pass("osn-01"), "somebody else's finalizer is not waited for")
	assert.Equal(t, sweeps, w.cloud.Calls("Sweep"))
	before = w.get("osn-01")
	after = before.DeepCopy()
	after.Finalizers = nil
	require.NoError(t, w.client.Patch(t.Context(), after, client.MergeFrom(before)))
	assert.True(t, w.gone("osn-01"))
}

func TestIntegrationOrphansAreCollected(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	osn := w.running("osn-01")
	lost := w.running("lost")
	lost.Finalizers = nil
	require.NoError(t, w.client.Update(t.Context(), lost))
	w.delete("lost") // by force: its machine and Node stay
	metal := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "bare-metal-" + w.namespace}}
	require.NoError(t, w.client.Create(t.Context(), metal))
	mark := func(change map[string]string) map[string]string {
		marks := map[string]string{
			osnodev1.MetaUID: "uid-of-nobody", osnodev1.MetaCluster: clusterName, osnodev1.MetaNamespace: w.namespace, osnodev1.MetaName: "nobody",
			osnodev1.MetaOwner: owner,
		}
		maps.Copy(marks, change)
		return marks
	}
	add := func(change map[string]string) string {
		return w.cloud.Add(cloud.Server{Name: "x", ProjectID: w.project, Metadata: mark(change)})
	}
	orphan := add(nil)
	spared := []string{
		osn.Status.Server.ID,
		add(map[string]string{osnodev1.MetaCluster: "another"}),
		add(map[string]string{osnodev1.MetaUID: ""}),
		add(map[string]string{osnodev1.MetaName: ""}),
		add(map[string]string{osnodev1.MetaOwner: ""}),
		w.cloud.Add(cloud.Server{Name: "x", ProjectID: w.project}),
	}
	collector := w.reconciler.Collector()
	require.NoError(t, collector.Collect(t.Context()))
	assert.Zero(t, w.cloud.Calls("Delete"), "all are young")
	w.sleep(15 * time.Minute)
	spared = append(spared, add(map[string]string{osnodev1.MetaUID: "young"}))
	require.NoError(t, collector.Collect(t.Context()))
	var left []string
	for _, s := range w.cloud.Servers() {
		left = append(left, s.ID)
	}
	assert.ElementsMatch(t, spared, left)
	assert.NotContains(t, left, orphan)
	assert.True(t, apierrors.IsNotFound(w.client.Get(t.Context(), client.ObjectKey{Name: lost.Status.NodeID}, &corev1.Node{})))
	require.NoError(t, w.client.Get(t.Context(), client.ObjectKey{Name: metal.Name}, metal))
	require.NotNil(t, w.node("osn-01"))
	require.NoError(t, collector.Collect(t.Context()))
	w.cloud.Change(func(s *controllertest.State) {
		assert.ElementsMatch(t, []string{"uid-of-nobody", string(lost.UID)}, s.Swept)
	})
	require.NoError(t, w.client.Delete(t.Context(), metal))
}
