// SPDX-License-Identifier: Apache-2.0

package translate_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cloudveneto/caas/internal/interlink"
	"github.com/cloudveneto/caas/sidecar/plugin/translate"
)

func named(name string) metav1.ObjectMeta { return metav1.ObjectMeta{Name: name, Namespace: "physics"} }

func reference(name string) corev1.LocalObjectReference {
	return corev1.LocalObjectReference{Name: name}
}

func TestEnv(t *testing.T) {
	t.Parallel()
	yes := true
	field := func(path string) *corev1.EnvVarSource {
		return &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: path}}
	}
	r := request(func(pod *corev1.Pod) {
		pod.Spec.Containers[0].EnvFrom = []corev1.EnvFromSource{
			{Prefix: "P_", ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: reference("settings")}},
			{SecretRef: &corev1.SecretEnvSource{LocalObjectReference: reference("absent"), Optional: &yes}},
		}
		pod.Spec.Containers[0].Env = []corev1.EnvVar{
			{Name: "NAME", ValueFrom: field("metadata.name")},
			{Name: "NS", ValueFrom: field("metadata.namespace")},
			{Name: "UID", ValueFrom: field("metadata.uid")},
			{Name: "NODE", ValueFrom: field("spec.nodeName")},
			{Name: "SA", ValueFrom: field("spec.serviceAccountName")},
			{Name: "APP", ValueFrom: field("metadata.labels['app']")},
			{Name: "NOTE", ValueFrom: field("metadata.annotations['note']")},
			{Name: "IP", ValueFrom: field("status.podIP")},
			{Name: "CPU", ValueFrom: &corev1.EnvVarSource{ResourceFieldRef: &corev1.ResourceFieldSelector{Resource: "limits.cpu"}}},
			{Name: "KEY", ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: reference("key"), Key: "k"}}},
			{Name: "NAME", Value: "$(NAME)-again"},
		}
	})
	r.ConfigMaps = []corev1.ConfigMap{{ObjectMeta: named("settings"), Data: map[string]string{"A": "1"}}}
	r.Secrets = []corev1.Secret{{ObjectMeta: named("key"), Data: map[string][]byte{"k": []byte("v")}}}
	result := translated(t, r, &translate.Policy{})
	container := result.Pod.Spec.Containers[0]
	values := map[string]string{}
	var order []string
	for _, variable := range container.Env {
		order = append(order, variable.Name)
		if variable.Value != "" && variable.Value != "$(NAME)-again" {
			values[variable.Name] = variable.Value
		}
	}
	assert.Equal(t, []string{"NAME", "NS", "UID", "NODE", "SA", "APP", "NOTE", "IP", "CPU", "KEY", "NAME"}, order)
	assert.Equal(t, map[string]string{
		"NAME": "worker-0", "NS": "physics", "UID": "11111111-2222-3333-4444-555555555555", "NODE": "vk1", "SA": "batch",
		"APP": "dask", "NOTE": "costs $$5",
	}, values, "the kubelet turns $$ into $")
	assert.Equal(t, "status.podIP", container.Env[7].ValueFrom.FieldRef.FieldPath)
	assert.Equal(t, "limits.cpu", container.Env[8].ValueFrom.ResourceFieldRef.Resource)
	require.Len(t, result.Secrets, 1)
	require.Len(t, result.ConfigMaps, 1)
	assert.Equal(t, result.Secrets[0].Name, container.Env[9].ValueFrom.SecretKeyRef.Name)
	assert.Equal(t, result.ConfigMaps[0].Name, container.EnvFrom[0].ConfigMapRef.Name)
	assert.Equal(t, "P_", container.EnvFrom[0].Prefix)
	assert.Len(t, container.EnvFrom, 1, "what is optional and not there is left out")
	assert.Contains(t, reported(result.Report, translate.ActionDropped), "spec.containers[main].envFrom[1]")
	assert.Equal(t, "$(NAME)-again", container.Env[10].Value)

	optional := request(func(pod *corev1.Pod) {
		pod.Spec.Containers[0].Env = []corev1.EnvVar{
			{Name: "X", Value: "before"},
			{Name: "X", ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: reference("absent"), Key: "k", Optional: &yes}}},
			{Name: "Y", ValueFrom: &corev1.EnvVarSource{ConfigMapKeyRef: &corev1.ConfigMapKeySelector{LocalObjectReference: reference("absent"), Key: "k", Optional: &yes}}},
		}
	})
	assert.Equal(t, []corev1.EnvVar{{Name: "X", Value: "before"}}, translated(t, optional, &translate.Policy{}).Pod.Spec.Containers[0].Env)

	bad := request(func(pod *corev1.Pod) {
		pod.Spec.Containers[0].Env = []corev1.EnvVar{{Name: "X", ValueFrom: field("spec.magic")}}
	})
	_, err := translate.Pod(bad, &translate.Policy{})
	assert.ErrorContains(t, err, "spec.magic")
}

func TestOneCopyPerObject(t *testing.T) {
	t.Parallel()
	mode, immutable := int32(0o400), true
	volume := corev1.Volume{Name: "cfg", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{
		LocalObjectReference: reference("settings"), DefaultMode: &mode, Items: []corev1.KeyToPath{{Key: "b", Path: "sub/b", Mode: &mode}},
	}}}
	mount := []corev1.VolumeMount{{Name: "cfg", MountPath: "/b", SubPathExpr: "$(NAME)/b"}}
	wire := &interlink.PluginPod{Pod: *request(func(pod *corev1.Pod) {
		pod.Spec.Volumes = []corev1.Volume{volume}
		pod.Spec.InitContainers = []corev1.Container{{Name: "init", Image: "i", VolumeMounts: mount}}
		pod.Spec.Containers[0].VolumeMounts = mount
	}).Pod}
	object := corev1.ConfigMap{ObjectMeta: named("settings"), BinaryData: map[string][]byte{"b": {0, 0xff}}, Immutable: &immutable}
	stranger := object
	stranger.Namespace, stranger.BinaryData = "other", nil
	wire.Containers = []interlink.PluginContainer{
		{Name: "init", ConfigMaps: []corev1.ConfigMap{object, object}}, {Name: "main", ConfigMaps: []corev1.ConfigMap{object, stranger}},
	}
	result := translated(t, translate.FromWire("", wire), &translate.Policy{})
	require.Len(t, result.ConfigMaps, 1)
	assert.Equal(t, map[string][]byte{"b": {0, 0xff}}, result.ConfigMaps[0].BinaryData)
	assert.True(t, *result.ConfigMaps[0].Immutable)
	got := result.Pod.Spec.Volumes[0].ConfigMap
	assert.Equal(t, result.ConfigMaps[0].Name, got.Name)
	assert.Equal(t, volume.ConfigMap.Items, got.Items)
	assert.Equal(t, mode, *got.DefaultMode)
	assert.Equal(t, mount, result.Pod.Spec.InitContainers[0].VolumeMounts)
	assert.Equal(t, "11111111-2222-3333-4444-555555555555", result.ConfigMaps[0].Labels[translate.LabelUID])
}

func TestSecretTypesAndPullSecrets(t *testing.T) {
	t.Parallel()
	r := request(func(pod *corev1.Pod) {
		pod.Spec.ImagePullSecrets = []corev1.LocalObjectReference{reference("registry"), reference("not-sent")}
		pod.Spec.Volumes = []corev1.Volume{{Name: "t", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "token"}}}}
	})
	r.Secrets = []corev1.Secret{
		{ObjectMeta: named("registry"), Type: corev1.SecretTypeDockerConfigJson, Data: map[string][]byte{corev1.DockerConfigJsonKey: []byte("{}")}},
		{ObjectMeta: named("token"), Type: corev1.SecretTypeServiceAccountToken, Data: map[string][]byte{"token": []byte("x")}},
	}
	result := translated(t, r, &translate.Policy{})
	types := map[string]corev1.SecretType{}
	for _, secret := range result.Secrets {
		types[secret.Annotations[translate.AnnotationName]] = secret.Type
		assert.NotContains(t, secret.Annotations, "kubernetes.io/service-account.name")
	}
	assert.Equal(t, map[string]corev1.SecretType{"registry": corev1.SecretTypeDockerConfigJson, "token": corev1.SecretTypeOpaque}, types)
	assert.Len(t, result.Pod.Spec.ImagePullSecrets, 1)
	assert.Contains(t, reported(result.Report, translate.ActionDropped), "spec.imagePullSecrets[not-sent]")
}

func TestProjectedVolume(t *testing.T) {
	t.Parallel()
	mode, fallback := int32(0o400), int32(0o640)
	r := request(func(pod *corev1.Pod) {
		pod.Spec.Volumes = []corev1.Volume{
			{Name: "all", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{
				DefaultMode: &fallback,
				Sources: []corev1.VolumeProjection{
					{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Path: "token", Audience: "x"}},
					{ConfigMap: &corev1.ConfigMapProjection{LocalObjectReference: reference("ca"), Items: []corev1.KeyToPath{{Key: "ca", Path: "certs/ca.crt", Mode: &mode}}}},
				},
			}}},
			{Name: "info", VolumeSource: corev1.VolumeSource{DownwardAPI: &corev1.DownwardAPIVolumeSource{Items: []corev1.DownwardAPIVolumeFile{{Path: "labels", Mode: &mode}}}}},
		}
	})
	r.Projected = []corev1.ConfigMap{
		{ObjectMeta: metav1.ObjectMeta{Name: "all"}, Data: map[string]string{"token": "t0ken", "certs/ca.crt": "PEM"}, BinaryData: map[string][]byte{"raw": {0xff}}},
		{ObjectMeta: metav1.ObjectMeta{Name: "info"}, Data: map[string]string{"labels": `app="dask"`}},
	}
	result := translated(t, r, &translate.Policy{})
	assert.Empty(t, result.ConfigMaps, "a token is never in a ConfigMap")
	require.Len(t, result.Secrets, 2)
	secrets := map[string]*corev1.Secret{}
	for _, secret := range result.Secrets {
		secrets[secret.Name] = secret
	}
	all := result.Pod.Spec.Volumes[0].Secret
	assert.Equal(t, fallback, *all.DefaultMode)
	files := map[string]string{}
	for _, item := range all.Items {
		files[item.Path] = string(secrets[all.SecretName].Data[item.Key])
		assert.NotContains(t, item.Key, "/")
		if item.Path == "certs/ca.crt" {
			assert.Equal(t, mode, *item.Mode)
		} else {
			assert.Nil(t, item.Mode)
		}
	}
	assert.Equal(t, map[string]string{"token": "t0ken", "certs/ca.crt": "PEM", "raw": "\xff"}, files)
	assert.Equal(t, mode, *result.Pod.Spec.Volumes[1].Secret.Items[0].Mode)
}

func TestMissingObjects(t *testing.T) {
	t.Parallel()
	yes := true
	r := request(func(pod *corev1.Pod) {
		pod.Spec.Volumes = []corev1.Volume{
			{Name: "a", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: reference("needed")}}},
			{Name: "b", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "wanted", Optional: &yes}}},
			{Name: "c", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{{
				ConfigMap: &corev1.ConfigMapProjection{LocalObjectReference: reference("x"), Optional: &yes},
			}}}}},
		}
		pod.Spec.Containers[0].Env = []corev1.EnvVar{{Name: "K", ValueFrom: &corev1.EnvVarSource{
			SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: reference("key"), Key: "k"},
		}}}
	})
	_, err := translate.Pod(r, &translate.Policy{})
	var missing *translate.MissingError
	require.ErrorAs(t, err, &missing)
	assert.Equal(t, []string{"ConfigMap physics/needed (spec.volumes[a])", "Secret physics/key (spec.containers[main].env[K])"}, missing.Objects)

	r.ConfigMaps = []corev1.ConfigMap{{ObjectMeta: named("needed")}}
	r.Secrets = []corev1.Secret{{ObjectMeta: named("key")}}
	result := translated(t, r, &translate.Policy{})
	assert.NotNil(t, result.Pod.Spec.Volumes[1].EmptyDir)
	assert.NotNil(t, result.Pod.Spec.Volumes[2].EmptyDir)
	assert.Len(t, result.Secrets, 1)
}

func TestVolumeRules(t *testing.T) {
	t.Parallel()
	class := "juicefs"
	claim := func(name string) translate.VolumeRule {
		return translate.VolumeRule{Target: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: name}}}
	}
	rule := func(match translate.VolumeMatch, name string) translate.VolumeRule {
		r := claim(name)
		r.Match = match
		return r
	}
	policy := &translate.Policy{Volumes: []translate.VolumeRule{
		rule(translate.VolumeMatch{Kind: "persistentVolumeClaim", Name: "home-*", Namespace: "physics"}, "homes"),
		rule(translate.VolumeMatch{Kind: "hostPath", Path: "/cvmfs"}, "cvmfs"),
		rule(translate.VolumeMatch{Kind: "nfs", Server: "nas*", Path: "/export/*"}, "nas"),
		rule(translate.VolumeMatch{Kind: "csi", Driver: "cvmfs.csi"}, "driver"),
		rule(translate.VolumeMatch{Kind: "ephemeral", StorageClass: "juicefs"}, "scratch"),
	}}
	require.NoError(t, policy.Validate("policy"))
	for name, test := range map[string]struct {
		source corev1.VolumeSource
		want   string
	}{
		"claim":           {corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "home-alice"}}, "homes"},
		"other claim":     {corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "data"}}, ""},
		"host path":       {corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/cvmfs"}}, "cvmfs"},
		"other host path": {corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/"}}, ""},
		"nfs":             {corev1.VolumeSource{NFS: &corev1.NFSVolumeSource{Server: "nas1", Path: "/export/home"}}, "nas"},
		"deeper nfs":      {corev1.VolumeSource{NFS: &corev1.NFSVolumeSource{Server: "nas1", Path: "/export/a/b"}}, ""},
		"csi":             {corev1.VolumeSource{CSI: &corev1.CSIVolumeSource{Driver: "cvmfs.csi"}}, "driver"},
		"ephemeral": {corev1.VolumeSource{Ephemeral: &corev1.EphemeralVolumeSource{VolumeClaimTemplate: &corev1.PersistentVolumeClaimTemplate{
			Spec: corev1.PersistentVolumeClaimSpec{StorageClassName: &class},
		}}}, "scratch"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			result, err := translate.Pod(request(func(pod *corev1.Pod) {
				pod.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: test.source}}
			}), policy)
			if test.want == "" {
				var refusal *translate.RefusalError
				require.ErrorAs(t, err, &refusal)
				return
			}
			require.NoError(t, err)
			assert.Equal(t, test.want, result.Pod.Spec.Volumes[0].PersistentVolumeClaim.ClaimName)
		})
	}
}
