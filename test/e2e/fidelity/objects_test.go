// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package fidelity_test

import (
	"encoding/base64"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/rand"

	"github.com/cloudveneto/caas/internal/interlink"
)

func objectCases() []fidelityCase {
	return []fidelityCase{
		{name: "04 one ConfigMap in several containers", run: oneConfigMap},
		{name: "04 equal names in two namespaces", run: equalNames},
		{name: "04 optional and absent", run: optionalAbsent},
		{name: "04 more than 1 MiB of objects, and a limit", run: bigObjects},
		{name: "05 files and their modes", run: filesAndModes},
		{name: "06 Secrets of all types", run: secretTypes},
		{name: "07 the origin's ServiceAccount token", run: originToken},
	}
}

func meta(name string) metav1.ObjectMeta { return metav1.ObjectMeta{Name: name} }

func fromConfigMap(name string) corev1.VolumeSource {
	return corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: name}}}
}

func fromSecret(name string) corev1.VolumeSource {
	return corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: name}}
}

// copies counts the target's ConfigMaps and Secrets of a pod.
func (r *room) copies(t *testing.T, pod *corev1.Pod) (configMaps []corev1.ConfigMap, secrets []corev1.Secret) {
	t.Helper()
	options := metav1.ListOptions{LabelSelector: managed + "," + uidLabel + "=" + string(pod.UID)}
	maps, err := r.caas.CoreV1().ConfigMaps(r.target).List(t.Context(), options)
	require.NoError(t, err)
	list, err := r.caas.CoreV1().Secrets(r.target).List(t.Context(), options)
	require.NoError(t, err)
	return maps.Items, list.Items
}

func oneConfigMap(t *testing.T, r *room) {
	r.configMap(t, corev1.ConfigMap{ObjectMeta: meta("deck"), Data: map[string]string{"energy": "662 keV", "script": "echo ran"}})
	mounts := []corev1.VolumeMount{{Name: "deck", MountPath: "/deck"}}
	pod := r.shell("shared", "cat /deck/energy; echo $energy")
	pod.Spec.Volumes = []corev1.Volume{{Name: "deck", VolumeSource: fromConfigMap("deck")}, {Name: "again", VolumeSource: fromConfigMap("deck")}}
	pod.Spec.Containers[0].VolumeMounts = mounts
	pod.Spec.Containers[0].EnvFrom = []corev1.EnvFromSource{{ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "deck"}}}}
	pod.Spec.InitContainers = []corev1.Container{{Name: "init", Image: busybox, Command: []string{"sh", "/deck/script"}, VolumeMounts: mounts}}
	pod.Spec.Containers = append(pod.Spec.Containers, corev1.Container{
		Name: "second", Image: busybox, Command: []string{"cat", "/again/energy"}, VolumeMounts: []corev1.VolumeMount{{Name: "again", MountPath: "/again"}},
	})
	created := r.create(t, pod)
	r.awaitPhase(t, "shared", corev1.PodSucceeded)
	assert.Equal(t, "662 keV662 keV\n", r.logs(t, "shared", "main"))
	assert.Equal(t, "662 keV", r.logs(t, "shared", "second"))
	assert.Equal(t, "ran\n", r.logs(t, "shared", "init"))
	configMaps, _ := r.copies(t, created)
	assert.Len(t, configMaps, 1, "one copy, however often it is used")
}

func equalNames(t *testing.T, r *room) {
	other := r.enter(t, r.namespace+"-too", r.target, r.path)
	for _, in := range []*room{r, other} {
		in.configMap(t, corev1.ConfigMap{ObjectMeta: meta("settings"), Data: map[string]string{"whose": in.namespace}})
		pod := in.shell("reader", "cat /settings/whose")
		pod.Spec.Volumes = []corev1.Volume{{Name: "settings", VolumeSource: fromConfigMap("settings")}}
		pod.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "settings", MountPath: "/settings"}}
		in.create(t, pod)
	}
	for _, in := range []*room{r, other} {
		in.awaitPhase(t, "reader", corev1.PodSucceeded)
		assert.Equal(t, in.namespace, in.logs(t, "reader", "main"))
	}
}

func optionalAbsent(t *testing.T, r *room) {
	optional := true
	absentMap := fromConfigMap("absent")
	absentMap.ConfigMap.Optional = &optional
	absentSecret := fromSecret("absent")
	absentSecret.Secret.Optional = &optional
	pod := r.shell("content", `ls -A /a /b; echo "[$KEY]"`)
	pod.Spec.Volumes = []corev1.Volume{{Name: "a", VolumeSource: absentMap}, {Name: "b", VolumeSource: absentSecret}}
	pod.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "a", MountPath: "/a"}, {Name: "b", MountPath: "/b"}}
	pod.Spec.Containers[0].Env = []corev1.EnvVar{{Name: "KEY", ValueFrom: &corev1.EnvVarSource{ConfigMapKeyRef: &corev1.ConfigMapKeySelector{
		LocalObjectReference: corev1.LocalObjectReference{Name: "absent"}, Key: "key", Optional: &optional,
	}}}}
	assert.Equal(t, "/a:\n\n/b:\n[]\n", r.run(t, pod))

	// What is not optional is waited for, and said to be missing.
	required := r.shell("patient", "cat /late/key")
	required.Spec.Volumes = []corev1.Volume{{Name: "late", VolumeSource: fromConfigMap("late")}}
	required.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "late", MountPath: "/late"}}
	r.create(t, required)
	seen := r.awaitPod(t, "patient", "says what is missing", func(pod *corev1.Pod) bool { return waiting(pod, "main") == "CreateContainerConfigError" })
	assert.Equal(t, corev1.PodPending, seen.Status.Phase)
	assert.Contains(t, container(seen, "main").State.Waiting.Message, "late")
	r.configMap(t, corev1.ConfigMap{ObjectMeta: meta("late"), Data: map[string]string{"key": "better late"}})
	r.awaitPhase(t, "patient", corev1.PodSucceeded)
	assert.Equal(t, "better late", r.logs(t, "patient", "main"))
}

func bigObjects(t *testing.T, r *room) {
	pod := r.shell("heavy", "cat /big-*/data | wc -c")
	for i := range 3 {
		name := fmt.Sprintf("big-%d", i)
		r.configMap(t, corev1.ConfigMap{ObjectMeta: meta(name), Data: map[string]string{"data": strings.Repeat("x", 900<<10)}})
		pod.Spec.Volumes = append(pod.Spec.Volumes, corev1.Volume{Name: name, VolumeSource: fromConfigMap(name)})
		pod.Spec.Containers[0].VolumeMounts = append(pod.Spec.Containers[0].VolumeMounts, corev1.VolumeMount{Name: name, MountPath: "/" + name})
	}
	assert.Equal(t, fmt.Sprint(3*900<<10), strings.TrimSpace(r.run(t, pod)))

	too := interlink.CreateRequest{Pod: *r.wire(r.get(t, "heavy")), ConfigMaps: []corev1.ConfigMap{{Data: map[string]string{"data": strings.Repeat("x", 65<<20)}}}}
	_, err := r.apiClient(t).Create(t.Context(), &too)
	require.Error(t, err)
	assert.Contains(t, err.Error(), "413", "the limit is explicit")
}

// filesAndModes compares what a container sees with what it sees on a node of the origin.
func filesAndModes(t *testing.T, r *room) {
	immutable, owner, key := true, int32(0o400), int32(0o550)
	bytes := []byte{0, 0xff, 0xfe, 'a', '\n', 0x80}
	r.configMap(t, corev1.ConfigMap{ObjectMeta: meta("binary"), BinaryData: map[string][]byte{"raw.bin": bytes, "other.bin": {1, 2, 3}}, Immutable: &immutable})
	r.configMap(t, corev1.ConfigMap{ObjectMeta: meta("texts"), Data: map[string]string{"a.txt": "a\n", "b.txt": "b without end", ".hidden": "x"}})
	r.secret(t, corev1.Secret{ObjectMeta: meta("keys"), Data: map[string][]byte{"id": bytes}, Immutable: &immutable})
	binary, items, keys := fromConfigMap("binary"), fromConfigMap("texts"), fromSecret("keys")
	binary.ConfigMap.DefaultMode = &owner
	items.ConfigMap.Items = []corev1.KeyToPath{{Key: "a.txt", Path: "deep/er/renamed", Mode: &key}, {Key: "b.txt", Path: "b"}}
	keys.Secret.DefaultMode = &owner
	projected := corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{DefaultMode: &owner, Sources: []corev1.VolumeProjection{
		{ConfigMap: &corev1.ConfigMapProjection{LocalObjectReference: corev1.LocalObjectReference{Name: "binary"}, Items: []corev1.KeyToPath{{Key: "raw.bin", Path: "in/raw", Mode: &key}}}},
		{Secret: &corev1.SecretProjection{LocalObjectReference: corev1.LocalObjectReference{Name: "keys"}}},
		{DownwardAPI: &corev1.DownwardAPIProjection{Items: []corev1.DownwardAPIVolumeFile{{Path: "labels", FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.labels"}}}}},
	}}}
	pod := r.shell("files", `cd /v; for f in $(find -L . -type f | grep -v '/\.\.' | sort); do echo "$f $(stat -L -c %a "$f") $(sha256sum <"$f")"; done; id -u`)
	pod.Labels = map[string]string{"app": "files", "quoted": "a-b"}
	pod.Spec.Volumes = []corev1.Volume{
		{Name: "binary", VolumeSource: binary},
		{Name: "items", VolumeSource: items},
		{Name: "keys", VolumeSource: keys},
		{Name: "projected", VolumeSource: projected},
		{Name: "all", VolumeSource: fromConfigMap("texts")},
		{Name: "scratch", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}},
	}
	pod.Spec.Containers[0].Env = []corev1.EnvVar{{Name: "WHICH", Value: "b"}}
	pod.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{
		{Name: "binary", MountPath: "/v/binary", ReadOnly: true},
		{Name: "items", MountPath: "/v/items"},
		{Name: "keys", MountPath: "/v/keys"},
		{Name: "projected", MountPath: "/v/projected"},
		{Name: "all", MountPath: "/v/one", SubPath: "a.txt"},
		{Name: "all", MountPath: "/v/expr", SubPathExpr: "$(WHICH).txt"},
		{Name: "all", MountPath: "/v/all"},
		{Name: "scratch", MountPath: "/v/scratch", SubPathExpr: "made/$(WHICH)"},
	}
	r.create(t, here(pod, "files-here"))
	away := r.run(t, pod)
	r.awaitPhase(t, "files-here", corev1.PodSucceeded)
	assert.Equal(t, r.logs(t, "files-here", "main"), away, "byte for byte, with the same modes")
	assert.Contains(t, away, "./binary/raw.bin 400 ")
	assert.Contains(t, away, "./items/deep/er/renamed 550 ")
	assert.GreaterOrEqual(t, strings.Count(away, "\n"), 12)
}

func secretTypes(t *testing.T, r *room) {
	hidden := "hidden-" + rand.String(24)
	config := []byte(`{"auths":{"registry.example.org":{"auth":"` + base64.StdEncoding.EncodeToString([]byte("user:"+hidden)) + `"}}}`)
	r.secret(t, corev1.Secret{ObjectMeta: meta("pull"), Type: corev1.SecretTypeDockerConfigJson, Data: map[string][]byte{corev1.DockerConfigJsonKey: config}})
	r.secret(t, corev1.Secret{ObjectMeta: meta("texts"), StringData: map[string]string{"password": hidden}})
	r.secret(t, corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: "account", Annotations: map[string]string{corev1.ServiceAccountNameKey: "default"}},
		Type:       corev1.SecretTypeServiceAccountToken,
	})
	eventually(t.Context(), t, "the token controller fills the Secret", func() (bool, string) {
		secret, err := r.af.CoreV1().Secrets(r.namespace).Get(t.Context(), "account", metav1.GetOptions{})
		return err == nil && len(secret.Data["token"]) > 0, fmt.Sprint(err)
	})
	pod := r.shell("secrets", `cat /texts/password | sha256sum; [ "$PASSWORD" = "$(cat /texts/password)" ] && echo same; cat /account/namespace; wc -c </account/token`)
	pod.Spec.ImagePullSecrets = []corev1.LocalObjectReference{{Name: "pull"}}
	pod.Spec.Volumes = []corev1.Volume{{Name: "texts", VolumeSource: fromSecret("texts")}, {Name: "account", VolumeSource: fromSecret("account")}}
	pod.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "texts", MountPath: "/texts"}, {Name: "account", MountPath: "/account"}}
	pod.Spec.Containers[0].Env = []corev1.EnvVar{{Name: "PASSWORD", ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{
		LocalObjectReference: corev1.LocalObjectReference{Name: "texts"}, Key: "password",
	}}}}
	log := r.run(t, pod)
	assert.Contains(t, log, "same\n")
	assert.Contains(t, log, r.namespace)

	far := r.awaitFar(t, r.get(t, "secrets"))
	_, secrets := r.copies(t, r.get(t, "secrets"))
	byName := map[string]corev1.Secret{}
	for _, secret := range secrets {
		byName[secret.Annotations["offload.infn.it/name"]] = secret
	}
	assert.Equal(t, corev1.SecretTypeOpaque, byName["account"].Type, "no token controller of the target fills or collects it")
	assert.NotEmpty(t, byName["account"].Data["token"])
	require.Len(t, far.Spec.ImagePullSecrets, 1)
	assert.Equal(t, byName["pull"].Name, far.Spec.ImagePullSecrets[0].Name)
	assert.Equal(t, corev1.SecretTypeDockerConfigJson, byName["pull"].Type)
	assert.Equal(t, config, byName["pull"].Data[corev1.DockerConfigJsonKey])

	encoded, err := far.Marshal()
	require.NoError(t, err)
	assert.NotContains(t, string(encoded), hidden, "neither in the environment nor in an annotation")
	configMaps, _ := r.copies(t, r.get(t, "secrets"))
	for _, one := range configMaps {
		assert.NotContains(t, one.String(), hidden)
	}
	r.notLogged(t, hidden, base64.StdEncoding.EncodeToString([]byte(hidden)))
}

// notLogged looks for texts in the logs of the path's processes.
func (r *room) notLogged(t *testing.T, texts ...string) {
	t.Helper()
	files, err := r.lab.Logs()
	require.NoError(t, err)
	read := 0
	for _, component := range r.path.Components() {
		content, err := os.ReadFile(files[component+"-"+r.node])
		require.NoError(t, err, component)
		read += len(content)
		for _, text := range texts {
			assert.NotContains(t, string(content), text, "log of %s", component)
		}
	}
	assert.Positive(t, read)
}
