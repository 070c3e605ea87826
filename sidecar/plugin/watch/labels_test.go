// SPDX-License-Identifier: Apache-2.0

package watch_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cloudveneto/caas/sidecar/plugin/watch"
)

const accelerator = "accelerator"

// labelled is a node with an accelerator and another label.
func labelled(name, model string) *corev1.Node {
	return node(name, func(n *corev1.Node) { n.Labels = map[string]string{accelerator: model, "private": "x"} })
}

// tells waits until the labels are what they should be.
func tells(t *testing.T, w *watch.Watcher, want map[string]string) {
	t.Helper()
	assert.Eventually(t, func() bool { return assert.ObjectsAreEqual(want, w.Labels()) }, 5*time.Second, 10*time.Millisecond, "%v", want)
}

func TestLabelsFollowTheNodes(t *testing.T) {
	t.Parallel()
	w, client := run(t, watch.CapacityConfig{Labels: []string{accelerator, "absent"}}, everything,
		node("a", nil), labelled("b", "a100"), labelled("c", "a100"), labelled("empty", ""),
		node("cordoned", func(n *corev1.Node) { n.Labels, n.Spec.Unschedulable = map[string]string{accelerator: "h100"}, true }),
	)
	const a100, t4 = "accelerator.offload.infn.it/a100", "accelerator.offload.infn.it/t4"
	nodes := client.CoreV1().Nodes()
	tells(t, w, map[string]string{a100: "true"}) // "" and a100 are two values
	assert.NoError(t, nodes.Delete(t.Context(), "empty", metav1.DeleteOptions{}))
	tells(t, w, map[string]string{accelerator: "a100", a100: "true"})

	changed, stop := w.Changed()
	defer stop()
	_, err := nodes.Create(t.Context(), labelled("d", "t4"), metav1.CreateOptions{})
	assert.NoError(t, err)
	select {
	case <-changed:
	case <-t.Context().Done():
	}
	tells(t, w, map[string]string{a100: "true", t4: "true"})
	for _, name := range []string{"b", "c"} {
		assert.NoError(t, nodes.Delete(t.Context(), name, metav1.DeleteOptions{}))
	}
	tells(t, w, map[string]string{accelerator: "t4", t4: "true"})
	assert.NoError(t, nodes.Delete(t.Context(), "d", metav1.DeleteOptions{}))
	tells(t, w, map[string]string{})
}

func TestNoLabelsWhereCapacityIsNotTold(t *testing.T) {
	t.Parallel()
	w, _ := run(t, watch.CapacityConfig{Disabled: true, Labels: []string{accelerator}}, everything, labelled("a", "a100"))
	assert.Empty(t, w.Labels())
}
