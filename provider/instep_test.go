// SPDX-License-Identifier: Apache-2.0

package provider_test

import (
	"fmt"
	"net/http"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/metadata/fake"
	clienttesting "k8s.io/client-go/testing"

	"github.com/cloudveneto/caas/internal/interlink"
	"github.com/cloudveneto/caas/provider/providertest"
)

// registry is the metadata of the origin's objects, as a watch of them shows it.
func registry(t *testing.T) *fake.FakeMetadataClient {
	t.Helper()
	scheme := fake.NewTestScheme()
	require.NoError(t, metav1.AddMetaToScheme(scheme))
	return fake.NewSimpleMetadataClient(scheme)
}

// put writes an object with a version, in content and metadata.
func (h *harness) put(object runtime.Object, version int) {
	h.t.Helper()
	var resource schema.GroupVersionResource
	var meta *metav1.ObjectMeta
	kind := "ConfigMap"
	switch typed := object.(type) {
	case *corev1.ConfigMap:
		resource, meta = corev1.SchemeGroupVersion.WithResource("configmaps"), &typed.ObjectMeta
	case *corev1.Secret:
		resource, meta, kind = corev1.SchemeGroupVersion.WithResource("secrets"), &typed.ObjectMeta, "Secret"
	default:
		require.FailNow(h.t, "unknown object")
	}
	meta.Namespace, meta.ResourceVersion = "user", strconv.Itoa(version)
	shown := &metav1.PartialObjectMetadata{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: kind}, ObjectMeta: *meta}
	if _, err := h.client.Tracker().Get(resource, "user", meta.Name); err == nil {
		require.NoError(h.t, h.client.Tracker().Update(resource, object, "user"))
		require.NoError(h.t, h.objects.Tracker().Update(resource, shown, "user"))
		return
	}
	require.NoError(h.t, h.client.Tracker().Create(resource, object, "user"))
	require.NoError(h.t, h.objects.Tracker().Create(resource, shown, "user"))
}

func configMap(name, value string) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}, Data: map[string]string{"key": value}}
}

func mounts(name string) func(*corev1.Pod) {
	return func(pod *corev1.Pod) {
		pod.Spec.Volumes = append(pod.Spec.Volumes, corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{
			ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: name}},
		}})
	}
}

// reads counts the reads of an object's content.
func (h *harness) reads(name string) int {
	count := 0
	for _, action := range h.client.Actions() {
		if get, ok := action.(clienttesting.GetAction); ok && get.GetVerb() == "get" && get.GetName() == name {
			count++
		}
	}
	return count
}

// watched waits until n objects are watched.
func (h *harness) watched(n int) {
	h.t.Helper()
	h.until(fmt.Sprintf("%d objects are watched", n), func() bool { return int(h.objectWatches.Load()) == n })
}

func (h *harness) updates(name string) []interlink.CreateRequest {
	return h.far.Updates(h.t, types.UID("uid-"+name))
}

func TestChangesOfAnObjectReachAllItsPodsByOneRead(t *testing.T) {
	t.Parallel()
	h := start(t, providertest.Options{Extensions: providertest.All(), AutoRun: true})
	h.put(configMap("deck", "one"), 10)
	h.up()
	const pods = 300
	for i := range pods {
		h.add(newPod(fmt.Sprint("w", i), mounts("deck")))
	}
	h.untilHeld(pods)
	h.watched(1)
	before := h.reads("deck")
	h.put(configMap("deck", "two"), 11)
	h.put(configMap("deck", "three"), 12)
	h.until("every pod is updated", func() bool { return len(h.far.Requests("")) >= 1+2*pods })
	assert.Equal(t, 1, h.reads("deck")-before)
	for i := range pods {
		updates := h.updates(fmt.Sprint("w", i))
		require.Len(t, updates, 1, "changes of a moment are one update")
		assert.Equal(t, "three", updates[0].ConfigMaps[0].Data["key"])
	}
}

func TestUpdatesAreNotSentToUpstream(t *testing.T) {
	t.Parallel()
	h := start(t, providertest.Options{AutoRun: true})
	h.put(configMap("deck", "one"), 10)
	h.up()
	h.add(newPod("a", mounts("deck")))
	h.untilPhase("a", corev1.PodRunning)
	h.put(configMap("deck", "two"), 11)
	h.relabel("a", "colour", "red")
	h.never("an update", func() bool { return len(h.updates("a")) > 0 })
	assert.Zero(t, h.objectWatches.Load())
	request := providertest.Decode[interlink.CreateRequest](t, h.far.Requests(interlink.PathCreate)[0])
	assert.NotContains(t, request.Pod.Annotations, interlink.AnnotationRevision)
}

func TestLivePodUpdates(t *testing.T) {
	t.Parallel()
	h := start(t, providertest.Options{Extensions: providertest.All(), AutoRun: true})
	h.up()
	h.add(newPod("a"))
	h.untilPhase("a", corev1.PodRunning)
	h.relabel("a", "colour", "red")
	h.until("the label", func() bool { return len(h.updates("a")) == 1 })
	assert.Equal(t, "red", h.updates("a")[0].Pod.Labels["colour"])
	assert.Equal(t, clusterID, h.updates("a")[0].Pod.Annotations[interlink.AnnotationOriginCluster])
	h.patch("a", `{"spec":{"containers":[{"name":"main","image":"busybox:2"}]}}`)
	h.until("the image", func() bool { return len(h.updates("a")) == 2 })
	assert.Equal(t, "busybox:2", h.updates("a")[1].Pod.Spec.Containers[0].Image)
	h.delete("a")
	h.untilGone("a")
	assert.Len(t, h.updates("a"), 2, "the status and the deletion are no updates")
}

func TestUpdatesAfterARestart(t *testing.T) {
	t.Parallel()
	h := start(t, providertest.Options{Extensions: providertest.All(), AutoRun: true})
	h.put(configMap("deck", "one"), 10)
	h.put(configMap("still", "one"), 20)
	h.up()
	h.add(newPod("a", mounts("deck")))
	h.add(newPod("b", mounts("still")))
	h.untilHeld(2)
	h.watched(2)
	h.stop()
	h.put(configMap("deck", "two"), 11)
	h.up()
	h.until("what changed meanwhile arrives", func() bool { return len(h.updates("a")) == 1 })
	assert.Equal(t, "two", h.updates("a")[0].ConfigMaps[0].Data["key"])
	h.never("an update of what did not change", func() bool { return len(h.updates("b")) > 0 || len(h.updates("a")) > 1 })
}

func TestFailedUpdates(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		fault  providertest.Fault
		faults int
		event  bool
		sent   int
	}{
		"passes":      {providertest.Fault{Code: http.StatusServiceUnavailable, Message: "overloaded"}, 4, true, 5},
		"soon over":   {providertest.Fault{Code: http.StatusServiceUnavailable, Message: "overloaded"}, 1, false, 2},
		"refused":     {providertest.Fault{Code: http.StatusUnprocessableEntity, Message: "no such image here", Refuse: true}, 1, true, 1},
		"ending":      {providertest.Fault{Code: http.StatusConflict, Message: "the pod is ending"}, 4, false, 5},
		"not held":    {providertest.Fault{Code: http.StatusNotFound, Message: "no such pod"}, 4, false, 5},
		"cut off":     {providertest.Fault{CutAfter: true}, 1, false, 2},
		"not arrived": {providertest.Fault{CutBefore: true}, 1, false, 2},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := start(t, providertest.Options{Extensions: providertest.All(), AutoRun: true})
			h.up()
			h.add(newPod("a"))
			h.untilPhase("a", corev1.PodRunning)
			for range test.faults {
				h.far.Fail(interlink.PodUpdatePath("uid-a"), test.fault)
			}
			h.relabel("a", "colour", "red")
			h.until("tried", func() bool { return len(h.updates("a")) >= test.sent })
			h.never("more tries", func() bool { return len(h.updates("a")) > test.sent })
			if test.event {
				assert.Contains(t, h.untilEvent("RemoteUpdateFailed"), test.fault.Message)
			}
			assert.Empty(t, h.events.Events, "once per problem")
			assert.Equal(t, corev1.PodRunning, h.pod("a").Status.Phase)
		})
	}
}

func TestMissingObjectsDoNotHoldUpTheOthers(t *testing.T) {
	t.Parallel()
	h := start(t, providertest.Options{Extensions: providertest.All(), AutoRun: true})
	h.put(configMap("deck", "one"), 10)
	h.put(configMap("gone", "one"), 20)
	h.up()
	h.add(newPod("a", mounts("deck"), mounts("gone")))
	h.untilHeld(1)
	h.watched(2)
	resource := corev1.SchemeGroupVersion.WithResource("configmaps")
	require.NoError(t, h.client.Tracker().Delete(resource, "user", "gone"))
	require.NoError(t, h.objects.Tracker().Delete(resource, "user", "gone"))
	h.put(configMap("deck", "two"), 11)
	h.until("the other arrives", func() bool { return len(h.updates("a")) == 1 })
	require.Len(t, h.updates("a")[0].ConfigMaps, 1)
	assert.Equal(t, "two", h.updates("a")[0].ConfigMaps[0].Data["key"])
	h.never("more updates", func() bool { return len(h.updates("a")) > 1 })
}

func TestImmutableObjectsAreNotWatched(t *testing.T) {
	t.Parallel()
	h := start(t, providertest.Options{Extensions: providertest.All(), AutoRun: true})
	fixed := configMap("fixed", "one")
	fixed.Immutable = new(true)
	h.put(fixed, 10)
	h.up()
	h.add(newPod("a", mounts("fixed")))
	h.untilPhase("a", corev1.PodRunning)
	h.until("no watch", func() bool { return h.figure("virtual_kubelet_followed_objects") == 0 })
	h.never("an update", func() bool { return len(h.updates("a")) > 0 })
}

// withToken adds the volume that admission adds to every pod.
func withToken(seconds int64) func(*corev1.Pod) {
	return func(pod *corev1.Pod) {
		pod.Spec.ServiceAccountName = "default"
		pod.Spec.Volumes = append(pod.Spec.Volumes, corev1.Volume{Name: "token", VolumeSource: corev1.VolumeSource{
			Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{
				{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Path: "token", ExpirationSeconds: &seconds, Audience: "storage"}},
				{ConfigMap: &corev1.ConfigMapProjection{LocalObjectReference: corev1.LocalObjectReference{Name: "kube-root-ca.crt"}}},
			}},
		}})
	}
}

// tokens makes the origin issue tokens that are numbered; it returns how many there were.
func (h *harness) tokens() func() int {
	var issued []*authenticationv1.TokenRequest
	h.client.PrependReactor("create", "serviceaccounts", func(action clienttesting.Action) (bool, runtime.Object, error) {
		create, ok := action.(clienttesting.CreateAction)
		if !ok || action.GetSubresource() != "token" {
			return false, nil, nil
		}
		h.mu.Lock()
		defer h.mu.Unlock()
		request, _ := create.GetObject().(*authenticationv1.TokenRequest)
		request = request.DeepCopy()
		issued = append(issued, request)
		life := time.Duration(*request.Spec.ExpirationSeconds) * time.Second
		request.Status = authenticationv1.TokenRequestStatus{
			Token: fmt.Sprint("token-", len(issued)), ExpirationTimestamp: metav1.NewTime(time.Now().Add(life)),
		}
		return true, request, nil
	})
	return func() int {
		h.mu.Lock()
		defer h.mu.Unlock()
		return len(issued)
	}
}

func TestTokensAreLeftAloneByOtherUpdates(t *testing.T) {
	t.Parallel()
	h := start(t, providertest.Options{Extensions: providertest.All(), AutoRun: true})
	issued := h.tokens()
	h.put(configMap("deck", "one"), 10)
	h.put(configMap("kube-root-ca.crt", "authority"), 11)
	h.up()
	h.add(newPod("a", mounts("deck"), withToken(3600)))
	h.untilPhase("a", corev1.PodRunning)
	h.watched(2)
	h.put(configMap("deck", "two"), 12)
	h.until("an update", func() bool { return len(h.updates("a")) == 1 })
	assert.Empty(t, h.updates("a")[0].ProjectedVolumes)
	assert.Equal(t, 1, issued())
	h.put(configMap("kube-root-ca.crt", "another"), 13)
	h.until("a second one", func() bool { return len(h.updates("a")) == 2 })
	assert.Equal(t, "another", h.updates("a")[1].ProjectedVolumes[0].Data["key"], "the file stands beside the token")
	assert.Equal(t, "token-2", h.updates("a")[1].ProjectedVolumes[0].Data["token"])
}
