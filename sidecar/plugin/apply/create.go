// SPDX-License-Identifier: Apache-2.0

package apply

import (
	"context"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/cloudveneto/caas/internal/logging"
	"github.com/cloudveneto/caas/sidecar/plugin/podstate"
	"github.com/cloudveneto/caas/sidecar/plugin/table"
	"github.com/cloudveneto/caas/sidecar/plugin/translate"
)

// create is the work of one flight.
func (a *Applier) create(ctx context.Context, key table.Key, namespace string, result translate.Result) (string, error) {
	if err := a.reserve(key, result.Pod); err != nil {
		return "", err
	}
	held := len(result.ConfigMaps)+len(result.Secrets)+len(result.Claims) > 0
	pod, err := a.pod(ctx, key, namespace, result.Pod, held)
	if err != nil {
		a.unreserve(key, err)
		return "", err
	}
	a.config.Table.Insert(table.Trim(pod), time.Now())
	if a.isDead(key) {
		return "", a.undo(ctx, pod, ErrDeleted)
	}
	if gate(pod) < 0 || pod.DeletionTimestamp != nil {
		return podstate.JobID(pod), nil
	}
	err = a.claims(ctx, pod.Namespace, result.Claims)
	if err == nil {
		err = a.objects(ctx, pod, result)
	}
	if err != nil {
		if IsFinal(err) {
			return "", a.undo(ctx, pod, err)
		}
		return "", err
	}
	if a.isDead(key) {
		return "", a.undo(ctx, pod, ErrDeleted)
	}
	if err := a.release(ctx, pod); err != nil {
		return "", err
	}
	return podstate.JobID(pod), nil
}

// pod creates the pod or adopts the one that an earlier attempt created.
func (a *Applier) pod(ctx context.Context, key table.Key, namespace string, wanted *corev1.Pod, held bool) (*corev1.Pod, error) {
	pods := a.config.Client.CoreV1().Pods(namespace)
	operation := "create " + quoted("pod", namespace, wanted.Name)
	wanted = wanted.DeepCopy()
	wanted.Namespace = namespace
	if held {
		wanted.Spec.SchedulingGates = append(wanted.Spec.SchedulingGates, corev1.PodSchedulingGate{Name: translate.GateObjects})
	}
	created, err := pods.Create(ctx, wanted, metav1.CreateOptions{})
	if err == nil {
		return created, nil
	}
	if !apierrors.IsAlreadyExists(err) {
		return nil, failure(operation, err)
	}
	existing, err := pods.Get(ctx, wanted.Name, metav1.GetOptions{})
	if err != nil {
		return nil, failure(operation, err)
	}
	if table.KeyOf(existing) != key {
		return nil, &ClusterError{Sentence: operation + ": the name is taken by a pod that is not this one"}
	}
	logging.From(ctx).DebugContext(ctx, "pod adopted", "namespace", namespace, "pod", wanted.Name)
	return existing, nil
}

// gate is the index of the sidecar's scheduling gate in the pod, or -1.
func gate(pod *corev1.Pod) int {
	return slices.IndexFunc(pod.Spec.SchedulingGates, func(g corev1.PodSchedulingGate) bool {
		return g.Name == translate.GateObjects
	})
}

// release removes the scheduling gate. The patch tests the pod's UID and the gate,
// so it changes nothing but what was read.
func (a *Applier) release(ctx context.Context, pod *corev1.Pod) error {
	pods := a.config.Client.CoreV1().Pods(pod.Namespace)
	operation := "start " + quoted("pod", pod.Namespace, pod.Name)
	at := fmt.Sprintf("/spec/schedulingGates/%d", gate(pod))
	patch := fmt.Sprintf(`[{"op":"test","path":"/metadata/uid","value":%q},{"op":"test","path":%q,"value":{"name":%q}},{"op":"remove","path":%q}]`,
		pod.UID, at, translate.GateObjects, at)
	_, err := pods.Patch(ctx, pod.Name, types.JSONPatchType, []byte(patch), metav1.PatchOptions{})
	if err == nil {
		return nil
	}
	if !apierrors.IsInvalid(err) && !apierrors.IsConflict(err) {
		return failure(operation, err)
	}
	// Someone else changed the gates; the same outcome is a success.
	current, getErr := pods.Get(ctx, pod.Name, metav1.GetOptions{})
	if getErr != nil {
		return failure(operation, getErr)
	}
	if current.UID == pod.UID && gate(current) < 0 {
		return nil
	}
	return &ClusterError{Sentence: operation + ": the pod changed meanwhile", Err: err}
}

// undo deletes a pod that must not be, and returns why, or that it could not.
func (a *Applier) undo(ctx context.Context, pod *corev1.Pod, why error) error {
	now := int64(0)
	if err := a.remove(ctx, pod, &now); err != nil {
		return err
	}
	return why
}
