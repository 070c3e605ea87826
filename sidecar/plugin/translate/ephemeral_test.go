// SPDX-License-Identifier: Apache-2.0

package translate_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cloudveneto/caas/sidecar/plugin/translate"
)

func debugged(edit func(*corev1.EphemeralContainer)) translate.Request {
	doctor := corev1.EphemeralContainer{
		TargetContainerName: "main",
		EphemeralContainerCommon: corev1.EphemeralContainerCommon{
			Name: "doctor", Image: "busybox", Command: []string{"sh"}, Stdin: true, TTY: true,
			Env: []corev1.EnvVar{{Name: "POD", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.name"}}}},
		},
	}
	if edit != nil {
		edit(&doctor)
	}
	return translate.Request{Pod: &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "physics", Name: "p", UID: "4f0c"},
		Spec: corev1.PodSpec{
			Containers:          []corev1.Container{{Name: "main", Image: "i"}},
			EphemeralContainers: []corev1.EphemeralContainer{doctor},
		},
	}}
}

func TestEphemeral(t *testing.T) {
	t.Parallel()
	got, err := translate.Ephemeral(debugged(nil), &translate.Policy{})
	require.NoError(t, err)
	require.Len(t, got, 1)
	assert.Equal(t, "main", got[0].TargetContainerName)
	assert.Equal(t, "doctor", got[0].Name)
	assert.True(t, got[0].Stdin && got[0].TTY)
	assert.Equal(t, []corev1.EnvVar{{Name: "POD", Value: "p"}}, got[0].Env, "fields of the pod are the origin's")
}

func TestEphemeralRefusals(t *testing.T) {
	t.Parallel()
	reference := corev1.LocalObjectReference{Name: "token"}
	cases := map[string]struct {
		edit  func(*corev1.EphemeralContainer)
		field string
	}{
		"privileged": {
			func(c *corev1.EphemeralContainer) { c.SecurityContext = &corev1.SecurityContext{Privileged: new(true)} },
			"spec.ephemeralContainers[doctor].securityContext.privileged",
		},
		"capability": {
			func(c *corev1.EphemeralContainer) {
				c.SecurityContext = &corev1.SecurityContext{Capabilities: &corev1.Capabilities{Add: []corev1.Capability{"SYS_ADMIN"}}}
			},
			"spec.ephemeralContainers[doctor].securityContext.capabilities.add",
		},
		"secret": {
			func(c *corev1.EphemeralContainer) {
				c.Env = []corev1.EnvVar{{Name: "T", ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: reference, Optional: new(true)}}}}
			},
			"spec.ephemeralContainers[doctor].env[T].valueFrom.secretKeyRef",
		},
		"config map": {
			func(c *corev1.EphemeralContainer) {
				c.EnvFrom = []corev1.EnvFromSource{{ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: reference}}}
			},
			"spec.ephemeralContainers[doctor].envFrom[0].configMapRef",
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := translate.Ephemeral(debugged(c.edit), &translate.Policy{RefusedCapabilities: []corev1.Capability{"SYS_ADMIN"}})
			var refusal *translate.RefusalError
			require.ErrorAs(t, err, &refusal)
			require.Len(t, refusal.Problems, 1)
			assert.Equal(t, c.field, refusal.Problems[0].Field)
		})
	}
	unknown := debugged(nil)
	unknown.Unknown = []string{"spec.ephemeralContainers[0].novelty"}
	_, err := translate.Ephemeral(unknown, &translate.Policy{})
	require.ErrorContains(t, err, "novelty")
}
