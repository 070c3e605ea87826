// SPDX-License-Identifier: Apache-2.0

//go:build integration

package plugin_test

import (
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

func TestCreateBarePodIsOnePost(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	request := originPod("bare")
	s.recorder.reset()
	job := s.create(request)
	assert.Equal(t, []string{"POST /api/v1/namespaces/" + s.namespace + "/pods"}, s.recorder.caused())

	s.recorder.reset()
	assert.Equal(t, job, s.create(request), "the same job again")
	assert.Empty(t, s.recorder.caused(), "nothing asked of the cluster")

	pods := s.pods(request.Pod.UID)
	require.Len(t, pods, 1)
	assert.Equal(t, s.namespace+"/"+pods[0].Name, job)
	assert.Empty(t, pods[0].Spec.SchedulingGates)
	assert.Equal(t, "bare", pods[0].Spec.Hostname)
}

func TestCreateWithObjects(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	request := withObjects(originPod("full"))
	s.recorder.reset()
	s.create(request)
	assert.Len(t, s.recorder.requests("POST"), 4, "pod, ConfigMap, Secret, projected Secret")
	assert.Len(t, s.recorder.requests("PATCH"), 1)
	assert.Len(t, s.recorder.requests(""), 5)

	pods := s.pods(request.Pod.UID)
	require.Len(t, pods, 1)
	assert.Empty(t, pods[0].Spec.SchedulingGates, "the pod may be scheduled")
	configMap, err := s.admin.CoreV1().ConfigMaps(s.namespace).Get(t.Context(), pods[0].Spec.Volumes[0].ConfigMap.Name, metav1.GetOptions{})
	require.NoError(t, err)
	assert.Equal(t, map[string]string{"a": "1"}, configMap.Data)
	assert.Equal(t, map[string][]byte{"b": {0xff, 0}}, configMap.BinaryData)
	token, err := s.admin.CoreV1().Secrets(s.namespace).Get(t.Context(), pods[0].Spec.Volumes[2].Secret.SecretName, metav1.GetOptions{})
	require.NoError(t, err)
	assert.Equal(t, "origin-token", string(token.Data["token"]))

	s.delete(&request.Pod)
	assert.Eventually(t, func() bool {
		secrets, err := s.admin.CoreV1().Secrets(s.namespace).List(t.Context(), metav1.ListOptions{})
		return err == nil && len(secrets.Items) == 0 && len(s.pods(request.Pod.UID)) == 0
	}, 30*time.Second, 100*time.Millisecond, "one delete takes everything away")
}

func TestConcurrentCreatesShareOnePod(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	request := withObjects(originPod("many"))
	jobs := make([]string, 20)
	var group sync.WaitGroup
	for i := range jobs {
		group.Go(func() { jobs[i] = s.create(request) })
	}
	group.Wait()
	for _, job := range jobs {
		assert.Equal(t, jobs[0], job)
	}
	assert.Len(t, s.pods(request.Pod.UID), 1)
	assert.Len(t, s.recorder.requests("PATCH"), 1)
}

// TestCrashAtEachStep cuts the n-th request of a create, before it is sent or
// after it took effect, restarts the plugin and asks again.
func TestCrashAtEachStep(t *testing.T) {
	t.Parallel()
	first := start(t, nil)
	for _, after := range []bool{false, true} {
		for step := range 5 {
			request := withObjects(originPod("crash"))
			var mu sync.Mutex
			count := 0
			first.recorder.setFault(func(r *http.Request) (error, bool) {
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
			})
			code, body, header := first.call(http.MethodPost, interlink.PathCreate, request, nil)
			assert.Equal(t, http.StatusServiceUnavailable, code, "step %d after %v: %s", step, after, body)
			assert.Empty(t, header.Get(interlink.HeaderRefusal), "worth a retry")
			assert.NotContains(t, body, "injected", "transport errors stay inside")
			first.recorder.setFault(nil)

			second := startIn(t, first.admin, first.namespace, nil)
			second.create(request)
			pods := second.pods(request.Pod.UID)
			require.Len(t, pods, 1, "step %d after %v", step, after)
			assert.Empty(t, pods[0].Spec.SchedulingGates)
			for _, volume := range pods[0].Spec.Volumes {
				if volume.Secret == nil {
					continue
				}
				secret, err := first.admin.CoreV1().Secrets(first.namespace).Get(t.Context(), volume.Secret.SecretName, metav1.GetOptions{})
				require.NoError(t, err)
				assert.Equal(t, pods[0].UID, secret.OwnerReferences[0].UID)
			}
			second.delete(&request.Pod)
		}
	}
	assert.Eventually(t, func() bool {
		secrets, err := first.admin.CoreV1().Secrets(first.namespace).List(t.Context(), metav1.ListOptions{})
		return err == nil && len(secrets.Items) == 0
	}, 30*time.Second, 100*time.Millisecond, "no orphan is left")
}

func TestDeleteBeforeDuringAndAfterCreate(t *testing.T) {
	t.Parallel()
	s := start(t, nil)

	before := originPod("before")
	s.delete(&before.Pod)
	code, body, header := s.call(http.MethodPost, interlink.PathCreate, before, nil)
	assert.Equal(t, http.StatusConflict, code, body)
	assert.Equal(t, "true", header.Get(interlink.HeaderRefusal))
	assert.Empty(t, s.pods(before.Pod.UID))

	during := withObjects(originPod("during"))
	reached, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	s.recorder.setFault(func(r *http.Request) (error, bool) {
		if r.Method == http.MethodPost && strings.HasSuffix(r.URL.Path, "/secrets") {
			once.Do(func() { close(reached) })
			<-release
		}
		return nil, false
	})
	var group sync.WaitGroup
	group.Go(func() {
		code, _, _ := s.call(http.MethodPost, interlink.PathCreate, during, nil)
		assert.Equal(t, http.StatusConflict, code)
	})
	<-reached
	group.Go(func() { s.delete(&during.Pod) })
	// The delete has been taken once a further create is told so.
	assert.Eventually(t, func() bool {
		return s.answersSoon(during) == http.StatusConflict
	}, 10*time.Second, 10*time.Millisecond)
	close(release)
	group.Wait()
	s.recorder.setFault(nil)
	assert.Empty(t, s.pods(during.Pod.UID))

	after := originPod("after")
	s.create(after)
	s.delete(&after.Pod)
	s.delete(&after.Pod)
	assert.Eventually(t, func() bool { return len(s.pods(after.Pod.UID)) == 0 }, 10*time.Second, 20*time.Millisecond)
}

func TestDeleteFindsWhatTheTableDoesNotKnow(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	request := originPod("other-client")
	code, body, _ := s.call(http.MethodPost, interlink.PathCreate, request, map[string]string{interlink.HeaderClient: "alice"})
	require.Equal(t, http.StatusOK, code, body)
	s.delete(&request.Pod)
	assert.Len(t, s.pods(request.Pod.UID), 1, "another client's pod stays")
	code, _, _ = s.call(http.MethodPost, interlink.PathDelete, &request.Pod, map[string]string{interlink.HeaderClient: "alice"})
	assert.Equal(t, http.StatusOK, code)
	assert.Empty(t, s.pods(request.Pod.UID))
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	host := originPod("host")
	host.Pod.Spec.HostNetwork = true
	host.Pod.Spec.Volumes = []corev1.Volume{{Name: "home", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/home"}}}}
	code, body, header := s.call(http.MethodPost, interlink.PathCreate, host, nil)
	assert.Equal(t, http.StatusUnprocessableEntity, code)
	assert.Equal(t, "true", header.Get(interlink.HeaderRefusal))
	assert.Contains(t, body, "spec.hostNetwork")
	assert.Contains(t, body, "/home")

	invalid := originPod("invalid")
	invalid.Pod.Spec.Containers[0].Image = ""
	code, body, header = s.call(http.MethodPost, interlink.PathCreate, invalid, nil)
	assert.Equal(t, http.StatusUnprocessableEntity, code, body)
	assert.Equal(t, "true", header.Get(interlink.HeaderRefusal))
	assert.Contains(t, body, "image")

	missing := withObjects(originPod("missing"))
	missing.Containers = nil
	code, body, header = s.call(http.MethodPost, interlink.PathCreate, missing, nil)
	assert.Equal(t, http.StatusUnprocessableEntity, code)
	assert.Empty(t, header.Get(interlink.HeaderRefusal), "objects may appear")
	assert.Contains(t, body, "ConfigMap physics/settings")

	code, body, header = s.call(http.MethodPost, interlink.PathCreate, map[string]any{"pod": map[string]any{
		"metadata": map[string]any{"name": "n", "namespace": "physics", "uid": "u-1"},
		"spec":     map[string]any{"containers": []any{map[string]any{"name": "c", "image": "i", "flyingCarpet": true}}},
	}}, nil)
	assert.Equal(t, http.StatusUnprocessableEntity, code)
	assert.Equal(t, "true", header.Get(interlink.HeaderRefusal))
	assert.Contains(t, body, "flyingCarpet")
}

func TestPodSecurityAndQuota(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	namespace, err := s.admin.CoreV1().Namespaces().Get(t.Context(), s.namespace, metav1.GetOptions{})
	require.NoError(t, err)
	namespace.Labels["pod-security.kubernetes.io/enforce"] = "restricted"
	_, err = s.admin.CoreV1().Namespaces().Update(t.Context(), namespace, metav1.UpdateOptions{})
	require.NoError(t, err)
	request := originPod("psa")
	var header http.Header
	require.Eventually(t, func() bool {
		request = originPod("psa")
		var code int
		code, _, header = s.call(http.MethodPost, interlink.PathCreate, request, nil)
		return code == http.StatusUnprocessableEntity
	}, 10*time.Second, 100*time.Millisecond)
	assert.Equal(t, "true", header.Get(interlink.HeaderRefusal))

	q := start(t, nil)
	quota := &corev1.ResourceQuota{
		ObjectMeta: metav1.ObjectMeta{Name: "none"},
		Spec:       corev1.ResourceQuotaSpec{Hard: corev1.ResourceList{corev1.ResourcePods: resource.MustParse("1")}},
	}
	_, err = q.admin.CoreV1().ResourceQuotas(q.namespace).Create(t.Context(), quota, metav1.CreateOptions{})
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		current, err := q.admin.CoreV1().ResourceQuotas(q.namespace).Get(t.Context(), "none", metav1.GetOptions{})
		return err == nil && len(current.Status.Hard) > 0
	}, 20*time.Second, 100*time.Millisecond)
	one := originPod("one")
	q.create(one)
	two := originPod("two")
	code, body, header := q.call(http.MethodPost, interlink.PathCreate, two, nil)
	assert.Equal(t, http.StatusServiceUnavailable, code)
	assert.Empty(t, header.Get(interlink.HeaderRefusal), "quota can be freed")
	assert.Contains(t, body, "exceeded quota")
	q.delete(&one.Pod)
	assert.Eventually(t, func() bool {
		code, _, _ := q.call(http.MethodPost, interlink.PathCreate, two, nil)
		return code == http.StatusOK
	}, 20*time.Second, 200*time.Millisecond, "the retry succeeds")
}

func TestForeignPodWithTheNameIsNotAdopted(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	request := originPod("squat")
	name := translate.RemoteName("default", "c1", "physics", "squat", string(request.Pod.UID))
	_, err := s.admin.CoreV1().Pods(s.namespace).Create(t.Context(), &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "x", Image: "x"}}},
	}, metav1.CreateOptions{})
	require.NoError(t, err)
	code, body, _ := s.call(http.MethodPost, interlink.PathCreate, request, nil)
	assert.Equal(t, http.StatusServiceUnavailable, code)
	assert.Contains(t, body, "not this one")
	s.delete(&request.Pod)
	_, err = s.admin.CoreV1().Pods(s.namespace).Get(t.Context(), name, metav1.GetOptions{})
	assert.NoError(t, err, "and not deleted")
}

func TestNamespaceThatIsBeingTerminated(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	held := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "held", Finalizers: []string{"example.org/hold"}}}
	_, err := s.admin.CoreV1().ConfigMaps(s.namespace).Create(t.Context(), held, metav1.CreateOptions{})
	require.NoError(t, err)
	require.NoError(t, s.admin.CoreV1().Namespaces().Delete(t.Context(), s.namespace, metav1.DeleteOptions{}))
	code, body, header := s.call(http.MethodPost, interlink.PathCreate, originPod("late"), nil)
	assert.Equal(t, http.StatusServiceUnavailable, code)
	assert.Empty(t, header.Get(interlink.HeaderRefusal))
	assert.Contains(t, body, "being terminated")
}

func TestSameNameWithNewUID(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	first, second := originPod("web-0"), originPod("web-0")
	assert.NotEqual(t, s.create(first), s.create(second))
	s.delete(&first.Pod)
	assert.Eventually(t, func() bool { return len(s.pods(first.Pod.UID)) == 0 }, 10*time.Second, 20*time.Millisecond)
	assert.Len(t, s.pods(second.Pod.UID), 1, "the new one stays")
}

func TestNamespaceMap(t *testing.T) {
	t.Parallel()
	other := start(t, nil)
	s := start(t, nil)
	mapped := startIn(t, s.admin, s.namespace, func(settings *plugin.Settings) {
		settings.Namespace = plugin.NamespaceRule{Mode: plugin.NamespaceMap, Map: map[string]string{"physics": s.namespace, "biology": other.namespace}}
	})
	first, second, third := originPod("a"), originPod("b"), originPod("c")
	second.Pod.Namespace, third.Pod.Namespace = "biology", "unknown"
	assert.True(t, strings.HasPrefix(mapped.create(first), s.namespace+"/"))
	assert.True(t, strings.HasPrefix(mapped.create(second), other.namespace+"/"))
	code, body, header := mapped.call(http.MethodPost, interlink.PathCreate, third, nil)
	assert.Equal(t, http.StatusUnprocessableEntity, code)
	assert.Equal(t, "true", header.Get(interlink.HeaderRefusal))
	assert.Contains(t, body, "namespace.map")
	mapped.delete(&second.Pod)
	assert.Empty(t, other.pods(second.Pod.UID))
}
