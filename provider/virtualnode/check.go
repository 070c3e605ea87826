// SPDX-License-Identifier: Apache-2.0

package virtualnode

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// check looks whether somebody else has written the node's readiness, and has it written
// again if so. The node controller does when it has not heard of the node for a while, be
// it that the API server was down or that the controller itself was behind, and nobody
// but the node takes that back. A kubelet looks as often. The answer comes from the API
// server's cache; an older state than the present one costs one needless write.
func (n *Node) check(ctx context.Context) {
	n.mu.Lock()
	known, ready := n.server != nil && !n.stale, n.state.ready
	n.mu.Unlock()
	if !known {
		return // on its way already
	}
	ctx, cancel := context.WithTimeout(ctx, apiTimeout/2)
	defer cancel()
	node, err := n.cfg.Client.CoreV1().Nodes().Get(ctx, n.cfg.Name, metav1.GetOptions{ResourceVersion: "0"})
	if apierrors.IsNotFound(err) || (err == nil && readiness(node) != condition(ready)) {
		n.forget()
		n.changed()
	}
}

func readiness(node *corev1.Node) corev1.ConditionStatus {
	for i := range node.Status.Conditions {
		if node.Status.Conditions[i].Type == corev1.NodeReady {
			return node.Status.Conditions[i].Status
		}
	}
	return ""
}

func condition(ready bool) corev1.ConditionStatus {
	if ready {
		return corev1.ConditionTrue
	}
	return corev1.ConditionFalse
}
