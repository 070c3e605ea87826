// SPDX-License-Identifier: Apache-2.0

package apply

import (
	"context"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cloudveneto/caas/sidecar/plugin/table"
	"github.com/cloudveneto/caas/sidecar/plugin/translate"
)

// findBatch bounds the keys of one list request, whose selector is part of a URL.
const findBatch = 100

// Delete makes the pod of key go, with grace seconds unless nil. A pod that does
// not exist is deleted; one that is being created is undone. The work goes on when
// the caller leaves. The error is a *ClusterError or ctx's.
func (a *Applier) Delete(ctx context.Context, key table.Key, grace *int64) error {
	done := make(chan error, 1)
	flying := a.bury(key)
	a.running.Go(func() {
		detached, cancel := context.WithTimeout(context.WithoutCancel(ctx), a.config.Timeout)
		defer cancel()
		done <- a.delete(detached, key, flying, grace)
	})
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (a *Applier) delete(ctx context.Context, key table.Key, flying *flight, grace *int64) error {
	if flying != nil {
		select {
		case <-flying.done:
		case <-ctx.Done():
			return failure("delete pod", ctx.Err())
		}
	}
	if pod := a.config.Table.Lookup(key); pod != nil {
		return a.remove(ctx, pod, grace)
	}
	found, err := a.Find(ctx, key.Origin, []string{key.UID})
	if err != nil {
		return err
	}
	for _, pod := range found {
		if err := a.remove(ctx, pod, grace); err != nil {
			return err
		}
	}
	return nil
}

// remove deletes exactly this pod: another one that took its name stays.
func (a *Applier) remove(ctx context.Context, pod *corev1.Pod, grace *int64) error {
	if pod.DeletionTimestamp != nil && !sooner(pod, grace) {
		return nil
	}
	uid := pod.UID
	err := a.config.Client.CoreV1().Pods(pod.Namespace).Delete(ctx, pod.Name, metav1.DeleteOptions{
		GracePeriodSeconds: grace, Preconditions: &metav1.Preconditions{UID: &uid},
	})
	if err == nil || apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil
	}
	return failure("delete "+quoted("pod", pod.Namespace, pod.Name), err)
}

// sooner tells whether grace ends a deletion earlier than the one under way.
func sooner(pod *corev1.Pod, grace *int64) bool {
	if grace == nil {
		return false
	}
	return pod.DeletionGracePeriodSeconds == nil || *grace < *pod.DeletionGracePeriodSeconds
}

// Find asks the target cluster itself for the pods with these UIDs that origin
// created; what it does not return does not exist.
func (a *Applier) Find(ctx context.Context, origin string, uids []string) ([]*corev1.Pod, error) {
	var found []*corev1.Pod
	for batch := range slices.Chunk(uids, findBatch) {
		terms := []string{
			translate.LabelManagedBy + "=" + translate.ManagedBy, translate.LabelOrigin + "=" + origin,
			translate.LabelUID + " in (" + strings.Join(batch, ",") + ")",
		}
		if a.config.Selector != "" {
			terms = append(terms, a.config.Selector)
		}
		for _, namespace := range a.config.Namespaces {
			list, err := a.config.Client.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{LabelSelector: strings.Join(terms, ",")})
			if err != nil {
				return nil, failure("find pods", err)
			}
			for i := range list.Items {
				found = append(found, table.Trim(&list.Items[i]))
			}
		}
	}
	return found, nil
}

// Sweep removes from the table what was inserted before the given time, never
// reached the watch and does not exist. The watch misses a pod that came and went
// between two of its lists.
func (a *Applier) Sweep(ctx context.Context, before time.Time) error {
	for _, pod := range a.config.Table.Unseen(before) {
		current, err := a.config.Client.CoreV1().Pods(pod.Namespace).Get(ctx, pod.Name, metav1.GetOptions{})
		switch {
		case apierrors.IsNotFound(err):
			a.config.Table.Remove(pod)
		case err != nil:
			return failure("find pod", err)
		case current.UID != pod.UID:
			a.config.Table.Remove(pod)
		default:
			a.config.Table.Observe(table.Trim(current))
		}
	}
	return nil
}
