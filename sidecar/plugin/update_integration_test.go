// SPDX-License-Identifier: Apache-2.0

//go:build integration

package plugin_test

import (
	"maps"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/uuid"

	"github.com/cloudveneto/caas/internal/interlink"
	"github.com/cloudveneto/caas/sidecar/plugin"
	"github.com/cloudveneto/caas/sidecar/plugin/translate"
)

// asUpdate is the update that says the same as a create.
func asUpdate(created *interlink.PluginPod) *interlink.CreateRequest {
	update := &interlink.CreateRequest{Pod: *created.Pod.DeepCopy()}
	for _, container := range created.Containers {
		for i := range container.ConfigMaps {
			update.ConfigMaps = append(update.ConfigMaps, *container.ConfigMaps[i].DeepCopy())
		}
		for i := range container.Secrets {
			update.Secrets = append(update.Secrets, *container.Secrets[i].DeepCopy())
		}
		for i := range container.ProjectedVolumes {
			update.ProjectedVolumes = append(update.ProjectedVolumes, *container.ProjectedVolumes[i].DeepCopy())
		}
	}
	return update
}

func (s *sidecar) update(request *interlink.CreateRequest) (int, string, http.Header) {
	s.t.Helper()
	return s.call(http.MethodPost, interlink.PodUpdatePath(string(request.Pod.UID)), request, nil)
}

func (s *sidecar) updated(request *interlink.CreateRequest) {
	s.t.Helper()
	code, body, _ := s.update(request)
	require.Equal(s.t, http.StatusOK, code, body)
}

// live is the one created pod of an origin's pod, with its ConfigMaps and Secrets by
// their names at the origin.
func (s *sidecar) live(uid types.UID) (corev1.Pod, map[string]corev1.ConfigMap, map[string]corev1.Secret) {
	s.t.Helper()
	pods := s.pods(uid)
	require.Len(s.t, pods, 1)
	selected := metav1.ListOptions{LabelSelector: translate.LabelUID + "=" + string(uid)}
	configMaps, secrets := map[string]corev1.ConfigMap{}, map[string]corev1.Secret{}
	maps1, err := s.admin.CoreV1().ConfigMaps(s.namespace).List(s.t.Context(), selected)
	require.NoError(s.t, err)
	for _, object := range maps1.Items {
		configMaps[object.Annotations[translate.AnnotationName]] = object
	}
	maps2, err := s.admin.CoreV1().Secrets(s.namespace).List(s.t.Context(), selected)
	require.NoError(s.t, err)
	for _, object := range maps2.Items {
		secrets[object.Annotations[translate.AnnotationName]] = object
	}
	return pods[0], configMaps, secrets
}

func TestUpdateWritesWhatDiffers(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	created := withObjects(originPod("step"))
	created.Pod.Labels = map[string]string{"colour": "red", "shape": "round"}
	created.Pod.Annotations["note"] = "first"
	created.Pod.Annotations["passing"] = "yes"
	s.create(created)
	before, configMapsBefore, secretsBefore := s.live(created.Pod.UID)

	update := asUpdate(created)
	s.recorder.reset()
	s.updated(update)
	assert.Empty(t, append(s.recorder.requests(http.MethodPut), s.recorder.requests(http.MethodPatch)...), "nothing differs")

	update.ConfigMaps[0].Data = map[string]string{"c": "2"}
	update.ProjectedVolumes[0].Data = map[string]string{"token": "another", "extra": "file"}
	update.Pod.Labels = map[string]string{"colour": "green"}
	update.Pod.Annotations["note"] = "second"
	delete(update.Pod.Annotations, "passing")
	update.Pod.Annotations[interlink.AnnotationRevision] = "a.b.c"
	update.Pod.Annotations[interlink.AnnotationRefreshAt] = "2030-01-02T03:04:05Z"
	update.Pod.Spec.Containers[0].Image = "example.org/main:2"
	update.Pod.Spec.ActiveDeadlineSeconds = new(int64(3600))
	update.Pod.Spec.Tolerations = append(update.Pod.Spec.Tolerations, corev1.Toleration{
		Key: "node.kubernetes.io/disk-pressure", Operator: corev1.TolerationOpExists,
	})
	s.recorder.reset()
	s.updated(update)
	assert.Len(t, s.recorder.requests(http.MethodPut), 2, "the ConfigMap and the files of the volume")
	after, configMaps, secrets := s.live(created.Pod.UID)
	assert.Equal(t, before.UID, after.UID)
	assert.Equal(t, map[string]string{"c": "2"}, configMaps["settings"].Data)
	assert.Equal(t, configMapsBefore["settings"].UID, configMaps["settings"].UID)
	assert.Equal(t, secretsBefore["key"].ResourceVersion, secrets["key"].ResourceVersion)
	assert.Equal(t, map[string][]byte{"token": []byte("another"), "extra": []byte("file")}, secrets["kube-api-access"].Data)
	assert.Equal(t, "green", after.Labels["labels.offload.infn.it/colour"])
	assert.NotContains(t, after.Labels, "labels.offload.infn.it/shape")
	assert.Equal(t, "second", after.Annotations["note"])
	assert.NotContains(t, after.Annotations, "passing")
	assert.Equal(t, before.Annotations[translate.AnnotationReport], after.Annotations[translate.AnnotationReport])
	assert.Equal(t, "example.org/main:2", after.Spec.Containers[0].Image)
	assert.Equal(t, int64(3600), *after.Spec.ActiveDeadlineSeconds)
	assert.Contains(t, after.Spec.Tolerations, update.Pod.Spec.Tolerations[len(update.Pod.Spec.Tolerations)-1])

	s.recorder.reset()
	s.updated(update)
	assert.Empty(t, append(s.recorder.requests(http.MethodPut), s.recorder.requests(http.MethodPatch)...), "a repeated update")
	s.delete(&created.Pod)
}

func TestUpdateLeavesWhatDidNotCome(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	created := withObjects(originPod("partial"))
	s.create(created)
	_, _, before := s.live(created.Pod.UID)
	update := asUpdate(created)
	update.ProjectedVolumes, update.Secrets = nil, nil
	update.ConfigMaps[0].Data = map[string]string{"a": "2"}
	s.updated(update)
	_, configMaps, secrets := s.live(created.Pod.UID)
	assert.Equal(t, "2", configMaps["settings"].Data["a"])
	for _, name := range []string{"key", "kube-api-access"} {
		assert.Equal(t, before[name].ResourceVersion, secrets[name].ResourceVersion, name)
	}
	s.delete(&created.Pod)
}

func TestUpdateKeepsWhatTheTargetMade(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	created := originPod("mutated")
	s.create(created)
	pod, _, _ := s.live(created.Pod.UID)
	_, err := s.admin.CoreV1().Pods(s.namespace).Patch(t.Context(), pod.Name, types.StrategicMergePatchType,
		[]byte(`{"metadata":{"annotations":{"cni/ip":"10.0.0.1"},"labels":{"pool":"x"}},"spec":{"containers":[{"name":"main","image":"mirror/main:1"}]}}`), metav1.PatchOptions{})
	require.NoError(t, err)
	update := asUpdate(created)
	update.Pod.Annotations["note"] = "new"
	s.updated(update)
	after, _, _ := s.live(created.Pod.UID)
	assert.Equal(t, "new", after.Annotations["note"])
	assert.Equal(t, "10.0.0.1", after.Annotations["cni/ip"])
	assert.Equal(t, "x", after.Labels["pool"])
	assert.Equal(t, "mirror/main:1", after.Spec.Containers[0].Image, "the origin has not changed it")
	update.Pod.Spec.Containers[0].Image = "example.org/main:3"
	s.updated(update)
	after, _, _ = s.live(created.Pod.UID)
	assert.Equal(t, "example.org/main:3", after.Spec.Containers[0].Image)
	s.delete(&created.Pod)
}

func TestUpdateIsRefused(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	created := withObjects(originPod("refused"))
	s.create(created)
	for name, test := range map[string]struct {
		change func(*interlink.CreateRequest)
		header map[string]string
		path   string
		code   int
	}{
		"unknown pod":         {func(u *interlink.CreateRequest) { u.Pod.UID = uuid.NewUUID() }, nil, "", http.StatusNotFound},
		"another node's":      {func(u *interlink.CreateRequest) { u.Pod.Annotations[interlink.AnnotationOriginNode] = "vk2" }, nil, "", http.StatusNotFound},
		"another cluster's":   {func(u *interlink.CreateRequest) { u.Pod.Annotations[interlink.AnnotationOriginCluster] = "c2" }, nil, "", http.StatusNotFound},
		"another client's":    {nil, map[string]string{interlink.HeaderClient: "mallory"}, "", http.StatusNotFound},
		"another name":        {func(u *interlink.CreateRequest) { u.Pod.Name = "other" }, nil, "", http.StatusNotFound},
		"path of another pod": {nil, nil, interlink.PodUpdatePath(string(uuid.NewUUID())), http.StatusBadRequest},
	} {
		update := asUpdate(created)
		update.ConfigMaps[0].Data = map[string]string{"stolen": name}
		if test.change != nil {
			test.change(update)
		}
		if test.path == "" {
			test.path = interlink.PodUpdatePath(string(update.Pod.UID))
		}
		code, body, _ := s.call(http.MethodPost, test.path, update, test.header)
		assert.Equal(t, test.code, code, "%s: %s", name, body)
	}
	code, _, _ := s.call(http.MethodPost, interlink.PodUpdatePath("no-pod"), "text", nil)
	assert.Equal(t, http.StatusBadRequest, code)
	_, configMaps, _ := s.live(created.Pod.UID)
	assert.Equal(t, map[string]string{"a": "1"}, configMaps["settings"].Data)

	s.delete(&created.Pod)
	code, body, _ := s.update(asUpdate(created))
	assert.Contains(t, []int{http.StatusNotFound, http.StatusConflict}, code, body)
	assert.Empty(t, s.recorder.requests("POST /api/v1/namespaces/" + s.namespace + "/pods")[1:], "no pod is created by an update")
}

func TestUpdateOfAPodThatThePolicyWouldNotTakeAnyMore(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	created := withObjects(originPod("strict"))
	created.Pod.Spec.Containers[0].SecurityContext = &corev1.SecurityContext{Capabilities: &corev1.Capabilities{Add: []corev1.Capability{"NET_ADMIN"}}}
	s.create(created)
	stricter := startIn(t, s.admin, s.namespace, func(settings *plugin.Settings) {
		settings.Policy.RefusedCapabilities = []corev1.Capability{"NET_ADMIN"}
	})
	update := asUpdate(created)
	update.ProjectedVolumes[0].Data = map[string]string{"token": "fresh"}
	update.Pod.Spec.Containers[0].Image = "example.org/main:2"
	code, body, header := stricter.update(update)
	assert.Equal(t, http.StatusUnprocessableEntity, code)
	assert.Equal(t, "true", header.Get(interlink.HeaderRefusal))
	assert.Contains(t, body, "NET_ADMIN")
	pod, _, secrets := s.live(created.Pod.UID)
	assert.Equal(t, "fresh", string(secrets["kube-api-access"].Data["token"]), "it runs, so its token is renewed")
	assert.Equal(t, "example.org/main:1", pod.Spec.Containers[0].Image)
	s.delete(&created.Pod)
}

func TestUpdateOfObjectsOfAllKinds(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	created := withObjects(originPod("kinds"))
	created.Containers[0].Secrets[0].Type = corev1.SecretType("example.org/one")
	fixed := created.Containers[0].ConfigMaps[0].DeepCopy()
	fixed.Name, fixed.Immutable = "fixed", new(true)
	created.Containers[0].ConfigMaps = append(created.Containers[0].ConfigMaps, *fixed)
	created.Pod.Spec.Volumes = append(created.Pod.Spec.Volumes,
		corev1.Volume{Name: "fixed", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: "fixed"}}}})
	created.Pod.Spec.Volumes[0].ConfigMap.Items = []corev1.KeyToPath{{Key: "a", Path: "a"}}
	created.Pod.Spec.ImagePullSecrets = []corev1.LocalObjectReference{{Name: "pull"}}
	created.Referenced = &interlink.ReferencedObjects{Secrets: []corev1.Secret{{
		ObjectMeta: metav1.ObjectMeta{Name: "pull", Namespace: "physics"}, Type: corev1.SecretTypeDockerConfigJson,
		Data: map[string][]byte{corev1.DockerConfigJsonKey: []byte(`{"auths":{}}`)},
	}}}
	s.create(created)
	update := asUpdate(created)
	update.Secrets = append(update.Secrets, created.Referenced.Secrets...)
	update.Secrets[0].Type = "example.org/two"
	update.Secrets[1].Data = map[string][]byte{corev1.DockerConfigJsonKey: []byte(`{"auths":{"r":{}}}`)}
	update.ConfigMaps[0].Data = map[string]string{"other": "key"}
	update.ConfigMaps[1].Data = map[string]string{"changed": "yes"}
	s.updated(update)
	pod, configMaps, secrets := s.live(created.Pod.UID)
	assert.Equal(t, corev1.SecretType("example.org/two"), secrets["key"].Type, "made anew: the type cannot change")
	assert.Equal(t, pod.UID, secrets["key"].OwnerReferences[0].UID)
	assert.JSONEq(t, `{"auths":{"r":{}}}`, string(secrets["pull"].Data[corev1.DockerConfigJsonKey]))
	assert.Equal(t, map[string]string{"a": "1", "other": "key"}, configMaps["settings"].Data, "a listed key stays, or no file would be refreshed")
	assert.Equal(t, map[string]string{"a": "1"}, maps.Clone(configMaps["fixed"].Data), "immutable")

	// What somebody removed comes back.
	require.NoError(t, s.admin.CoreV1().Secrets(s.namespace).Delete(t.Context(), secrets["pull"].Name, metav1.DeleteOptions{}))
	s.updated(update)
	_, _, secrets = s.live(created.Pod.UID)
	assert.Contains(t, secrets, "pull")
	assert.True(t, strings.HasPrefix(secrets["pull"].Name, "pull-"))
	s.delete(&created.Pod)
}

// TestUpdateUnderAnImageRule wants a policy that has changed to restart nothing, and an image that the origin has changed
// to come from where the policy says.
func TestUpdateUnderAnImageRule(t *testing.T) {
	t.Parallel()
	first := start(t, nil)
	created := originPod("mirrored")
	first.create(created)
	s := startIn(t, first.admin, first.namespace, func(settings *plugin.Settings) {
		settings.Policy.Images = []translate.ImageRule{{Match: "example.org/*", Replace: "mirror.example.org"}}
	})
	update := asUpdate(created)
	update.Pod.Annotations["note"] = "new"
	s.updated(update)
	live, _, _ := s.live(created.Pod.UID)
	assert.Equal(t, "new", live.Annotations["note"])
	assert.Equal(t, "example.org/main:1", live.Spec.Containers[0].Image)

	update.Pod.Spec.Containers[0].Image = "example.org/main:2"
	s.updated(update)
	live, _, _ = s.live(created.Pod.UID)
	assert.Equal(t, "mirror.example.org/main:2", live.Spec.Containers[0].Image)
	version := live.ResourceVersion
	s.updated(update)
	live, _, _ = s.live(created.Pod.UID)
	assert.Equal(t, version, live.ResourceVersion, "nothing is left to do")
}
