// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e_test

import (
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
