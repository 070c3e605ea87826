// SPDX-License-Identifier: Apache-2.0

package apply

import (
	"context"
	"encoding/json"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// AddEphemeral adds ephemeral containers to a created pod. One of the same name and
// content is left as it is. The error is a *ClusterError or ctx's.
func (a *Applier) AddEphemeral(ctx context.Context, pod *corev1.Pod, containers []corev1.EphemeralContainer) error {
	ctx, cancel := context.WithTimeout(ctx, a.config.Timeout)
	defer cancel()
	operation := "add ephemeral containers to " + quoted("pod", pod.Namespace, pod.Name)
	patch, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"uid": pod.UID},
		"spec":     map[string]any{"ephemeralContainers": containers},
	})
	if err != nil {
		return fmt.Errorf("%s: encode: %w", operation, err)
	}
	_, err = a.config.Client.CoreV1().Pods(pod.Namespace).
		Patch(ctx, pod.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "ephemeralcontainers")
	return failure(operation, err)
}
