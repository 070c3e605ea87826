// SPDX-License-Identifier: Apache-2.0

package virtualnode_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"github.com/cloudveneto/caas/internal/interlink"
	"github.com/cloudveneto/caas/provider/virtualnode"
)

const patience = 10 * time.Second

// far is a far end whose next answers a test chooses.
type far struct {
	mu     sync.Mutex
	answer interlink.PingResponse
	err    error
	pings  int
}

func (f *far) Ping(context.Context) (interlink.PingResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.pings++
	return f.answer, f.err
}

func (f *far) set(answer interlink.PingResponse, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.answer, f.err, f.pings = answer, err, 0
}

func (f *far) asked() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.pings
}

type harness struct {
	t      *testing.T
	far    *far
	client *fake.Clientset
	node   *virtualnode.Node
	// figures has the node's metrics.
	figures *prometheus.Registry
}

// figure wants the node's only metric to have a value.
func (h *harness) figure(value string) {
	h.t.Helper()
	const name = "virtual_kubelet_far_end_ready"
	assert.NoError(h.t, testutil.GatherAndCompare(h.figures, strings.NewReader("# HELP "+name+
		" 1 when the far end can run pods, else 0: whether the virtual node is ready.\n# TYPE "+name+" gauge\n"+name+" "+value+"\n"), name))
}

func start(t *testing.T, f *far, prepare func(*fake.Clientset)) *harness {
	t.Helper()
	return startEvery(t, 10*time.Millisecond, f, prepare)
}

func startEvery(t *testing.T, interval time.Duration, f *far, prepare func(*fake.Clientset)) *harness {
	t.Helper()
	h := &harness{t: t, far: f, client: fake.NewClientset(), figures: prometheus.NewRegistry()}
	if prepare != nil {
		prepare(h.client)
	}
	node, err := virtualnode.New(virtualnode.Config{
		Client: h.client, Far: f, Name: "n", Address: "192.0.2.7", Port: 10250, Version: "v1",
		Labels:       map[string]string{"kubernetes.io/hostname": "n", "kubernetes.io/role": "agent", "own": "x"},
		Taints:       []corev1.Taint{{Key: "virtual-node.interlink/no-schedule", Value: "true", Effect: corev1.TaintEffectNoSchedule}},
		Capacity:     corev1.ResourceList{"cpu": resource.MustParse("10"), "pods": resource.MustParse("5")},
		PingInterval: interval, Metrics: h.figures,
	})
	require.NoError(t, err)
	h.node = node
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- node.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-done)
	})
	return h
}

func (h *harness) object() *corev1.Node {
	node, err := h.client.CoreV1().Nodes().Get(h.t.Context(), "n", metav1.GetOptions{})
	if err != nil {
		return &corev1.Node{}
	}
	return node
}

func (h *harness) until(what string, check func(*corev1.Node) bool) {
	h.t.Helper()
	require.Eventually(h.t, func() bool { return check(h.object()) }, patience, 5*time.Millisecond, what)
}

func ready(node *corev1.Node) corev1.NodeCondition {
	for _, condition := range node.Status.Conditions {
		if condition.Type == corev1.NodeReady {
			return condition
		}
	}
	return corev1.NodeCondition{}
}

func TestReadiness(t *testing.T) {
	t.Parallel()
	h := start(t, &far{err: errors.New("connection refused")}, nil)
	h.until("registered, not ready, with the reason", func(n *corev1.Node) bool {
		return ready(n).Status == corev1.ConditionFalse && ready(n).Message == "connection refused"
	})
	assert.False(t, h.node.Ready())
	h.figure("0")
	h.far.set(interlink.PingResponse{}, errors.New("the site does not know you"))
	h.until("the reason of today", func(n *corev1.Node) bool { return ready(n).Message == "the site does not know you" })
	h.far.set(interlink.PingResponse{}, nil)
	h.until("ready at the first answer", func(n *corev1.Node) bool { return ready(n).Status == corev1.ConditionTrue })
	h.figure("1")
	since := ready(h.object()).LastTransitionTime
	h.far.set(interlink.PingResponse{}, errors.New("gone"))
	h.until("not ready after failures", func(n *corev1.Node) bool { return ready(n).Status == corev1.ConditionFalse })
	assert.GreaterOrEqual(t, h.far.asked(), 3, "one or two failures are not enough")
	assert.Equal(t, "FarEndUnreachable", ready(h.object()).Reason)
	assert.GreaterOrEqual(t, ready(h.object()).LastTransitionTime.Unix(), since.Unix())
}

func TestObject(t *testing.T) {
	t.Parallel()
	h := start(t, &far{}, nil)
	h.until("ready", func(n *corev1.Node) bool { return ready(n).Status == corev1.ConditionTrue })
	node := h.object()
	assert.Equal(t, "agent", node.Labels["kubernetes.io/role"])
	assert.Equal(t, "virtual-node.interlink/no-schedule", node.Spec.Taints[0].Key)
	assert.Equal(t, int32(10250), node.Status.DaemonEndpoints.KubeletEndpoint.Port)
	assert.Contains(t, node.Status.Addresses, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: "192.0.2.7"})
	assert.Equal(t, "10", node.Status.Allocatable.Cpu().String())
	require.Eventually(t, func() bool {
		lease, err := h.client.CoordinationV1().Leases("kube-node-lease").Get(t.Context(), "n", metav1.GetOptions{})
		return err == nil && *lease.Spec.LeaseDurationSeconds == 40 && lease.OwnerReferences[0].Name == "n"
	}, patience, 10*time.Millisecond)
}

func TestFarEndChangesResourcesAndTaints(t *testing.T) {
	t.Parallel()
	h := start(t, &far{answer: interlink.PingResponse{
		Resources: &interlink.PingResources{CPU: "3", Memory: "nonsense", Accelerators: []interlink.PingAccelerator{{ResourceType: "nvidia.com/gpu", Available: "4"}}},
		Taints:    &[]interlink.PingTaint{{Key: "full", Effect: "NoExecute"}, {Key: "virtual-node.interlink/no-schedule", Effect: "NoExecute"}},
	}}, nil)
	h.until("resources", func(n *corev1.Node) bool {
		gpus := n.Status.Allocatable["nvidia.com/gpu"]
		return n.Status.Allocatable.Cpu().Value() == 3 && gpus.Value() == 4
	})
	h.until("taints", func(n *corev1.Node) bool { return len(n.Spec.Taints) == 2 && n.Spec.Taints[1].Key == "full" })
	allocatable := h.node.Allocatable()
	assert.Equal(t, int64(5), allocatable.Pods().Value())
}

func TestTaintsOfOthersStay(t *testing.T) {
	t.Parallel()
	h := start(t, &far{answer: interlink.PingResponse{Taints: &[]interlink.PingTaint{{Key: "full", Effect: "NoSchedule"}}}}, nil)
	h.until("tainted", func(n *corev1.Node) bool { return len(n.Spec.Taints) == 2 })
	node := h.object()
	node.Spec.Taints = append(node.Spec.Taints, corev1.Taint{Key: "cordon", Effect: corev1.TaintEffectNoSchedule})
	_, err := h.client.CoreV1().Nodes().Update(t.Context(), node, metav1.UpdateOptions{})
	require.NoError(t, err)
	// The node's copy is stale; a status patch brings the new one along.
	h.node.Offer(interlink.PingResponse{Resources: &interlink.PingResources{CPU: "4"}})
	h.until("seen", func(n *corev1.Node) bool { return n.Status.Allocatable.Cpu().Value() == 4 })
	h.far.set(interlink.PingResponse{Taints: &[]interlink.PingTaint{}}, nil)
	h.until("only its own taint is taken away", func(n *corev1.Node) bool {
		return len(n.Spec.Taints) == 2 && n.Spec.Taints[1].Key == "cordon"
	})
}

func TestLabelsThatANodeMayNotSet(t *testing.T) {
	t.Parallel()
	h := start(t, &far{}, func(client *fake.Clientset) {
		client.PrependReactor("create", "nodes", func(action clienttesting.Action) (bool, runtime.Object, error) {
			create, ok := action.(clienttesting.CreateAction)
			if !ok {
				return false, nil, nil
			}
			node, ok := create.GetObject().(*corev1.Node)
			if ok && node.Labels["kubernetes.io/role"] != "" {
				return true, nil, apierrors.NewForbidden(schema.GroupResource{Resource: "nodes"}, "n", errors.New("labels"))
			}
			return false, nil, nil
		})
	})
	h.until("ready", func(n *corev1.Node) bool { return ready(n).Status == corev1.ConditionTrue })
	assert.Equal(t, map[string]string{"kubernetes.io/hostname": "n", "own": "x"}, h.object().Labels)
}

func TestDeletedObjectIsMadeAgain(t *testing.T) {
	t.Parallel()
	h := start(t, &far{}, nil)
	h.until("ready", func(n *corev1.Node) bool { return ready(n).Status == corev1.ConditionTrue })
	require.NoError(t, h.client.CoreV1().Nodes().Delete(t.Context(), "n", metav1.DeleteOptions{}))
	h.node.Offer(interlink.PingResponse{Resources: &interlink.PingResources{CPU: "1"}})
	h.until("ready again", func(n *corev1.Node) bool { return ready(n).Status == corev1.ConditionTrue })
}

// The node controller marks nodes that it has not heard of; only the node itself says otherwise.
func TestReadinessThatOthersWroteIsCorrected(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := start(t, &far{}, nil)
		h.until("ready", func(node *corev1.Node) bool { return ready(node).Status == corev1.ConditionTrue })
		node := h.object()
		for i := range node.Status.Conditions {
			node.Status.Conditions[i].Status, node.Status.Conditions[i].Reason = corev1.ConditionUnknown, "NodeStatusUnknown"
		}
		_, err := h.client.CoreV1().Nodes().UpdateStatus(t.Context(), node, metav1.UpdateOptions{})
		require.NoError(t, err)
		begun := time.Now()
		h.until("ready again", func(node *corev1.Node) bool { return ready(node).Status == corev1.ConditionTrue })
		assert.Less(t, time.Since(begun), 15*time.Second)
		assert.Equal(t, "FarEndUsable", ready(h.object()).Reason)
	})
}

// However long an outage was, the node is back soon after it, and one ping that fails is none.
func TestBackWithinSecondsOfAnOutage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := &far{}
		h := startEvery(t, 0, f, nil)
		is := func(status corev1.ConditionStatus) func(*corev1.Node) bool {
			return func(node *corev1.Node) bool { return ready(node).Status == status }
		}
		h.until("ready", is(corev1.ConditionTrue))
		begun := time.Now()
		f.set(interlink.PingResponse{}, errors.New("no answer"))
		time.Sleep(6 * time.Second)
		assert.Equal(t, corev1.ConditionTrue, ready(h.object()).Status, "not at the first failure")
		h.until("not ready", is(corev1.ConditionFalse))
		assert.Less(t, time.Since(begun), 20*time.Second)
		time.Sleep(10 * time.Minute)
		f.set(interlink.PingResponse{}, nil)
		begun = time.Now()
		h.until("ready again", is(corev1.ConditionTrue))
		assert.LessOrEqual(t, time.Since(begun), 2*time.Second)
	})
}
