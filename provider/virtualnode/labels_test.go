// SPDX-License-Identifier: Apache-2.0

package virtualnode_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/cloudveneto/caas/internal/interlink"
)

const accelerator = "accelerator"

// telling is an answer of a far end that offers to tell labels.
func telling(labels map[string]string) interlink.PingResponse {
	return interlink.PingResponse{Labels: labels, Extensions: []interlink.Extension{interlink.ExtensionNodeLabels}}
}

// has tells whether the node's accelerator is this; none is "".
func has(model string) func(*corev1.Node) bool {
	return func(n *corev1.Node) bool { return n.Name != "" && n.Labels[accelerator] == model }
}

func TestFarEndsLabelsFollow(t *testing.T) {
	t.Parallel()
	h := start(t, &far{answer: telling(map[string]string{
		accelerator: "a100", "own": "theirs", "bad key": "x", "good": "bad value", "node-role.kubernetes.io/control-plane": "",
		"virtual-node.interlink/type": "another",
	})}, nil)
	h.until("labelled", has("a100"))
	labels := h.object().Labels
	assert.Equal(t, map[string]string{
		accelerator: "a100", "own": "x", "kubernetes.io/hostname": "n", "kubernetes.io/role": "agent",
	}, labels, "the configuration's stay, and what is no label or not theirs to give is left out")

	h.far.set(telling(map[string]string{accelerator: "h100", "zone": "b"}), nil)
	h.until("another model", func(n *corev1.Node) bool { return has("h100")(n) && n.Labels["zone"] == "b" })
	h.node.Offer(interlink.PingResponse{Labels: map[string]string{accelerator: "h100"}})
	h.far.set(telling(nil), nil)
	h.until("no model", has(""))
	assert.NotContains(t, h.object().Labels, "zone")
	assert.Equal(t, "x", h.object().Labels["own"])
}

// Where a far end does not offer labels, those that it tells are nothing, and those of an earlier one go.
func TestLabelsAreNegotiated(t *testing.T) {
	t.Parallel()
	plain := interlink.PingResponse{Labels: map[string]string{accelerator: "a100"}, Resources: &interlink.PingResources{CPU: "3"}}
	h := start(t, &far{answer: plain}, nil)
	h.until("pinged", func(n *corev1.Node) bool { return n.Status.Allocatable.Cpu().Value() == 3 })
	assert.NotContains(t, h.object().Labels, accelerator)
	h.far.set(telling(map[string]string{accelerator: "a100"}), nil)
	h.until("labelled", has("a100"))
	h.far.set(plain, nil)
	h.until("not any more", has(""))
}

// What somebody else has labelled is his, and what an earlier process labelled is taken over.
func TestLabelsOfOthersAndOfEarlierProcesses(t *testing.T) {
	t.Parallel()
	h := start(t, &far{answer: telling(map[string]string{accelerator: "a100", "theirs": "far", "new": "x"})}, func(client *fake.Clientset) {
		node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{
			Name: "n", Labels: map[string]string{accelerator: "t4", "gone": "y", "theirs": "admin"},
			Annotations: map[string]string{"offload.infn.it/far-end-labels": `["accelerator","gone","never"]`},
		}}
		require.NoError(t, client.Tracker().Add(node))
	})
	h.until("taken over", has("a100"))
	labels := h.object().Labels
	assert.NotContains(t, labels, "gone")
	assert.Equal(t, "admin", labels["theirs"])
	assert.Equal(t, "x", labels["new"])
	h.far.set(telling(nil), nil)
	h.until("given up", has(""))
	labels = h.object().Labels
	assert.NotContains(t, labels, "new")
	assert.Equal(t, "admin", labels["theirs"])
	assert.JSONEq(t, `[]`, h.object().Annotations["offload.infn.it/far-end-labels"])

	// One that somebody takes away comes back with what changes next.
	h.far.set(telling(map[string]string{accelerator: "a100"}), nil)
	h.until("labelled again", has("a100"))
	_, err := h.client.CoreV1().Nodes().Patch(t.Context(), "n", types.MergePatchType,
		[]byte(`{"metadata":{"labels":{"accelerator":null}}}`), metav1.PatchOptions{})
	require.NoError(t, err)
	h.far.set(interlink.PingResponse{
		Labels: map[string]string{accelerator: "a100"}, Extensions: []interlink.Extension{interlink.ExtensionNodeLabels},
		Resources: &interlink.PingResources{CPU: "4"},
	}, nil)
	h.until("and again", has("a100"))
}
