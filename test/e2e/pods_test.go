// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cloudveneto/caas/test/e2e/labtest"
)

// busybox is the small image that the lab's registry serves.
const busybox = "docker.io/library/busybox:1.36"

// managed selects what the sidecar made.
const managed = "app.kubernetes.io/managed-by=interlink-sidecar"

// onVirtualNode sends a pod to the virtual node, as a user of the remote cluster does.
func onVirtualNode(spec *corev1.PodSpec, node string) {
	spec.NodeSelector = map[string]string{"kubernetes.io/hostname": node}
	spec.Tolerations = append(spec.Tolerations, corev1.Toleration{Key: "virtual-node.interlink/no-schedule", Operator: corev1.TolerationOpExists})
}

// shell returns a pod whose only container runs a shell script.
func (w *world) shell(name, script string) *corev1.Pod {
	grace := int64(2)
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: corev1.PodSpec{
			RestartPolicy:                 corev1.RestartPolicyNever,
			TerminationGracePeriodSeconds: &grace,
			Containers:                    []corev1.Container{{Name: "main", Image: busybox, Command: []string{"sh", "-c", script}}},
		},
	}
	onVirtualNode(&pod.Spec, w.node)
	return pod
}

func (w *world) create(t *testing.T, pod *corev1.Pod) *corev1.Pod {
	t.Helper()
	created, err := w.af.CoreV1().Pods(w.namespace).Create(t.Context(), pod, metav1.CreateOptions{})
	require.NoError(t, err)
	t.Cleanup(func() { w.remove(t, created.Name) })
	return created
}

// remove deletes a pod of the origin at once and waits until it is gone there.
func (w *world) remove(t *testing.T, name string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	grace := int64(1)
	err := w.af.CoreV1().Pods(w.namespace).Delete(ctx, name, metav1.DeleteOptions{GracePeriodSeconds: &grace})
	if !apierrors.IsNotFound(err) {
		require.NoError(t, err)
	}
	eventually(ctx, t, "pod "+name+" gone at the origin", func() (bool, string) {
		pod, err := w.af.CoreV1().Pods(w.namespace).Get(ctx, name, metav1.GetOptions{})
		return apierrors.IsNotFound(err), describe(pod)
	})
}

// awaitPhase waits until the origin shows the pod in phase.
func (w *world) awaitPhase(t *testing.T, name string, phase corev1.PodPhase) *corev1.Pod {
	t.Helper()
	return w.awaitPod(t, name, "phase "+string(phase), func(pod *corev1.Pod) bool { return pod.Status.Phase == phase })
}

// awaitPod waits until the origin's pod fulfils done.
func (w *world) awaitPod(t *testing.T, name, what string, done func(*corev1.Pod) bool) *corev1.Pod {
	t.Helper()
	var last *corev1.Pod
	eventually(t.Context(), t, fmt.Sprintf("pod %s: %s", name, what), func() (bool, string) {
		pod, err := w.af.CoreV1().Pods(w.namespace).Get(t.Context(), name, metav1.GetOptions{})
		if err != nil {
			return false, err.Error()
		}
		last = pod
		return done(pod), describe(pod)
	})
	return last
}

// remote returns the pods on the CaaS cluster that stand for an origin pod.
func (w *world) remote(t *testing.T, pod *corev1.Pod) []corev1.Pod {
	t.Helper()
	list, err := w.caas.CoreV1().Pods(w.remoteNamespace).List(t.Context(), metav1.ListOptions{LabelSelector: managed + ",offload.infn.it/uid=" + string(pod.UID)})
	require.NoError(t, err)
	return list.Items
}

// awaitNothingRemote waits until the CaaS cluster holds nothing that the sidecar made.
func (w *world) awaitNothingRemote(t *testing.T) {
	t.Helper()
	eventually(t.Context(), t, "nothing left on the CaaS cluster", func() (bool, string) {
		left := w.remoteObjects(t)
		return len(left) == 0, strings.Join(left, ", ")
	})
}

// remoteObjects names everything on the CaaS cluster that the sidecar made.
func (w *world) remoteObjects(t *testing.T) []string {
	t.Helper()
	options := metav1.ListOptions{LabelSelector: managed}
	var names []string
	pods, err := w.caas.CoreV1().Pods("").List(t.Context(), options)
	require.NoError(t, err)
	for _, pod := range pods.Items {
		names = append(names, "pod/"+pod.Name)
	}
	configMaps, err := w.caas.CoreV1().ConfigMaps("").List(t.Context(), options)
	require.NoError(t, err)
	for _, configMap := range configMaps.Items {
		names = append(names, "configmap/"+configMap.Name)
	}
	secrets, err := w.caas.CoreV1().Secrets("").List(t.Context(), options)
	require.NoError(t, err)
	for _, secret := range secrets.Items {
		names = append(names, "secret/"+secret.Name)
	}
	return names
}

// logs reads a container's log through the virtual node.
func (w *world) logs(t *testing.T, name, container string) string {
	t.Helper()
	content, err := w.af.CoreV1().Pods(w.namespace).GetLogs(name, &corev1.PodLogOptions{Container: container}).DoRaw(t.Context())
	require.NoError(t, err)
	return string(content)
}

// patience bounds every wait; a wait that needs it has failed.
const patience = 3 * time.Minute

// eventually waits until done says true; the text beside it says how things stand.
func eventually(ctx context.Context, t *testing.T, what string, done func() (bool, string)) {
	t.Helper()
	labtest.Eventually(ctx, t, patience, what, done)
}

// describe tells the state of a pod in a line.
func describe(pod *corev1.Pod) string {
	if pod == nil {
		return "no pod"
	}
	parts := []string{string(pod.Status.Phase), pod.Status.Reason, pod.Status.Message}
	for _, status := range append(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses...) {
		switch {
		case status.State.Waiting != nil:
			parts = append(parts, fmt.Sprintf("%s waiting %s %s", status.Name, status.State.Waiting.Reason, status.State.Waiting.Message))
		case status.State.Terminated != nil:
			parts = append(parts, fmt.Sprintf("%s exited %d %s", status.Name, status.State.Terminated.ExitCode, status.State.Terminated.Reason))
		case status.State.Running != nil:
			parts = append(parts, status.Name+" running")
		}
	}
	return strings.Join(parts, " | ")
}
