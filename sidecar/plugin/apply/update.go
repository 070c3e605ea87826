// SPDX-License-Identifier: Apache-2.0

package apply

import (
	"context"
	"errors"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/cloudveneto/caas/sidecar/plugin/table"
	"github.com/cloudveneto/caas/sidecar/plugin/translate"
)

// ErrAbsent says that the target cluster does not hold the pod.
var ErrAbsent = errors.New("the target cluster does not hold this pod")

// ErrOver says that the pod has ended, or is ending.
var ErrOver = errors.New("the pod has ended or is being deleted")

// ErrUnfinished says that the pod's create is not finished.
var ErrUnfinished = errors.New("the pod is still being created")

// Update makes the objects of a created pod those of result and, unless objectsOnly,
// the pod itself as far as Kubernetes lets a live pod change. It writes what differs
// and returns how many objects that were, the pod not counted. It never creates a pod.
// The error is ErrAbsent, ErrOver, ErrUnfinished or a *ClusterError.
func (a *Applier) Update(ctx context.Context, known *corev1.Pod, result translate.Result, objectsOnly bool) (written int, err error) {
	ctx, cancel := context.WithTimeout(ctx, a.config.Timeout)
	defer cancel()
	operation := "update " + quoted("pod", known.Namespace, known.Name)
	// The pod as a whole is read: the table keeps only a part of it.
	live, err := a.config.Client.CoreV1().Pods(known.Namespace).Get(ctx, known.Name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return 0, ErrAbsent
	case err != nil:
		return 0, failure(operation, err)
	case live.UID != known.UID || live.Name != result.Pod.Name:
		return 0, ErrAbsent
	case over(live) || a.isDead(table.KeyOf(live)):
		return 0, ErrOver
	case gate(live) >= 0:
		return 0, ErrUnfinished
	}
	if written, err = a.refresh(ctx, live, result); err != nil || objectsOnly {
		return written, err
	}
	// The pod comes last: its marks say that all of this has been done, and its change
	// makes the kubelet look at its volumes at once.
	patch, err := change(live, result.Pod)
	if err != nil || patch == nil {
		return written, failure(operation, err)
	}
	_, err = a.config.Client.CoreV1().Pods(live.Namespace).Patch(ctx, live.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{})
	if apierrors.IsNotFound(err) {
		return written, ErrAbsent
	}
	return written, failure(operation, err)
}

func over(pod *corev1.Pod) bool {
	return pod.DeletionTimestamp != nil || pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
}

// refresh writes the objects that the live pod refers to and that are not as they
// should be.
func (a *Applier) refresh(ctx context.Context, live *corev1.Pod, result translate.Result) (int, error) {
	owner := metav1.OwnerReference{APIVersion: "v1", Kind: "Pod", Name: live.Name, UID: live.UID}
	referred := usesOf(&live.Spec)
	configMaps, secrets := a.configMaps(live.Namespace), a.secrets(live.Namespace)
	done := make(chan bool, len(result.ConfigMaps)+len(result.Secrets))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(parallelObjects)
	for _, object := range result.ConfigMaps {
		keys, used := referred.configMaps[object.Name]
		if !used {
			continue
		}
		object = object.DeepCopy()
		own(object, live.Namespace, owner)
		group.Go(func() error {
			changed, err := configMaps.refresh(ctx, object, owner, func(old *corev1.ConfigMap) verdict { return sameConfigMap(old, object, keys) })
			done <- changed
			return err
		})
	}
	for _, object := range result.Secrets {
		keys, used := referred.secrets[object.Name]
		if !used {
			continue
		}
		object = object.DeepCopy()
		own(object, live.Namespace, owner)
		group.Go(func() error {
			changed, err := secrets.refresh(ctx, object, owner, func(old *corev1.Secret) verdict { return sameSecret(old, object, keys) })
			done <- changed
			return err
		})
	}
	err := group.Wait()
	close(done)
	written := 0
	for changed := range done {
		if changed {
			written++
		}
	}
	return written, err
}

// verdict says what an object that exists needs.
type verdict int

const (
	asItShould verdict = iota
	// outdated: its content has to be replaced.
	outdated
	// unfit: it cannot become what it should be and is made anew.
	unfit
)

// refresh makes the object of that name what object is. compare gets the existing one
// and changes it to what is to be written.
func (w writer[T]) refresh(ctx context.Context, object T, owner metav1.OwnerReference, compare func(T) verdict) (bool, error) {
	operation := "update " + quoted(w.kind, object.GetNamespace(), object.GetName())
	for attempt := 1; ; attempt++ {
		existing, err := w.read(ctx, object.GetName(), metav1.GetOptions{})
		if apierrors.IsNotFound(err) || (err == nil && !ownedBy(existing, owner)) {
			return true, w.ensure(ctx, object, owner)
		}
		if err != nil {
			return false, failure(operation, err)
		}
		switch compare(existing) {
		case asItShould:
			return false, nil
		case unfit:
			return true, w.replace(ctx, object, existing.GetUID())
		case outdated:
		}
		// The version that was read goes along, so a change in between is a conflict.
		_, err = w.update(ctx, existing, metav1.UpdateOptions{})
		if apierrors.IsConflict(err) && attempt < maxConflicts {
			rest(ctx, time.Duration(attempt)*conflictPause)
			continue
		}
		return err == nil, failure(operation, err)
	}
}

const (
	maxConflicts  = 4
	conflictPause = 20 * time.Millisecond
)

func rest(ctx context.Context, pause time.Duration) {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
