// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/cloudveneto/caas/internal/lab"
	"github.com/cloudveneto/caas/internal/lab/offload"
	"github.com/cloudveneto/caas/test/e2e/labtest"
)

// TestFidelityInStep changes what pods refer to, and the pods, while they run.
func TestFidelityInStep(t *testing.T) {
	w := theWorld(t)
	t.Run("case 5 and 6: mounted objects", func(t *testing.T) { mountedObjectsFollow(t, w) })
	t.Run("case 6: image pull secrets", func(t *testing.T) { pullSecretsTravel(t, w) })
	t.Run("case 7: tokens", func(t *testing.T) { tokensLiveAndDieWithThePod(t, w) })
	t.Run("case 8: annotations", func(t *testing.T) { annotationsFollow(t, w) })
	t.Run("images", func(t *testing.T) { imagesFollow(t, w) })
	t.Run("a crash loop ends with the object that caused it", func(t *testing.T) { environmentFollowsAtARestart(t, w) })
	w.awaitNothingRemote(t)
}

// waiting is a pod that runs until it is deleted.
func (w *world) waiting(name string) *corev1.Pod {
	return w.shell(name, "trap exit TERM; while :; do sleep 1; done")
}

// sees waits until a command in a pod prints want, and tells how long that took.
func (w *world) sees(t *testing.T, pod, script, want string) {
	t.Helper()
	begun := time.Now()
	eventually(t.Context(), t, fmt.Sprintf("%s prints %q", script, want), func() (bool, string) {
		got, err := w.inPod(t, pod, script)
		return err == nil && got == want, fmt.Sprint(got, err)
	})
	t.Logf("%q seen after %s", want, time.Since(begun).Round(10*time.Millisecond))
}

// inPod runs a command in a pod; it fails while the virtual kubelet is away.
func (w *world) inPod(t *testing.T, pod, script string) (string, error) {
	t.Helper()
	cluster, err := w.lab.Cluster(lab.AF)
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	out, err := exec.CommandContext(ctx, w.lab.Kubectl(), "--kubeconfig="+cluster.Kubeconfig(), "--namespace="+w.namespace,
		"exec", pod, "--", "sh", "-c", "("+script+") 2>/dev/null; true").Output()
	return strings.TrimSpace(string(out)), err
}

func (w *world) patchPod(t *testing.T, name, patch string) {
	t.Helper()
	_, err := w.af.CoreV1().Pods(w.namespace).Patch(t.Context(), name, types.StrategicMergePatchType, []byte(patch), metav1.PatchOptions{})
	require.NoError(t, err)
}

func (w *world) patchObject(t *testing.T, kind, name, patch string) {
	t.Helper()
	w.kubectl(t, "patch", kind, name, "--type=merge", "--patch="+patch)
}

func mountedObjectsFollow(t *testing.T, w *world) {
	w.configMap(t, "step-map", map[string]string{"key": "one"})
	w.secret(t, "step-secret", map[string]string{"key": "hidden"})
	pod := w.waiting("step-objects")
	reference := corev1.LocalObjectReference{Name: "step-map"}
	pod.Spec.Volumes = []corev1.Volume{
		{Name: "map", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: reference}}},
		{Name: "secret", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "step-secret"}}},
		{Name: "both", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{
			{ConfigMap: &corev1.ConfigMapProjection{LocalObjectReference: reference}},
		}}}},
	}
	pod.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{
		{Name: "map", MountPath: "/map"},
		{Name: "secret", MountPath: "/secret"},
		{Name: "both", MountPath: "/both"},
		{Name: "map", MountPath: "/fixed", SubPath: "key"},
	}
	created := w.create(t, pod)
	w.awaitPhase(t, pod.Name, corev1.PodRunning)
	w.sees(t, pod.Name, "cat /map/key /secret/key /both/key /fixed", "onehiddenoneone")
	w.patchObject(t, "configmap", "step-map", `{"data":{"key":"two","added":"later"}}`)
	w.sees(t, pod.Name, "cat /map/key /both/key /both/added", "twotwolater")
	w.patchObject(t, "secret", "step-secret", `{"stringData":{"key":"deeper"}}`)
	w.sees(t, pod.Name, "cat /secret/key", "deeper")
	w.sees(t, pod.Name, "cat /fixed", "one")
	w.patchObject(t, "configmap", "step-map", `{"data":{"added":null}}`)
	w.sees(t, pod.Name, "ls /both", "key")
	remote := w.awaitRemote(t, created)
	require.Len(t, remote.Status.ContainerStatuses, 1)
	assert.Zero(t, remote.Status.ContainerStatuses[0].RestartCount)
	w.remove(t, pod.Name)
}

func pullSecretsTravel(t *testing.T, w *world) {
	const config = `{"auths":{"registry.example":{"auth":"YTpi"}}}`
	_, err := w.af.CoreV1().Secrets(w.namespace).Create(t.Context(), &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: "step-pull"}, Type: corev1.SecretTypeDockerConfigJson,
		StringData: map[string]string{corev1.DockerConfigJsonKey: config},
	}, metav1.CreateOptions{})
	require.NoError(t, err)
	t.Cleanup(func() { _ = w.af.CoreV1().Secrets(w.namespace).Delete(w.cleanup, "step-pull", metav1.DeleteOptions{}) })
	pod := w.waiting("step-pull")
	pod.Spec.ImagePullSecrets = []corev1.LocalObjectReference{{Name: "step-pull"}, {Name: "there-is-none"}}
	created := w.create(t, pod)
	w.awaitPhase(t, pod.Name, corev1.PodRunning)
	remote := w.awaitRemote(t, created)
	require.Len(t, remote.Spec.ImagePullSecrets, 1, "a kubelet goes on without those that are missing")
	name := remote.Spec.ImagePullSecrets[0].Name
	content := func() string {
		secret, err := w.caas.CoreV1().Secrets(w.remoteNamespace).Get(t.Context(), name, metav1.GetOptions{})
		require.NoError(t, err)
		assert.Equal(t, corev1.SecretTypeDockerConfigJson, secret.Type)
		return string(secret.Data[corev1.DockerConfigJsonKey])
	}
	assert.JSONEq(t, config, content())
	w.patchObject(t, "secret", "step-pull", `{"stringData":{".dockerconfigjson":"{\"auths\":{}}"}}`)
	eventually(t.Context(), t, "the new credentials arrive", func() (bool, string) {
		now := content()
		return now == `{"auths":{}}`, "another content"
	})
	w.remove(t, pod.Name)
}

func tokensLiveAndDieWithThePod(t *testing.T, w *world) {
	pod := w.waiting("step-token")
	seconds := int64(600)
	pod.Spec.Volumes = []corev1.Volume{{Name: "own", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{
		Sources: []corev1.VolumeProjection{{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{ExpirationSeconds: &seconds, Path: "token"}}},
	}}}}
	pod.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "own", MountPath: "/own"}}
	created := w.create(t, pod)
	w.awaitPhase(t, pod.Name, corev1.PodRunning)
	token := strings.TrimSpace(w.kubectl(t, "exec", pod.Name, "--", "cat", "/own/token"))
	review := func() authenticationv1.TokenReviewStatus {
		answer, err := w.af.AuthenticationV1().TokenReviews().Create(t.Context(),
			&authenticationv1.TokenReview{Spec: authenticationv1.TokenReviewSpec{Token: token}}, metav1.CreateOptions{})
		require.NoError(t, err)
		return answer.Status
	}
	status := review()
	require.True(t, status.Authenticated, status.Error)
	assert.Equal(t, "system:serviceaccount:"+w.namespace+":default", status.User.Username)
	assert.Equal(t, []string{string(created.UID)}, []string(status.User.Extra["authentication.kubernetes.io/pod-uid"]))
	issued := labtest.Claims(t, token)
	assert.InDelta(t, seconds, issued.Expires-issued.Issued, 1)
	remote := w.awaitRemote(t, created)
	due, err := time.Parse(time.RFC3339, remote.Annotations["offload.infn.it/refresh-at"])
	require.NoError(t, err, "the remote pod says when its tokens are due")
	life := time.Duration(seconds) * time.Second
	assert.WithinRange(t, due, time.Unix(int64(issued.Issued), 0).Add(life*7/10-time.Second), time.Unix(int64(issued.Issued), 0).Add(life*8/10+time.Second))

	// A due token is replaced without a restart of anything.
	w.markDue(t, remote)
	next := ""
	eventually(t.Context(), t, "another token is in the file", func() (bool, string) {
		next, err = w.inPod(t, pod.Name, "cat /own/token")
		return err == nil && next != "" && next != token, fmt.Sprint("the same, or ", err)
	})
	require.True(t, review().Authenticated, "the first one lives on until it expires")
	token = next
	require.True(t, review().Authenticated)
	w.remove(t, pod.Name)
	eventually(t.Context(), t, "the token dies with the pod", func() (bool, string) { return !review().Authenticated, "still accepted" })
}

// markDue makes the virtual kubelet find, at its next start, that a pod's tokens are due.
func (w *world) markDue(t *testing.T, remote *corev1.Pod) {
	t.Helper()
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"annotations": map[string]string{
		"offload.infn.it/refresh-at": time.Now().UTC().Format(time.RFC3339),
	}}})
	require.NoError(t, err)
	_, err = w.caas.CoreV1().Pods(w.remoteNamespace).Patch(t.Context(), remote.Name, types.MergePatchType, patch, metav1.PatchOptions{})
	require.NoError(t, err)
	require.NoError(t, w.path.Kill(t.Context(), offload.VirtualKubelet))
	require.NoError(t, w.path.Start(t.Context(), offload.VirtualKubelet))
	require.NoError(t, w.path.AwaitReady(t.Context()))
}

func annotationsFollow(t *testing.T, w *world) {
	pod := w.waiting("step-downward")
	pod.Annotations, pod.Labels = map[string]string{"note": "first"}, map[string]string{"colour": "red"}
	field := func(path, from string) corev1.DownwardAPIVolumeFile {
		return corev1.DownwardAPIVolumeFile{Path: path, FieldRef: &corev1.ObjectFieldSelector{FieldPath: from}}
	}
	pod.Spec.Volumes = []corev1.Volume{{Name: "info", VolumeSource: corev1.VolumeSource{DownwardAPI: &corev1.DownwardAPIVolumeSource{
		Items: []corev1.DownwardAPIVolumeFile{field("note", "metadata.annotations['note']"), field("labels", "metadata.labels")},
	}}}}
	pod.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "info", MountPath: "/info"}}
	created := w.create(t, pod)
	w.awaitPhase(t, pod.Name, corev1.PodRunning)
	w.sees(t, pod.Name, "cat /info/note /info/labels", `firstcolour="red"`)
	w.patchPod(t, pod.Name, `{"metadata":{"annotations":{"note":"second"},"labels":{"colour":"green"}},"spec":{"activeDeadlineSeconds":86400}}`)
	w.sees(t, pod.Name, "cat /info/note /info/labels", `secondcolour="green"`)
	remote := w.awaitRemote(t, created)
	assert.Equal(t, "second", remote.Annotations["note"])
	assert.Equal(t, "green", remote.Labels["labels.offload.infn.it/colour"])
	assert.Equal(t, int64(86400), *remote.Spec.ActiveDeadlineSeconds)
	more := corev1.Toleration{Key: "node.kubernetes.io/disk-pressure", Operator: corev1.TolerationOpExists}
	now, err := w.af.CoreV1().Pods(w.namespace).Get(t.Context(), pod.Name, metav1.GetOptions{})
	require.NoError(t, err)
	all, err := json.Marshal(append(now.Spec.Tolerations, more))
	require.NoError(t, err)
	w.patchPod(t, pod.Name, fmt.Sprintf(`{"spec":{"tolerations":%s}}`, all))
	eventually(t.Context(), t, "the toleration arrives", func() (bool, string) {
		tolerations := w.awaitRemote(t, created).Spec.Tolerations
		return slices.Contains(tolerations, more), fmt.Sprint(tolerations)
	})
	w.patchPod(t, pod.Name, `{"metadata":{"annotations":{"note":null}}}`)
	eventually(t.Context(), t, "the annotation is gone", func() (bool, string) {
		_, found := w.awaitRemote(t, created).Annotations["note"]
		return !found, "still there"
	})
	w.remove(t, pod.Name)
}

func imagesFollow(t *testing.T, w *world) {
	pod := w.waiting("step-image")
	pod.Spec.RestartPolicy = corev1.RestartPolicyAlways
	created := w.create(t, pod)
	running := w.awaitPhase(t, pod.Name, corev1.PodRunning)
	other := running.Status.ContainerStatuses[0].ImageID
	require.Contains(t, other, "@sha256:", "the same image by another name")
	w.patchPod(t, pod.Name, fmt.Sprintf(`{"spec":{"containers":[{"name":"main","image":%q}]}}`, other))
	seen := w.awaitPod(t, pod.Name, "the container runs again", func(p *corev1.Pod) bool {
		return p.Status.ContainerStatuses[0].RestartCount == 1 && p.Status.ContainerStatuses[0].State.Running != nil
	})
	assert.Equal(t, corev1.PodRunning, seen.Status.Phase)
	remote := w.awaitRemote(t, created)
	assert.Equal(t, other, remote.Spec.Containers[0].Image)
	w.remove(t, pod.Name)
}

func environmentFollowsAtARestart(t *testing.T, w *world) {
	w.configMap(t, "step-env", map[string]string{"MODE": "broken"})
	pod := w.shell("step-env", `[ "$MODE" = good ] || exit 3; trap exit TERM; while :; do sleep 1; done`)
	pod.Spec.RestartPolicy = corev1.RestartPolicyAlways
	pod.Spec.Containers[0].EnvFrom = []corev1.EnvFromSource{{ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "step-env"}}}}
	w.create(t, pod)
	w.awaitPod(t, pod.Name, "crashes", func(p *corev1.Pod) bool {
		return len(p.Status.ContainerStatuses) == 1 && p.Status.ContainerStatuses[0].RestartCount > 0
	})
	w.patchObject(t, "configmap", "step-env", `{"data":{"MODE":"good"}}`)
	w.awaitPod(t, pod.Name, "runs", func(p *corev1.Pod) bool { return p.Status.ContainerStatuses[0].Ready })
	w.remove(t, pod.Name)
}
