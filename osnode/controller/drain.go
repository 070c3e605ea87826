// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	osnodev1 "github.com/cloudveneto/caas/osnode/api/v1"
	"github.com/cloudveneto/caas/osnode/cloud"
)

const (
	mergePatch = types.MergePatchType
	// evictionTime and evictionsAtOnce bound what a pass does to the pods of its node.
	evictionTime    = 2 * time.Second
	evictionsAtOnce = 10
)

// drain has the pods leave the node, as far as their disruption budgets let them, for at
// most the object's drain timeout.
func (r *Reconciler) drain(ctx context.Context, p *pass) (flow, error) {
	if isTrue(p.osn, osnodev1.ConditionDrained) {
		return goOn, nil
	}
	current, err := r.lookUp(ctx, p)
	if err != nil {
		return stop, err
	}
	if current != nil && mine(current, p.osn) {
		if err := r.cordon(ctx, current); err != nil {
			return stop, err
		}
	}
	if why := r.undrainable(p, current); why != "" {
		p.set(osnodev1.ConditionDrained, metav1.ConditionTrue, osnodev1.ReasonDrainSkipped, why)
		return goOn, nil
	}
	pods, err := r.podsOn(ctx, p.osn.Status.NodeID, false)
	if err != nil {
		return stop, err
	}
	if len(pods) == 0 {
		p.set(osnodev1.ConditionDrained, metav1.ConditionTrue, osnodev1.ReasonDrained, "The pods have left the node")
		return goOn, nil
	}
	return r.evict(ctx, p, pods)
}

// cordon keeps new pods away from a node that is going.
func (r *Reconciler) cordon(ctx context.Context, current *corev1.Node) error {
	before := current.DeepCopy()
	leaving := corev1.Taint{Key: osnodev1.TaintDeleting, Effect: corev1.TaintEffectNoSchedule}
	if !slices.ContainsFunc(current.Spec.Taints, func(t corev1.Taint) bool { return t.Key == leaving.Key }) {
		current.Spec.Taints = append(current.Spec.Taints, leaving)
	} else if current.Spec.Unschedulable {
		return nil
	}
	current.Spec.Unschedulable = true
	patch := client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})
	return client.IgnoreNotFound(r.Client.Patch(ctx, current, patch))
}

// undrainable says why a node has no pods to wait for.
func (r *Reconciler) undrainable(p *pass, current *corev1.Node) string {
	ready, since := readiness(current)
	switch server := p.osn.Status.Server; {
	case p.osn.Annotations[osnodev1.AnnotationForceDelete] == annotated:
		return "The node is not drained, as was asked for"
	case current == nil, since.IsZero():
		return "The node has never joined, so it has no pods"
	case server == nil, cloud.Status(server.Status).Gone():
		return "The virtual machine is gone, and the pods with it"
	case !ready && p.now.Sub(since) > r.Timers.DrainUnready:
		return "The node does not respond, so its pods cannot be waited for"
	default:
		return ""
	}
}

// evict asks for the pods' eviction, and at the end of the time for their deletion.
func (r *Reconciler) evict(ctx context.Context, p *pass, pods []corev1.Pod) (flow, error) {
	message := fmt.Sprintf("Waiting for %d pods to leave the node", len(pods))
	if !has(p.osn, osnodev1.ConditionDrained, osnodev1.ReasonDraining, osnodev1.ReasonDrainTimeout) {
		p.reset(osnodev1.ConditionDrained, metav1.ConditionFalse, osnodev1.ReasonDraining, message)
		p.tell(osnodev1.ReasonDraining, "DrainNode", "Evicting %d pods from the node %s", len(pods), p.osn.Status.NodeID)
	}
	p.in(min(r.Timers.PollCreating, r.drainTimeout(p)))
	draining := find(p.osn, osnodev1.ConditionDrained)
	spent := p.now.Sub(draining.LastTransitionTime.Time)
	if spent < r.drainTimeout(p) {
		p.set(osnodev1.ConditionDrained, metav1.ConditionFalse, osnodev1.ReasonDraining, message)
		return stop, r.each(ctx, pods, r.evictPod)
	}
	if draining.Reason == osnodev1.ReasonDraining {
		p.warn(osnodev1.ReasonDrainTimeout, "DrainNode", fmt.Sprintf(
			"%d pods have not left the node %s in %s, and are deleted", len(pods), p.osn.Status.NodeID, r.drainTimeout(p)))
	}
	if spent < r.drainTimeout(p)+r.Timers.DrainForced {
		p.set(osnodev1.ConditionDrained, metav1.ConditionFalse, osnodev1.ReasonDrainTimeout, message)
		return stop, r.each(ctx, pods, r.deletePod)
	}
	p.set(osnodev1.ConditionDrained, metav1.ConditionTrue, osnodev1.ReasonDrainTimeout,
		fmt.Sprintf("%d pods have not left the node in time", len(pods)))
	return goOn, nil
}

func (r *Reconciler) drainTimeout(p *pass) time.Duration {
	if own := p.osn.Spec.DrainTimeout; own != nil {
		return own.Duration
	}
	return r.Timers.Drain
}

// each does something to all pods that are not leaving already, several at a time and
// within one short time: client-go waits where the API server asks to, and a worker must
// not. What was not done is done in the next pass.
func (r *Reconciler) each(ctx context.Context, pods []corev1.Pod, do func(context.Context, *corev1.Pod) error) error {
	bounded, cancel := context.WithTimeout(ctx, evictionTime)
	defer cancel()
	var group errgroup.Group
	group.SetLimit(evictionsAtOnce)
	for i := range pods {
		if !pods[i].DeletionTimestamp.IsZero() {
			continue
		}
		group.Go(func() error {
			err := do(bounded, &pods[i])
			if bounded.Err() != nil && ctx.Err() == nil {
				return nil
			}
			return client.IgnoreNotFound(err)
		})
	}
	return group.Wait()
}

// evictPod leaves a pod alone that its disruption budget keeps for now.
func (r *Reconciler) evictPod(ctx context.Context, pod *corev1.Pod) error {
	eviction := &policyv1.Eviction{
		ObjectMeta:    metav1.ObjectMeta{Namespace: pod.Namespace, Name: pod.Name},
		DeleteOptions: &metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &pod.UID}},
	}
	err := r.Client.SubResource("eviction").Create(ctx, pod, eviction)
	if apierrors.IsTooManyRequests(err) || apierrors.IsConflict(err) {
		return nil
	}
	return err
}

func (r *Reconciler) deletePod(ctx context.Context, pod *corev1.Pod) error {
	return deleteExactly(ctx, r.Client, pod)
}

// podsOn are the pods of a node that are somebody's work: not those of DaemonSets, not
// the kubelet's own, and not those that have ended. What is only looked at may come from
// the API server's cache.
func (r *Reconciler) podsOn(ctx context.Context, nodeID string, cached bool) ([]corev1.Pod, error) {
	pods := &corev1.PodList{}
	options := &client.ListOptions{Raw: &metav1.ListOptions{}}
	if cached {
		options.Raw.ResourceVersion = "0"
	}
	if err := r.Reader.List(ctx, pods, options, client.MatchingFields{"spec.nodeName": nodeID}); err != nil {
		return nil, fmt.Errorf("list pods of node %q: %w", nodeID, err)
	}
	return slices.DeleteFunc(pods.Items, func(pod corev1.Pod) bool {
		_, mirror := pod.Annotations[corev1.MirrorPodAnnotationKey]
		owner := metav1.GetControllerOf(&pod)
		ended := pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
		return mirror || ended || (owner != nil && owner.Kind == "DaemonSet")
	}), nil
}

// detach waits a bounded time for the volumes of pods to be taken from the machine.
func (r *Reconciler) detach(ctx context.Context, p *pass) (flow, error) {
	drained := find(p.osn, osnodev1.ConditionDrained)
	skipped := drained == nil || drained.Reason == osnodev1.ReasonDrainSkipped
	if skipped || deletionAsked(p) || p.now.Sub(drained.LastTransitionTime.Time) > r.Timers.Detach {
		return goOn, nil
	}
	attachments := &storagev1.VolumeAttachmentList{}
	if err := r.Client.List(ctx, attachments); err != nil {
		return stop, fmt.Errorf("list volume attachments: %w", err)
	}
	left := slices.DeleteFunc(attachments.Items, func(a storagev1.VolumeAttachment) bool {
		return a.Spec.NodeName != p.osn.Status.NodeID
	})
	if len(left) == 0 {
		return goOn, nil
	}
	p.set(osnodev1.ConditionDrained, metav1.ConditionTrue, drained.Reason,
		fmt.Sprintf("Waiting for %d volumes to be detached", len(left)))
	p.in(r.Timers.PollCreating)
	return stop, nil
}
