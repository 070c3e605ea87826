// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e_test

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

func quantity(text string) resource.Quantity { return resource.MustParse(text) }

// awaitRemote waits until exactly one remote pod stands for pod.
func (w *world) awaitRemote(t *testing.T, pod *corev1.Pod) *corev1.Pod {
	t.Helper()
	var found []corev1.Pod
	eventually(t.Context(), t, "remote pod of "+pod.Name, func() (bool, string) {
		found = w.remote(t, pod)
		return len(found) > 0, "none"
	})
	require.Len(t, found, 1)
	return &found[0]
}

func jobCompletes(t *testing.T, w *world) {
	completions := int32(3)
	job := &batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{Name: "three"},
		Spec: batchv1.JobSpec{
			Completions: &completions, Parallelism: &completions,
			Template: corev1.PodTemplateSpec{Spec: w.shell("", "echo done").Spec},
		},
	}
	_, err := w.af.BatchV1().Jobs(w.namespace).Create(t.Context(), job, metav1.CreateOptions{})
	require.NoError(t, err)
	eventually(t.Context(), t, "job complete", func() (bool, string) {
		job, err := w.af.BatchV1().Jobs(w.namespace).Get(t.Context(), "three", metav1.GetOptions{})
		require.NoError(t, err)
		return job.Status.Succeeded == completions && job.Status.CompletionTime != nil, job.Status.String()
	})
	background := metav1.DeletePropagationForeground
	require.NoError(t, w.af.BatchV1().Jobs(w.namespace).Delete(t.Context(), "three", metav1.DeleteOptions{PropagationPolicy: &background}))
	eventually(t.Context(), t, "job gone", func() (bool, string) {
		_, err := w.af.BatchV1().Jobs(w.namespace).Get(t.Context(), "three", metav1.GetOptions{})
		return apierrors.IsNotFound(err), "still there"
	})
	w.awaitNothingRemote(t)
}

// deployment makes a Deployment of sleeping pods on the virtual node.
func (w *world) deployment(t *testing.T, name string, replicas int32, change func(*corev1.PodSpec)) *appsv1.Deployment {
	t.Helper()
	labels := map[string]string{"app": name}
	spec := w.shell("", "echo started; trap exit TERM; sleep 36000 & wait").Spec
	spec.RestartPolicy = corev1.RestartPolicyAlways
	if change != nil {
		change(&spec)
	}
	deployment, err := w.af.AppsV1().Deployments(w.namespace).Create(t.Context(), &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: appsv1.DeploymentSpec{
			Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: spec},
		},
	}, metav1.CreateOptions{})
	require.NoError(t, err)
	return deployment
}

func (w *world) awaitAvailable(t *testing.T, name string, replicas int32) {
	t.Helper()
	defer func() {
		if t.Failed() {
			w.tellUnready(t, name)
		}
	}()
	eventually(t.Context(), t, "deployment "+name+" available", func() (bool, string) {
		deployment, err := w.af.AppsV1().Deployments(w.namespace).Get(t.Context(), name, metav1.GetOptions{})
		require.NoError(t, err)
		return deployment.Status.AvailableReplicas == replicas && deployment.Status.UpdatedReplicas == replicas && deployment.Status.Replicas == replicas,
			deployment.Status.String()
	})
}

// tellUnready logs how the pods that are not ready stand on both sides.
func (w *world) tellUnready(t *testing.T, app string) {
	t.Helper()
	list, err := w.caas.CoreV1().Pods(w.remoteNamespace).List(t.Context(), metav1.ListOptions{LabelSelector: managed})
	require.NoError(t, err)
	remote := map[string]*corev1.Pod{}
	for i := range list.Items {
		remote[list.Items[i].Labels["offload.infn.it/uid"]] = &list.Items[i]
	}
	for _, pod := range w.podsOf(t, app) {
		ready := slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
			return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
		})
		if ready {
			continue
		}
		far := remote[string(pod.UID)]
		t.Logf("%s %s (version %s): %s %v", pod.Name, pod.UID, pod.ResourceVersion, describe(&pod), pod.Status.Conditions)
		t.Logf("  at the far end: %s", describe(far))
		if far != nil {
			t.Logf("  %s on %q: %v", far.Name, far.Spec.NodeName, far.Status.Conditions)
		}
	}
}

func (w *world) removeDeployment(t *testing.T, name string) {
	t.Helper()
	foreground := metav1.DeletePropagationForeground
	require.NoError(t, w.af.AppsV1().Deployments(w.namespace).Delete(t.Context(), name, metav1.DeleteOptions{PropagationPolicy: &foreground}))
	eventually(t.Context(), t, "deployment "+name+" gone", func() (bool, string) {
		_, err := w.af.AppsV1().Deployments(w.namespace).Get(t.Context(), name, metav1.GetOptions{})
		return apierrors.IsNotFound(err), "still there"
	})
}

func (w *world) podsOf(t *testing.T, app string) []corev1.Pod {
	t.Helper()
	pods, err := w.af.CoreV1().Pods(w.namespace).List(t.Context(), metav1.ListOptions{LabelSelector: "app=" + app})
	require.NoError(t, err)
	return pods.Items
}

func deploymentOfThree(t *testing.T, w *world) {
	w.deployment(t, "three", 3, nil)
	w.awaitAvailable(t, "three", 3)
	pods := w.podsOf(t, "three")
	require.Len(t, pods, 3)
	assert.Equal(t, "started\n", w.logs(t, pods[0].Name, ""))
	w.kubectl(t, "delete", "pod", pods[0].Name, "--wait=true")
	w.awaitAvailable(t, "three", 3)
	for _, pod := range w.podsOf(t, "three") {
		assert.NotEqual(t, pods[0].Name, pod.Name, "a deleted pod is replaced")
		assert.Zero(t, pod.Status.ContainerStatuses[0].RestartCount)
	}
	w.removeDeployment(t, "three")
	w.awaitNothingRemote(t)
}

// servicesAcross: an offloaded pod and an ordinary pod of the remote cluster
// reach each other through a Service of the remote cluster, by its name.
func servicesAcross(t *testing.T, w *world) {
	server := w.shell("server", "mkdir /www; echo served from afar > /www/index.html; httpd -f -p 8080 -h /www")
	server.Labels = map[string]string{"app": "server"}
	server.Spec.Containers[0].ReadinessProbe = &corev1.Probe{
		ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Port: intstr.FromInt32(8080)}}, PeriodSeconds: 1,
	}
	w.create(t, server)
	service := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "server"},
		Spec:       corev1.ServiceSpec{Selector: server.Labels, Ports: []corev1.ServicePort{{Port: 80, TargetPort: intstr.FromInt32(8080)}}},
	}
	_, err := w.af.CoreV1().Services(w.namespace).Create(t.Context(), service, metav1.CreateOptions{})
	require.NoError(t, err)
	t.Cleanup(func() {
		assert.NoError(t, w.af.CoreV1().Services(w.namespace).Delete(w.cleanup, "server", metav1.DeleteOptions{}))
	})
	w.awaitPod(t, "server", "ready", func(pod *corev1.Pod) bool {
		return len(pod.Status.ContainerStatuses) == 1 && pod.Status.ContainerStatuses[0].Ready
	})
	const fetch = "for i in 1 2 3 4 5 6 7 8 9 10; do wget -q -O - http://server && exit 0; sleep 1; done; exit 1"
	w.create(t, w.shell("remote-client", fetch))
	local := w.shell("local-client", fetch)
	local.Spec.NodeSelector, local.Spec.Tolerations = nil, nil
	w.create(t, local)
	w.awaitPhase(t, "remote-client", corev1.PodSucceeded)
	w.awaitPhase(t, "local-client", corev1.PodSucceeded)
	assert.Equal(t, "served from afar\n", w.logs(t, "remote-client", "main"))
	assert.Equal(t, "served from afar\n", w.logs(t, "local-client", "main"))
}
