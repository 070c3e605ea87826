// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package fidelity_test

import (
	"context"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/cloudveneto/caas/internal/interlink"
)

func identityCases() []fidelityCase {
	return []fidelityCase{
		{name: "01 the same UID created twice", run: sameUIDTwice},
		{name: "02 the same name with a new UID", run: sameNameNewUID},
		{name: "02 a StatefulSet's pod replaced", run: statefulSetPod},
		{name: "03 long names with equal beginnings", run: longNames},
		{name: "03 names with dots, named ports, hostname and subdomain", run: dottedName},
	}
}

// sameUIDTwice sends the create of a running pod again, many times at once, as virtual
// kubelets do that lost the answer, or that are two.
func sameUIDTwice(t *testing.T, r *room) {
	created := r.create(t, r.shell("twice", "sleep 3600"))
	r.awaitPhase(t, "twice", corev1.PodRunning)
	before := r.awaitFar(t, created)
	client := r.apiClient(t)
	request := &interlink.CreateRequest{Pod: *r.wire(r.get(t, "twice"))}
	group, ctx := errgroup.WithContext(t.Context())
	for range 16 {
		group.Go(func() error {
			var answer interlink.Created
			err := insist(ctx, func() (err error) {
				answer, err = client.Create(ctx, request)
				return err
			})
			if err != nil {
				return err
			}
			assert.Equal(t, string(created.UID), answer.PodUID)
			assert.Equal(t, before.Namespace+"/"+before.Name, answer.PodJID)
			return nil
		})
	}
	require.NoError(t, group.Wait())
	after := r.awaitFar(t, created)
	assert.Equal(t, before.UID, after.UID, "the running pod is left alone")
	assert.Nil(t, after.DeletionTimestamp)
	assert.Equal(t, before.ResourceVersion, after.ResourceVersion, "nothing was written")
}

// sameNameNewUID replaces a pod by one of the same name while the target still holds the first.
func sameNameNewUID(t *testing.T, r *room) {
	first := r.create(t, r.shell("same", "echo first; sleep 3600"))
	r.awaitPhase(t, "same", corev1.PodRunning)
	old := r.awaitFar(t, first)
	r.hold(t.Context(), t, old.Name, true)
	t.Cleanup(func() { r.release(t, old.Name) })
	r.delete(t, "same", 0)
	r.awaitGone(t, first)
	second := r.create(t, r.shell("same", "echo second; sleep 3600"))
	require.NotEqual(t, first.UID, second.UID)
	running := r.awaitPhase(t, "same", corev1.PodRunning)
	fresh := r.awaitFar(t, second)
	assert.NotEqual(t, old.Name, fresh.Name)
	eventually(t.Context(), t, "the first is on its way out, and the second is not", func() (bool, string) {
		held := r.far(t, first)
		return len(held) == 1 && held[0].DeletionTimestamp != nil && r.awaitFar(t, second).DeletionTimestamp == nil, ""
	})
	assert.Equal(t, "second\n", r.logs(t, "same", "main"))

	// What is said late of the first must not touch the second.
	r.release(t, old.Name)
	eventually(t.Context(), t, "the first is gone", func() (bool, string) { return len(r.far(t, first)) == 0, "" })
	stays(t.Context(), t, "the second runs", func() (bool, string) {
		now := r.get(t, "same")
		return now.UID == second.UID && now.Status.Phase == corev1.PodRunning && now.Status.PodIP == running.Status.PodIP, describe(now)
	})
	assert.Len(t, r.far(t, second), 1)
}

// release takes the test's finalizer off a pod of the target, if that is there.
func (r *room) release(t *testing.T, name string) {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	if _, err := r.caas.CoreV1().Pods(r.target).Get(ctx, name, metav1.GetOptions{}); apierrors.IsNotFound(err) {
		return
	}
	r.hold(ctx, t, name, false)
}

func statefulSetPod(t *testing.T, r *room) {
	labels := map[string]string{"app": "ordered"}
	template := r.shell("", "echo $(hostname) $(hostname -f); trap 'exit 0' TERM; sleep 3600 & wait").Spec
	template.RestartPolicy = corev1.RestartPolicyAlways
	one := int32(1)
	_, err := r.af.AppsV1().StatefulSets(r.namespace).Create(t.Context(), &appsv1.StatefulSet{
		ObjectMeta: metav1.ObjectMeta{Name: "ordered"},
		Spec: appsv1.StatefulSetSpec{
			Replicas: &one, ServiceName: "ordered", Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: template},
		},
	}, metav1.CreateOptions{})
	require.NoError(t, err)
	first := r.awaitPhase(t, "ordered-0", corev1.PodRunning)
	assert.Equal(t, "ordered", first.Spec.Subdomain)
	words := strings.Fields(r.logs(t, "ordered-0", "main"))
	require.NotEmpty(t, words)
	assert.Equal(t, "ordered-0", words[0], "the host name is the origin's")
	r.delete(t, "ordered-0", 5)
	second := r.awaitPod(t, "ordered-0", "another one of the name runs", func(pod *corev1.Pod) bool {
		return pod.UID != first.UID && pod.Status.Phase == corev1.PodRunning
	})
	assert.Empty(t, r.far(t, first))
	far := r.awaitFar(t, second)
	assert.Equal(t, "ordered-0", far.Spec.Hostname)
	assert.Equal(t, "ordered", far.Spec.Subdomain)
}

func longNames(t *testing.T, r *room) {
	name := strings.Repeat("long-", 49) + "pod-one" // 252 characters
	twin := name[:len(name)-3] + "two"
	first := r.create(t, r.shell(name, "echo one; hostname"))
	second := r.create(t, r.shell(twin, "echo two; hostname"))
	own := r.create(t, here(r.shell(name, "echo one; hostname"), strings.TrimRight(name[:200], "-")))
	r.awaitPhase(t, name, corev1.PodSucceeded)
	r.awaitPhase(t, twin, corev1.PodSucceeded)
	r.awaitPhase(t, own.Name, corev1.PodSucceeded)
	assert.Equal(t, r.logs(t, own.Name, "main"), r.logs(t, name, "main"), "a kubelet cuts the name in the same way")
	assert.Contains(t, r.logs(t, twin, "main"), "two\n")
	a, b := r.awaitFar(t, first), r.awaitFar(t, second)
	assert.NotEqual(t, a.Name, b.Name)
	assert.LessOrEqual(t, len(a.Name), 63)
	assert.True(t, strings.HasPrefix(a.Name, "long-long-"), "readable: %s", a.Name)
	assert.Equal(t, name, a.Annotations["offload.infn.it/name"])
}

func dottedName(t *testing.T, r *room) {
	pod := r.shell("worker-0.example.org", `hostname; hostname -f; grep "$(hostname)" /etc/hosts | awk '{print $2}'`)
	pod.Spec.Hostname, pod.Spec.Subdomain = "worker-0", "workers"
	pod.Spec.Containers[0].Ports = []corev1.ContainerPort{{Name: "dash-8788", ContainerPort: 8788}, {Name: "web", ContainerPort: 8080, Protocol: corev1.ProtocolTCP}}
	pod.Spec.Containers[0].Command = []string{"sh", "-c", "hostname; mkdir /w; httpd -p 8080 -h /w; echo up >/w/up; sleep 3600"}
	pod.Spec.Containers[0].ReadinessProbe = &corev1.Probe{
		ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/up", Port: intstr.FromString("web")}}, PeriodSeconds: 1,
	}
	created := r.create(t, pod)
	plain := r.create(t, r.shell("plain.example.org", "hostname"))
	r.awaitPod(t, pod.Name, "ready by a probe of a named port", func(pod *corev1.Pod) bool {
		return condition(pod, corev1.PodReady).Status == corev1.ConditionTrue
	})
	assert.Equal(t, "worker-0\n", r.logs(t, pod.Name, "main"))
	far := r.awaitFar(t, created)
	assert.Equal(t, pod.Spec.Containers[0].Ports[0].Name, far.Spec.Containers[0].Ports[0].Name)
	assert.Equal(t, "workers", far.Spec.Subdomain)
	r.awaitPhase(t, plain.Name, corev1.PodSucceeded)
	assert.Equal(t, "plain-example-org\n", r.logs(t, plain.Name, "main"), "a host name has no dots; that is recorded")
	assert.Contains(t, r.awaitFar(t, plain).Annotations[reportAnnotation], "spec.hostname")
}
