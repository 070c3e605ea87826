// SPDX-License-Identifier: Apache-2.0

//go:build integration

package plugin_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cloudveneto/caas/internal/interlink"
	"github.com/cloudveneto/caas/sidecar/plugin"
	"github.com/cloudveneto/caas/sidecar/plugin/translate"
)

// makesClaims has claims made for those of origins; with a grace time they do not stay.
func makesClaims(grace time.Duration) func(*plugin.Settings) {
	rule := &translate.ClaimRule{StorageClass: new(""), Size: new(resource.MustParse("1Gi"))}
	if grace > 0 {
		rule.Retention, rule.Grace = translate.RetentionDelete, &metav1.Duration{Duration: grace}
	}
	return func(settings *plugin.Settings) {
		settings.Policy.Volumes = []translate.VolumeRule{{Match: translate.VolumeMatch{Kind: "persistentVolumeClaim"}, Claim: rule}}
	}
}

// withClaim is a pod that mounts a claim of its origin.
func withClaim(pod, claim string) *interlink.PluginPod {
	request := originPod(pod)
	spec := &request.Pod.Spec
	spec.Volumes = []corev1.Volume{{Name: "home", VolumeSource: corev1.VolumeSource{
		PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: claim},
	}}}
	spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "home", MountPath: "/home"}}
	return request
}

// claims are those of the sidecar's namespace.
func (s *sidecar) claims() []corev1.PersistentVolumeClaim {
	s.t.Helper()
	list, err := s.admin.CoreV1().PersistentVolumeClaims(s.namespace).List(s.t.Context(), metav1.ListOptions{})
	require.NoError(s.t, err)
	return list.Items
}

func (s *sidecar) noClaims() {
	s.t.Helper()
	require.Eventually(s.t, func() bool { return len(s.claims()) == 0 }, 60*time.Second, 100*time.Millisecond, "the claim goes after its last pod")
}

func TestClaimIsSharedAndGoesWithItsLastPod(t *testing.T) {
	t.Parallel()
	s := start(t, makesClaims(time.Second))
	first, second := withClaim("first", "home"), withClaim("second", "home")
	s.recorder.reset()
	var creating sync.WaitGroup
	for _, request := range []*interlink.PluginPod{first, second} {
		creating.Go(func() { s.create(request) })
	}
	creating.Wait()
	claims := s.claims()
	require.Len(t, claims, 1, "one for both")
	for _, request := range []*interlink.PluginPod{first, second} {
		pod := s.pods(request.Pod.UID)[0]
		assert.Equal(t, claims[0].Name, pod.Spec.Volumes[0].PersistentVolumeClaim.ClaimName)
		assert.Empty(t, pod.Spec.SchedulingGates)
	}
	assert.InDelta(t, 1, s.metric("caas_sidecar_claims_created_total"), 0)
	assert.Eventually(t, func() bool { return s.metric("caas_sidecar_claims") == 1 }, 10*time.Second, 20*time.Millisecond)

	s.delete(&first.Pod)
	assert.Eventually(t, func() bool { return len(s.pods(first.Pod.UID)) == 0 }, 10*time.Second, 20*time.Millisecond)
	third := withClaim("third", "home")
	s.create(third)
	assert.Equal(t, claims[0].UID, s.claims()[0].UID, "used without a break")
	s.delete(&second.Pod)
	s.delete(&third.Pod)
	s.noClaims()
	assert.Eventually(t, func() bool { return s.metric("caas_sidecar_claims_removed_total") == 1 }, 10*time.Second, 20*time.Millisecond)

	again := withClaim("again", "home")
	s.create(again)
	require.Len(t, s.claims(), 1, "made anew")
	assert.NotEqual(t, claims[0].UID, s.claims()[0].UID)
}

func TestRetainedClaimStays(t *testing.T) {
	t.Parallel()
	s := start(t, makesClaims(0))
	first := withClaim("first", "home")
	s.create(first)
	claim := s.claims()[0]
	assert.Equal(t, "Retain", claim.Labels[translate.LabelRetention])
	s.delete(&first.Pod)
	require.Eventually(t, func() bool { return len(s.pods(first.Pod.UID)) == 0 }, 10*time.Second, 20*time.Millisecond)

	// A sidecar that deletes claims leaves it alone; a pod of that one takes it over.
	deleting := startIn(t, s.admin, s.namespace, makesClaims(time.Millisecond))
	other := withClaim("other", "scratch")
	deleting.create(other)
	deleting.delete(&other.Pod)
	require.Eventually(t, func() bool { return len(s.claims()) == 1 }, 60*time.Second, 100*time.Millisecond, "the other claim goes")
	assert.Equal(t, claim.UID, s.claims()[0].UID)
	second := withClaim("second", "home")
	deleting.create(second)
	assert.Equal(t, claim.UID, s.claims()[0].UID, "the data are there again")
	assert.Equal(t, "Delete", s.claims()[0].Labels[translate.LabelRetention], "the rule in force decides")
	deleting.delete(&second.Pod)
	s.noClaims()
}

func TestForeignClaimIsRefusedAndNotTouched(t *testing.T) {
	t.Parallel()
	s := start(t, makesClaims(time.Millisecond))
	model := withClaim("model", "home")
	s.create(model)
	name := s.claims()[0].Name
	s.delete(&model.Pod)
	s.noClaims()
	for _, labels := range []map[string]string{nil, {
		translate.LabelManagedBy: translate.ManagedBy, translate.LabelOrigin: "alice", translate.LabelClaim: "x", translate.LabelRetention: "Retain",
	}} {
		foreign, err := s.admin.CoreV1().PersistentVolumeClaims(s.namespace).Create(t.Context(), &corev1.PersistentVolumeClaim{
			ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels},
			Spec: corev1.PersistentVolumeClaimSpec{
				StorageClassName: new(""), AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
				Resources: corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}},
			},
		}, metav1.CreateOptions{})
		require.NoError(t, err)
		request := withClaim("thief", "home")
		code, body, header := s.call(http.MethodPost, interlink.PathCreate, request, nil)
		assert.Equal(t, http.StatusUnprocessableEntity, code, body)
		assert.Equal(t, "true", header.Get(interlink.HeaderRefusal))
		assert.Contains(t, body, name)
		assert.Contains(t, body, "did not make for this one of the origin")
		assert.Eventually(t, func() bool { return len(s.pods(request.Pod.UID)) == 0 }, 10*time.Second, 20*time.Millisecond)
		claims := s.claims()
		require.Len(t, claims, 1)
		assert.Equal(t, foreign.UID, claims[0].UID)
		assert.Equal(t, foreign.Labels, claims[0].Labels)
		require.NoError(t, s.admin.CoreV1().PersistentVolumeClaims(s.namespace).Delete(t.Context(), name, metav1.DeleteOptions{}))
		s.noClaims()
	}
}

// TestCrashAtEachStepWithClaims cuts the n-th writing request of a create, and asks again with a new plugin.
func TestCrashAtEachStepWithClaims(t *testing.T) {
	t.Parallel()
	first := start(t, makesClaims(time.Second))
	for _, after := range []bool{false, true} {
		for step := range 3 {
			request := withClaim("crash", "home")
			first.recorder.setFault(cutFrom(step, after))
			code, body, header := first.call(http.MethodPost, interlink.PathCreate, request, nil)
			assert.Equal(t, http.StatusServiceUnavailable, code, "step %d after %v: %s", step, after, body)
			assert.Empty(t, header.Get(interlink.HeaderRefusal))
			first.recorder.setFault(func(*http.Request) (error, bool) { return errors.New("injected: dead"), false })

			second := startIn(t, first.admin, first.namespace, makesClaims(time.Second))
			second.create(request)
			require.Len(t, second.claims(), 1, "step %d after %v", step, after)
			pods := second.pods(request.Pod.UID)
			require.Len(t, pods, 1, "step %d after %v", step, after)
			assert.Empty(t, pods[0].Spec.SchedulingGates)
			second.delete(&request.Pod)
			second.noClaims()
		}
	}
}

// cutFrom cuts the writing request with that number, before or after it takes effect, and all behind it.
func cutFrom(step int, after bool) func(*http.Request) (error, bool) {
	var mu sync.Mutex
	count := 0
	return func(r *http.Request) (error, bool) {
		mu.Lock()
		defer mu.Unlock()
		if r.Method == http.MethodGet || strings.Contains(r.URL.Path, "authorization") {
			return nil, false
		}
		count++
		if count > step {
			return errors.New("injected: connection lost"), after && count == step+1
		}
		return nil, false
	}
}

// TestOrphanedClaimIsSwept finds, after a restart, a claim whose pod went while no sidecar ran.
func TestOrphanedClaimIsSwept(t *testing.T) {
	t.Parallel()
	first := start(t, makesClaims(time.Second))
	request := withClaim("lonely", "home")
	first.create(request)
	first.recorder.setFault(func(*http.Request) (error, bool) { return errors.New("injected: dead"), false })
	pod := first.pods(request.Pod.UID)[0]
	require.NoError(t, first.admin.CoreV1().Pods(first.namespace).Delete(t.Context(), pod.Name, metav1.DeleteOptions{GracePeriodSeconds: new(int64(0))}))
	require.Len(t, first.claims(), 1)
	second := startIn(t, first.admin, first.namespace, makesClaims(time.Second))
	second.noClaims()
}

// TestClaimIsNotTakenFromANewPod holds the deletion of a claim back until a pod has been created that uses it.
func TestClaimIsNotTakenFromANewPod(t *testing.T) {
	t.Parallel()
	s := start(t, makesClaims(time.Millisecond))
	old := withClaim("old", "home")
	s.create(old)
	claim := s.claims()[0]
	reached, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	s.recorder.setFault(func(r *http.Request) (error, bool) {
		if r.Method == http.MethodDelete && strings.Contains(r.URL.Path, "/persistentvolumeclaims/") {
			once.Do(func() { close(reached) })
			<-release
		}
		return nil, false
	})
	s.delete(&old.Pod)
	<-reached
	fresh := withClaim("fresh", "home")
	s.create(fresh)
	close(release)
	s.recorder.setFault(nil)

	// Another claim that comes and goes shows that the sidecar has looked since.
	other := withClaim("other", "scratch")
	s.create(other)
	s.delete(&other.Pod)
	require.Eventually(t, func() bool { return len(s.claims()) == 1 }, 60*time.Second, 100*time.Millisecond)
	left := s.claims()[0]
	assert.Equal(t, claim.UID, left.UID)
	assert.Nil(t, left.DeletionTimestamp)
	assert.NotContains(t, left.Annotations, translate.AnnotationUnusedSince)
	assert.Empty(t, s.pods(fresh.Pod.UID)[0].Spec.SchedulingGates)
}

// TestClaimThatIsBeingDeleted makes a pod wait until the claim has gone and can be made anew.
func TestClaimThatIsBeingDeleted(t *testing.T) {
	t.Parallel()
	s := start(t, makesClaims(0))
	first := withClaim("first", "home")
	s.create(first)
	s.delete(&first.Pod)
	claim := s.claims()[0]
	claim.Finalizers = append(claim.Finalizers, "example.org/hold")
	held, err := s.admin.CoreV1().PersistentVolumeClaims(s.namespace).Update(t.Context(), &claim, metav1.UpdateOptions{})
	require.NoError(t, err)
	require.NoError(t, s.admin.CoreV1().PersistentVolumeClaims(s.namespace).Delete(t.Context(), claim.Name, metav1.DeleteOptions{}))
	second := withClaim("second", "home")
	code, body, header := s.call(http.MethodPost, interlink.PathCreate, second, nil)
	assert.Equal(t, http.StatusServiceUnavailable, code, body)
	assert.Empty(t, header.Get(interlink.HeaderRefusal))
	assert.Contains(t, body, "is being deleted")
	assert.NotEmpty(t, s.pods(second.Pod.UID)[0].Spec.SchedulingGates, "held until then")
	require.Eventually(t, func() bool {
		held, err = s.admin.CoreV1().PersistentVolumeClaims(s.namespace).Get(t.Context(), claim.Name, metav1.GetOptions{})
		if err != nil {
			return false
		}
		held.Finalizers = nil
		_, err = s.admin.CoreV1().PersistentVolumeClaims(s.namespace).Update(t.Context(), held, metav1.UpdateOptions{})
		return err == nil
	}, 10*time.Second, 50*time.Millisecond)
	require.Eventually(t, func() bool {
		code, _, _ := s.call(http.MethodPost, interlink.PathCreate, second, nil)
		return code == http.StatusOK
	}, 20*time.Second, 100*time.Millisecond)
	assert.NotEqual(t, claim.UID, s.claims()[0].UID)
	assert.Empty(t, s.pods(second.Pod.UID)[0].Spec.SchedulingGates)
}

// TestPodWaitsForItsClaim is alone with its node: the scheduler would give it the pods of others.
func TestPodWaitsForItsClaim(t *testing.T) {
	s := start(t, makesClaims(0))
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "claims-" + s.namespace}}
	_, err := s.admin.CoreV1().Nodes().Create(t.Context(), node, metav1.CreateOptions{})
	require.NoError(t, err)
	t.Cleanup(func() {
		_ = s.admin.CoreV1().Nodes().Delete(context.WithoutCancel(t.Context()), node.Name, metav1.DeleteOptions{})
	})
	ready(t, s, node.Name)
	r := s.watch()
	r.next(ofType(interlink.EventSynced))
	request := withClaim("waits", "home")
	s.create(request)
	waiting := r.next(func(e interlink.StatusEvent) bool {
		return e.Type == interlink.EventStatus && strings.Contains(scheduled(e.Status.Detail).Message, "PersistentVolumeClaim")
	})
	assert.Equal(t, corev1.PodPending, waiting.Status.Detail.Phase)
	assert.Equal(t, corev1.ConditionFalse, scheduled(waiting.Status.Detail).Status)
	assert.Equal(t, corev1.PodReasonUnschedulable, scheduled(waiting.Status.Detail).Reason)

	volume := &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: "claims-" + s.namespace},
		Spec: corev1.PersistentVolumeSpec{
			Capacity: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}, AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
			PersistentVolumeSource: corev1.PersistentVolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/data"}},
			ClaimRef:               &corev1.ObjectReference{Namespace: s.namespace, Name: s.claims()[0].Name},
		},
	}
	_, err = s.admin.CoreV1().PersistentVolumes().Create(t.Context(), volume, metav1.CreateOptions{})
	require.NoError(t, err)
	t.Cleanup(func() {
		_ = s.admin.CoreV1().PersistentVolumes().Delete(context.WithoutCancel(t.Context()), volume.Name, metav1.DeleteOptions{})
	})
	assert.Eventually(t, func() bool { return s.pods(request.Pod.UID)[0].Spec.NodeName == node.Name }, 60*time.Second, 100*time.Millisecond, "it is placed once the claim is bound")
}

// scheduled is what a status says about the pod's placement.
func scheduled(detail *interlink.PodDetail) corev1.PodCondition {
	for _, condition := range detail.Conditions {
		if condition.Type == corev1.PodScheduled {
			return condition
		}
	}
	return corev1.PodCondition{}
}
