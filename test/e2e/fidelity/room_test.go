// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package fidelity_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/cloudveneto/caas/internal/interlink"
	"github.com/cloudveneto/caas/internal/lab"
	"github.com/cloudveneto/caas/internal/lab/offload"
	"github.com/cloudveneto/caas/test/e2e/labtest"
)

const (
	// busybox is the small image that the lab's registry serves.
	busybox = "docker.io/library/busybox:1.36"
	// managed selects what sidecars made.
	managed = "app.kubernetes.io/managed-by=interlink-sidecar"

	uidLabel            = "offload.infn.it/uid"
	namespaceAnnotation = "offload.infn.it/namespace"
	reportAnnotation    = "offload.infn.it/report"
	virtualTaint        = "virtual-node.interlink/no-schedule"

	// patience bounds every wait; a wait that needs it has failed.
	patience = 3 * time.Minute
	// calm is how long something must stay as it is.
	calm = 3 * time.Second
)

// room is a namespace of the origin for one case.
type room struct {
	*world
	namespace string
	path      *offload.Path
	// node is the virtual node, target the namespace at the other end.
	node, target string
}

// enter makes a room, and sees to it that nothing is left of it in the end.
func (w *world) enter(t *testing.T, namespace, target string, path *offload.Path) *room {
	t.Helper()
	r := &room{world: w, namespace: namespace, path: path, node: path.Node, target: target}
	object := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}
	eventually(t.Context(), t, "namespace "+namespace, func() (bool, string) {
		_, err := w.af.CoreV1().Namespaces().Create(t.Context(), object, metav1.CreateOptions{})
		if apierrors.IsAlreadyExists(err) { // an earlier run of a lab that was kept
			_ = w.af.CoreV1().Namespaces().Delete(t.Context(), namespace, metav1.DeleteOptions{})
		}
		return err == nil, describeError(err)
	})
	t.Cleanup(func() { r.leave(t) })
	eventually(t.Context(), t, "ServiceAccount of "+namespace, func() (bool, string) {
		_, err := w.af.CoreV1().ServiceAccounts(namespace).Get(t.Context(), "default", metav1.GetOptions{})
		return err == nil, fmt.Sprint(err)
	})
	return r
}

// leave deletes everything and waits until the target has nothing of it.
func (r *room) leave(t *testing.T) {
	ctx, cancel := cleanupContext(t)
	defer cancel()
	grace := int64(1)
	assert.NoError(t, r.af.CoreV1().Pods(r.namespace).DeleteCollection(ctx, metav1.DeleteOptions{GracePeriodSeconds: &grace}, metav1.ListOptions{}))
	assert.NoError(t, r.af.CoreV1().Namespaces().Delete(ctx, r.namespace, metav1.DeleteOptions{}))
	if t.Failed() {
		return
	}
	eventually(ctx, t, "nothing of "+r.namespace+" is left at the target", func() (bool, string) {
		left := r.left(ctx, t)
		return len(left) == 0, strings.Join(left, ", ")
	})
}

// left names what the target holds of this room.
func (r *room) left(ctx context.Context, t *testing.T) []string {
	t.Helper()
	options := metav1.ListOptions{LabelSelector: managed}
	var names []string
	add := func(kind string, object metav1.Object) {
		if object.GetAnnotations()[namespaceAnnotation] == r.namespace {
			names = append(names, kind+"/"+object.GetName())
		}
	}
	core := r.caas.CoreV1()
	pods, err := core.Pods(r.target).List(ctx, options)
	require.NoError(t, err)
	for i := range pods.Items {
		add("pod", &pods.Items[i])
	}
	configMaps, err := core.ConfigMaps(r.target).List(ctx, options)
	require.NoError(t, err)
	for i := range configMaps.Items {
		add("configmap", &configMaps.Items[i])
	}
	secrets, err := core.Secrets(r.target).List(ctx, options)
	require.NoError(t, err)
	for i := range secrets.Items {
		add("secret", &secrets.Items[i])
	}
	return names
}

// shell returns a pod for the virtual node whose only container runs a script.
func (r *room) shell(name, script string) *corev1.Pod {
	grace := int64(2)
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: corev1.PodSpec{
			RestartPolicy: corev1.RestartPolicyNever, TerminationGracePeriodSeconds: &grace,
			NodeSelector: map[string]string{corev1.LabelHostname: r.node},
			Tolerations:  []corev1.Toleration{{Key: virtualTaint, Operator: corev1.TolerationOpExists}},
			Containers:   []corev1.Container{{Name: "main", Image: busybox, Command: []string{"sh", "-c", script}}},
		},
	}
}

// here turns a pod into one of the origin's own nodes.
func here(pod *corev1.Pod, name string) *corev1.Pod {
	own := pod.DeepCopy()
	own.Name, own.Spec.NodeSelector, own.Spec.Tolerations = name, nil, nil
	return own
}

func (r *room) create(t *testing.T, pod *corev1.Pod) *corev1.Pod {
	t.Helper()
	created, err := r.af.CoreV1().Pods(r.namespace).Create(t.Context(), pod, metav1.CreateOptions{})
	require.NoError(t, err)
	return created
}

// run creates a pod, waits until it has succeeded and returns its log.
func (r *room) run(t *testing.T, pod *corev1.Pod) string {
	t.Helper()
	r.create(t, pod)
	r.awaitPhase(t, pod.Name, corev1.PodSucceeded)
	return r.logs(t, pod.Name, pod.Spec.Containers[0].Name)
}

func (r *room) delete(t *testing.T, name string, grace int64) {
	t.Helper()
	require.NoError(t, r.af.CoreV1().Pods(r.namespace).Delete(t.Context(), name, metav1.DeleteOptions{GracePeriodSeconds: &grace}))
}

func (r *room) awaitGone(t *testing.T, pod *corev1.Pod) {
	t.Helper()
	eventually(t.Context(), t, "pod "+pod.Name+" gone at the origin", func() (bool, string) {
		now, err := r.af.CoreV1().Pods(r.namespace).Get(t.Context(), pod.Name, metav1.GetOptions{})
		return apierrors.IsNotFound(err) || (err == nil && now.UID != pod.UID), describe(now)
	})
}

func (r *room) get(t *testing.T, name string) *corev1.Pod {
	t.Helper()
	pod, err := r.af.CoreV1().Pods(r.namespace).Get(t.Context(), name, metav1.GetOptions{})
	require.NoError(t, err)
	return pod
}

// awaitPhase waits until the origin shows the pod in phase.
func (r *room) awaitPhase(t *testing.T, name string, phase corev1.PodPhase) *corev1.Pod {
	t.Helper()
	return r.awaitPod(t, name, "phase "+string(phase), func(pod *corev1.Pod) bool { return pod.Status.Phase == phase })
}

// awaitPod waits until the origin's pod fulfils done.
func (r *room) awaitPod(t *testing.T, name, what string, done func(*corev1.Pod) bool) *corev1.Pod {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var last *corev1.Pod
	for !r.follow(ctx, name, func(pod *corev1.Pod) bool {
		last = pod
		return done(pod)
	}) {
		require.NoError(t, ctx.Err(), "pod %s/%s: %s; last seen: %s", r.namespace, name, what, describe(last))
		rest(ctx, 200*time.Millisecond)
	}
	return last
}

// follow watches a pod, so that no state that the origin shows is missed, until done says true or the watch ends.
func (r *room) follow(ctx context.Context, name string, done func(*corev1.Pod) bool) bool {
	stream, err := r.af.CoreV1().Pods(r.namespace).Watch(ctx, metav1.ListOptions{FieldSelector: "metadata.name=" + name})
	if err != nil {
		return false
	}
	defer stream.Stop()
	for event := range stream.ResultChan() {
		if pod, ok := event.Object.(*corev1.Pod); ok && event.Type != watch.Deleted && done(pod) {
			return true
		}
	}
	return false
}

// far returns the pods at the target that stand for the origin's.
func (r *room) far(t *testing.T, pod *corev1.Pod) []corev1.Pod {
	t.Helper()
	list, err := r.caas.CoreV1().Pods(r.target).List(t.Context(), metav1.ListOptions{LabelSelector: managed + "," + uidLabel + "=" + string(pod.UID)})
	require.NoError(t, err)
	return list.Items
}

// awaitFar waits until exactly one pod at the target stands for the origin's.
func (r *room) awaitFar(t *testing.T, pod *corev1.Pod) *corev1.Pod {
	t.Helper()
	var found []corev1.Pod
	eventually(t.Context(), t, "pod at the target for "+pod.Name, func() (bool, string) {
		found = r.far(t, pod)
		return len(found) > 0, "none"
	})
	require.Len(t, found, 1)
	return &found[0]
}

// hold puts a finalizer on a pod of the target, or takes it off.
func (r *room) hold(ctx context.Context, t *testing.T, name string, on bool) {
	t.Helper()
	finalizers := "null"
	if on {
		finalizers = `["fidelity.test/hold"]`
	}
	patch := []byte(`{"metadata":{"finalizers":` + finalizers + `}}`)
	_, err := r.caas.CoreV1().Pods(r.target).Patch(ctx, name, types.MergePatchType, patch, metav1.PatchOptions{})
	require.NoError(t, err)
}

// logs reads a container's log through the virtual node.
func (r *room) logs(t *testing.T, name, container string) string {
	t.Helper()
	var content []byte
	eventually(t.Context(), t, "log of "+name, func() (bool, string) {
		var err error
		content, err = r.af.CoreV1().Pods(r.namespace).GetLogs(name, &corev1.PodLogOptions{Container: container}).DoRaw(t.Context())
		return err == nil, describeError(err)
	})
	return string(content)
}

func (r *room) configMap(t *testing.T, object corev1.ConfigMap) {
	t.Helper()
	_, err := r.af.CoreV1().ConfigMaps(r.namespace).Create(t.Context(), &object, metav1.CreateOptions{})
	require.NoError(t, err)
}

func (r *room) secret(t *testing.T, object corev1.Secret) {
	t.Helper()
	_, err := r.af.CoreV1().Secrets(r.namespace).Create(t.Context(), &object, metav1.CreateOptions{})
	require.NoError(t, err)
}

func (r *room) apiClient(t *testing.T) *interlink.Client {
	t.Helper()
	return r.world.apiClient(t, r.path)
}

// wire is a pod as the virtual kubelet sends it.
func (r *room) wire(pod *corev1.Pod) *corev1.Pod {
	sent := pod.DeepCopy()
	sent.Annotations = map[string]string{interlink.AnnotationOriginCluster: originID, interlink.AnnotationOriginNode: r.node}
	return sent
}

// kubectl runs kubectl at the origin, in the room.
func (r *room) kubectl(t *testing.T, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	return output(t, r.world.kubectl(ctx, t, lab.AF, r.namespace, args...))
}

// insist repeats a request that the far end cannot take now, as a virtual kubelet does, until it is taken or refused.
func insist(ctx context.Context, request func() error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		err := request()
		if err == nil || interlink.IsRefused(err) || ctx.Err() != nil {
			return err
		}
		rest(ctx, time.Second)
	}
}

// cleanupContext outlives the test's own.
func cleanupContext(t *testing.T) (context.Context, context.CancelFunc) {
	t.Helper()
	return context.WithTimeout(context.WithoutCancel(t.Context()), patience)
}

// stays requires that something is so for a while.
func stays(ctx context.Context, t *testing.T, what string, so func() (bool, string)) {
	t.Helper()
	for end := time.Now().Add(calm); time.Now().Before(end); {
		still, now := so()
		require.True(t, still, "%s; now: %s", what, now)
		rest(ctx, 200*time.Millisecond)
	}
}

func rest(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// eventually waits until done says true; the text beside it says how things stand.
func eventually(ctx context.Context, t *testing.T, what string, done func() (bool, string)) {
	t.Helper()
	labtest.Eventually(ctx, t, patience, what, done)
}

func quantity(text string) resource.Quantity { return resource.MustParse(text) }

// container finds the status of a container, of whatever kind.
func container(pod *corev1.Pod, name string) *corev1.ContainerStatus {
	for _, list := range [][]corev1.ContainerStatus{pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses} {
		if at := slices.IndexFunc(list, func(s corev1.ContainerStatus) bool { return s.Name == name }); at >= 0 {
			return &list[at]
		}
	}
	return &corev1.ContainerStatus{}
}

// waiting is why a container waits, or "".
func waiting(pod *corev1.Pod, name string) string {
	if state := container(pod, name).State.Waiting; state != nil {
		return state.Reason
	}
	return ""
}

func condition(pod *corev1.Pod, kind corev1.PodConditionType) corev1.PodCondition {
	at := slices.IndexFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool { return c.Type == kind })
	if at < 0 {
		return corev1.PodCondition{}
	}
	return pod.Status.Conditions[at]
}

func ended(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodFailed || pod.Status.Phase == corev1.PodSucceeded
}

// describe tells the state of a pod in a line.
func describe(pod *corev1.Pod) string {
	if pod == nil {
		return "no pod"
	}
	parts := []string{string(pod.Status.Phase), pod.Status.Reason, pod.Status.Message}
	for _, status := range append(slices.Clone(pod.Status.InitContainerStatuses), pod.Status.ContainerStatuses...) {
		switch {
		case status.State.Waiting != nil:
			parts = append(parts, fmt.Sprintf("%s waiting %s %s", status.Name, status.State.Waiting.Reason, status.State.Waiting.Message))
		case status.State.Terminated != nil:
			parts = append(parts, fmt.Sprintf("%s exited %d %s", status.Name, status.State.Terminated.ExitCode, status.State.Terminated.Reason))
		case status.State.Running != nil:
			parts = append(parts, fmt.Sprintf("%s running, %d restarts", status.Name, status.RestartCount))
		}
	}
	return strings.Join(parts, " | ")
}
