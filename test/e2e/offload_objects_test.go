// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e_test

import (
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func (w *world) configMap(t *testing.T, name string, data map[string]string) {
	t.Helper()
	_, err := w.af.CoreV1().ConfigMaps(w.namespace).Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}, Data: data}, metav1.CreateOptions{})
	require.NoError(t, err)
	t.Cleanup(func() {
		err := w.af.CoreV1().ConfigMaps(w.namespace).Delete(w.cleanup, name, metav1.DeleteOptions{})
		assert.True(t, err == nil || apierrors.IsNotFound(err), "%v", err)
	})
}

func (w *world) secret(t *testing.T, name string, data map[string]string) {
	t.Helper()
	_, err := w.af.CoreV1().Secrets(w.namespace).Create(t.Context(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: name}, StringData: data}, metav1.CreateOptions{})
	require.NoError(t, err)
	t.Cleanup(func() {
		assert.NoError(t, w.af.CoreV1().Secrets(w.namespace).Delete(w.cleanup, name, metav1.DeleteOptions{}))
	})
}

func sharedConfigMap(t *testing.T, w *world) {
	w.configMap(t, "deck", map[string]string{"energy": "662 keV", "script": "echo ran"})
	pod := w.shell("shared-map", "cat /deck/energy")
	pod.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "deck", MountPath: "/deck"}}
	pod.Spec.Containers = append(pod.Spec.Containers, corev1.Container{
		Name: "second", Image: busybox, Command: []string{"sh", "-c", "ls -l /only/; cat /only/renamed; sh /one"},
		VolumeMounts: []corev1.VolumeMount{{Name: "items", MountPath: "/only"}, {Name: "deck", MountPath: "/one", SubPath: "script"}},
	})
	mode := int32(0o400)
	pod.Spec.Volumes = []corev1.Volume{
		{Name: "deck", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: "deck"}}}},
		{Name: "items", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{
			LocalObjectReference: corev1.LocalObjectReference{Name: "deck"}, Items: []corev1.KeyToPath{{Key: "energy", Path: "renamed", Mode: &mode}},
		}}},
	}
	w.create(t, pod)
	w.awaitPhase(t, "shared-map", corev1.PodSucceeded)
	assert.Equal(t, "662 keV", w.logs(t, "shared-map", "main"))
	second := w.logs(t, "shared-map", "second")
	assert.Contains(t, second, "662 keV")
	assert.Contains(t, second, "ran")
	// The API server removes the object of an ended pod at once, without asking
	// its node, so the remote objects follow.
	w.remove(t, "shared-map")
	w.awaitNothingRemote(t)
}

func initAndEmptyDir(t *testing.T, w *world) {
	pod := w.shell("init", "cat /shared/one /shared/two")
	mount := []corev1.VolumeMount{{Name: "shared", MountPath: "/shared"}}
	pod.Spec.Containers[0].VolumeMounts = mount
	pod.Spec.Volumes = []corev1.Volume{{Name: "shared", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}}
	pod.Spec.InitContainers = []corev1.Container{
		{Name: "one", Image: busybox, Command: []string{"sh", "-c", "echo from one > /shared/one"}, VolumeMounts: mount},
		{Name: "two", Image: busybox, Command: []string{"sh", "-c", "sed s/one/two/ /shared/one > /shared/two"}, VolumeMounts: mount},
	}
	w.create(t, pod)
	seen := w.awaitPhase(t, "init", corev1.PodSucceeded)
	assert.Equal(t, "from one\nfrom two\n", w.logs(t, "init", "main"))
	require.Len(t, seen.Status.InitContainerStatuses, 2)
	for _, status := range seen.Status.InitContainerStatuses {
		require.NotNil(t, status.State.Terminated, status.Name)
		assert.Zero(t, status.State.Terminated.ExitCode)
	}
}

func projectedToken(t *testing.T, w *world) {
	const dir = "/var/run/secrets/kubernetes.io/serviceaccount"
	pod := w.shell("token", "cat "+dir+"/token; echo; cat "+dir+"/namespace; echo; head -1 "+dir+"/ca.crt; cat /own/token; echo; env | grep ^KUBERNETES_SERVICE")
	expiry := int64(3607)
	pod.Spec.Volumes = []corev1.Volume{{Name: "own", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{
		Sources: []corev1.VolumeProjection{{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Audience: "storage.example", ExpirationSeconds: &expiry, Path: "token"}}},
	}}}}
	pod.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "own", MountPath: "/own"}}
	created := w.create(t, pod)
	w.awaitPhase(t, "token", corev1.PodSucceeded)
	lines := strings.Split(strings.TrimSpace(w.logs(t, "token", "main")), "\n")
	require.GreaterOrEqual(t, len(lines), 5, "%v", lines)
	assert.Equal(t, w.namespace, lines[1], "the namespace is the origin's")
	assert.Equal(t, "-----BEGIN CERTIFICATE-----", lines[2])
	usual, own := claims(t, lines[0]), claims(t, lines[3])
	assert.Equal(t, "system:serviceaccount:"+w.namespace+":default", usual.Subject)
	assert.Equal(t, []string{"storage.example"}, own.Audience)
	assert.InDelta(t, 3607, own.Expires-own.Issued, 1)
	assert.Equal(t, string(created.UID), own.Kubernetes.Pod.UID, "the token dies with the origin's pod")
	assert.Contains(t, strings.Join(lines[4:], "\n"), "KUBERNETES_SERVICE_HOST="+w.originAPI)
}

// tokenClaims is the part of a ServiceAccount token that the tests look at.
type tokenClaims struct {
	Audience   []string `json:"aud"`
	Subject    string   `json:"sub"`
	Issued     float64  `json:"iat"`
	Expires    float64  `json:"exp"`
	Kubernetes struct {
		Pod struct {
			UID string `json:"uid"`
		} `json:"pod"`
	} `json:"kubernetes.io"`
}

func claims(t *testing.T, token string) tokenClaims {
	t.Helper()
	parts := strings.Split(token, ".")
	require.Len(t, parts, 3, "a JWT")
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	require.NoError(t, err)
	var c tokenClaims
	require.NoError(t, json.Unmarshal(payload, &c))
	return c
}

func environment(t *testing.T, w *world) {
	w.configMap(t, "settings", map[string]string{"MODE": "fast", "LEVEL": "3"})
	w.secret(t, "credentials", map[string]string{"password": "not so secret"})
	pod := w.shell("environment", `echo "$PRE_MODE $PRE_LEVEL|$LEVEL|$PASSWORD|$NAME $NS $NODE|$APP|$GREETING|$LIMIT|$IP|$ABSENT|$HOSTNAME"`)
	pod.Labels = map[string]string{"app": "demo"}
	optional := true
	field := func(path string) *corev1.EnvVarSource {
		return &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: path}}
	}
	main := &pod.Spec.Containers[0]
	main.EnvFrom = []corev1.EnvFromSource{{Prefix: "PRE_", ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "settings"}}}}
	main.Env = []corev1.EnvVar{
		{Name: "LEVEL", ValueFrom: &corev1.EnvVarSource{ConfigMapKeyRef: &corev1.ConfigMapKeySelector{LocalObjectReference: corev1.LocalObjectReference{Name: "settings"}, Key: "LEVEL"}}},
		{Name: "PASSWORD", ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: corev1.LocalObjectReference{Name: "credentials"}, Key: "password"}}},
		{Name: "NAME", ValueFrom: field("metadata.name")},
		{Name: "NS", ValueFrom: field("metadata.namespace")},
		{Name: "NODE", ValueFrom: field("spec.nodeName")},
		{Name: "APP", ValueFrom: field("metadata.labels['app']")},
		{Name: "GREETING", Value: "hello $(NAME) $$(NAME)"},
		{Name: "LIMIT", ValueFrom: &corev1.EnvVarSource{ResourceFieldRef: &corev1.ResourceFieldSelector{Resource: "limits.cpu"}}},
		{Name: "IP", ValueFrom: field("status.podIP")},
		{Name: "ABSENT", ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: corev1.LocalObjectReference{Name: "absent"}, Key: "key", Optional: &optional}}},
	}
	main.Resources.Limits = corev1.ResourceList{corev1.ResourceCPU: quantity("1")}
	main.Resources.Requests = corev1.ResourceList{corev1.ResourceCPU: quantity("10m")}
	created := w.create(t, pod)
	remote := w.awaitRemote(t, created)
	for _, variable := range remote.Spec.Containers[0].Env {
		assert.NotContains(t, variable.Value, "not so secret", "a secret stays out of the pod's specification")
	}
	done := w.awaitPhase(t, "environment", corev1.PodSucceeded)
	assert.Equal(t, "fast 3|3|not so secret|environment "+w.namespace+" "+w.node+"|demo|hello environment $(NAME)|1|"+
		done.Status.PodIP+"||environment\n", w.logs(t, "environment", "main"))
}

func missingObjectWaits(t *testing.T, w *world) {
	pod := w.shell("patient", "cat /late/key")
	pod.Spec.Volumes = []corev1.Volume{{Name: "late", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: "late"}}}}}
	pod.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "late", MountPath: "/late"}}
	w.create(t, pod)
	eventually(t.Context(), t, "an event names the missing object", func() (bool, string) {
		described := w.kubectl(t, "describe", "pod", "patient")
		return strings.Contains(described, "ConfigMap "+w.namespace+"/late") && strings.Contains(described, "Warning"), described
	})
	seen, err := w.af.CoreV1().Pods(w.namespace).Get(t.Context(), "patient", metav1.GetOptions{})
	require.NoError(t, err)
	assert.Equal(t, corev1.PodPending, seen.Status.Phase)
	w.configMap(t, "late", map[string]string{"key": "better late"})
	w.awaitPhase(t, "patient", corev1.PodSucceeded)
	assert.Equal(t, "better late", w.logs(t, "patient", "main"))
}

func refusedPodSaysWhy(t *testing.T, w *world) {
	pod := w.shell("refused", "true")
	pod.Spec.HostNetwork = true
	created := w.create(t, pod)
	seen := w.awaitPhase(t, "refused", corev1.PodFailed)
	assert.Equal(t, "Refused", seen.Status.Reason)
	assert.Contains(t, seen.Status.Message, "hostNetwork")
	assert.Empty(t, w.remote(t, created))
	eventually(t.Context(), t, "an event names the field", func() (bool, string) {
		described := w.kubectl(t, "describe", "pod", "refused")
		return strings.Contains(described, "Refused") && strings.Contains(described, "hostNetwork"), described
	})
}
