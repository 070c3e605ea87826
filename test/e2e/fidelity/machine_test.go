// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package fidelity_test

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/cloudveneto/caas/internal/lab"
	"github.com/cloudveneto/caas/internal/lab/offload"
)

// actedMachineKey chooses one of the nodes whose kubelet is the test.
const actedMachineKey = "fidelity.test/machine"

// machine is a node of the target about whose pods the test says what a kubelet would: things that the lab's real
// kubelets, which are on this machine, cannot be brought to say.
type machine struct{ name string }

// atActed is a room whose pods go to such nodes.
func atActed(origin string) func(*world) (string, string, *offload.Path) {
	return func(w *world) (string, string, *offload.Path) { return origin, "cms-acted", w.acted }
}

// machine registers a node. It is heard of this once, so that it is lost after some 50 seconds.
func (r *room) machine(t *testing.T, name string) machine {
	t.Helper()
	m := machine{name: "acted-" + name}
	pool, err := r.lab.SharedPool(offload.Project)
	require.NoError(t, err)
	m.remove(t, r) // one of an earlier run
	_, err = r.caas.CoreV1().Nodes().Create(t.Context(), &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: m.name, Labels: map[string]string{
			actedLabel: "true", actedMachineKey: name, lab.NodePoolLabel: pool, corev1.LabelHostname: m.name, corev1.LabelOSStable: "linux",
		}},
		Spec: corev1.NodeSpec{Taints: []corev1.Taint{{Key: actedLabel, Value: "true", Effect: corev1.TaintEffectNoSchedule}}},
	}, metav1.CreateOptions{})
	require.NoError(t, err)
	t.Cleanup(func() {
		ctx, cancel := cleanupContext(t)
		defer cancel()
		err := r.caas.CoreV1().Nodes().Delete(ctx, m.name, metav1.DeleteOptions{})
		assert.True(t, err == nil || apierrors.IsNotFound(err), "%v", err)
	})
	room := corev1.ResourceList{corev1.ResourceCPU: quantity("8"), corev1.ResourceMemory: quantity("32Gi"), corev1.ResourcePods: quantity("110")}
	patch, err := json.Marshal(map[string]any{"status": corev1.NodeStatus{
		Capacity: room, Allocatable: room,
		Conditions: []corev1.NodeCondition{{
			Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "KubeletReady", LastHeartbeatTime: metav1.Now(), LastTransitionTime: metav1.Now(),
		}},
	}})
	require.NoError(t, err)
	_, err = r.caas.CoreV1().Nodes().Patch(t.Context(), m.name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status")
	require.NoError(t, err)
	return m
}

func (m machine) remove(t *testing.T, r *room) {
	t.Helper()
	err := r.caas.CoreV1().Nodes().Delete(t.Context(), m.name, metav1.DeleteOptions{})
	require.True(t, err == nil || apierrors.IsNotFound(err), "%v", err)
}

// pod is one that goes to this node. The virtual node does not have that label, hence no scheduler at the origin.
func (m machine) pod(r *room, name string) *corev1.Pod {
	pod := r.shell(name, "sleep 3600")
	pod.Spec.NodeName = r.node
	pod.Spec.NodeSelector = map[string]string{actedMachineKey: m.name[len("acted-"):]}
	return pod
}

// awaitBound waits until the target's scheduler has chosen the node.
func (r *room) awaitBound(t *testing.T, pod *corev1.Pod, m machine) *corev1.Pod {
	t.Helper()
	far := r.awaitFar(t, pod)
	eventually(t.Context(), t, "bound to "+m.name, func() (bool, string) {
		now, err := r.caas.CoreV1().Pods(r.target).Get(t.Context(), far.Name, metav1.GetOptions{})
		require.NoError(t, err)
		far = now
		return now.Spec.NodeName == m.name, now.Spec.NodeName + " " + condition(now, corev1.PodScheduled).Message
	})
	return far
}

// runningStatus is what a kubelet says of a pod with the container main.
func runningStatus(podIP, hostIP string, started metav1.Time) corev1.PodStatus {
	yes := true
	state := func(kind corev1.PodConditionType) corev1.PodCondition {
		return corev1.PodCondition{Type: kind, Status: corev1.ConditionTrue, LastTransitionTime: started}
	}
	return corev1.PodStatus{
		Phase: corev1.PodRunning, PodIP: podIP, PodIPs: []corev1.PodIP{{IP: podIP}}, HostIP: hostIP, HostIPs: []corev1.HostIP{{IP: hostIP}}, StartTime: &started,
		Conditions: []corev1.PodCondition{state(corev1.PodReady), state(corev1.ContainersReady), state(corev1.PodInitialized), state(corev1.PodScheduled)},
		ContainerStatuses: []corev1.ContainerStatus{{
			Name: "main", Image: busybox, Ready: true, Started: &yes, ContainerID: "acted://1", State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: started}},
		}},
	}
}

// runs says what the kubelet would of a pod.
func (m machine) runs(t *testing.T, r *room, far *corev1.Pod, status corev1.PodStatus) {
	t.Helper()
	patch, err := json.Marshal(map[string]any{"status": status})
	require.NoError(t, err)
	_, err = r.caas.CoreV1().Pods(r.target).Patch(t.Context(), far.Name, types.MergePatchType, patch, metav1.PatchOptions{}, "status")
	require.NoError(t, err)
}
