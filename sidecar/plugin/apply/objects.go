// SPDX-License-Identifier: Apache-2.0

package apply

import (
	"context"
	"slices"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cloudveneto/caas/sidecar/plugin/translate"
)

// parallelObjects bounds the requests that one pod's objects cause at once.
const parallelObjects = 8

// writer is what ConfigMaps and Secrets have in common.
type writer[T metav1.Object] struct {
	kind   string
	create func(context.Context, T, metav1.CreateOptions) (T, error)
	read   func(context.Context, string, metav1.GetOptions) (T, error)
	remove func(context.Context, string, metav1.DeleteOptions) error
}

// objects creates what the pod references, owned by the pod.
func (a *Applier) objects(ctx context.Context, pod *corev1.Pod, result translate.Result) error {
	owner := metav1.OwnerReference{APIVersion: "v1", Kind: "Pod", Name: pod.Name, UID: pod.UID}
	core := a.config.Client.CoreV1()
	configMaps := writer[*corev1.ConfigMap]{
		kind: "configmap", create: core.ConfigMaps(pod.Namespace).Create,
		read: core.ConfigMaps(pod.Namespace).Get, remove: core.ConfigMaps(pod.Namespace).Delete,
	}
	secrets := writer[*corev1.Secret]{
		kind: "secret", create: core.Secrets(pod.Namespace).Create,
		read: core.Secrets(pod.Namespace).Get, remove: core.Secrets(pod.Namespace).Delete,
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(parallelObjects)
	for _, object := range result.ConfigMaps {
		object = object.DeepCopy()
		own(object, pod.Namespace, owner)
		group.Go(func() error { return configMaps.ensure(ctx, object, owner) })
	}
	for _, object := range result.Secrets {
		object = object.DeepCopy()
		own(object, pod.Namespace, owner)
		group.Go(func() error { return secrets.ensure(ctx, object, owner) })
	}
	return group.Wait()
}

func own(object metav1.Object, namespace string, owner metav1.OwnerReference) {
	object.SetNamespace(namespace)
	object.SetOwnerReferences([]metav1.OwnerReference{owner})
}

// ensure creates object, or accepts the one that an earlier attempt for the same
// pod created. One of an earlier pod of the same name is waiting for the garbage
// collector; it is removed, since its pod's end would take it away.
func (w writer[T]) ensure(ctx context.Context, object T, owner metav1.OwnerReference) error {
	operation := "create " + quoted(w.kind, object.GetNamespace(), object.GetName())
	_, err := w.create(ctx, object, metav1.CreateOptions{})
	if err == nil || !apierrors.IsAlreadyExists(err) {
		return failure(operation, err)
	}
	existing, err := w.read(ctx, object.GetName(), metav1.GetOptions{})
	if err != nil {
		return failure(operation, err)
	}
	if ownedBy(existing, owner) {
		return nil
	}
	if existing.GetLabels()[translate.LabelManagedBy] != translate.ManagedBy {
		return &ClusterError{Sentence: operation + ": the name is taken by an object that is not the sidecar's"}
	}
	uid := existing.GetUID()
	err = w.remove(ctx, object.GetName(), metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid}})
	if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
		return failure(operation, err)
	}
	_, err = w.create(ctx, object, metav1.CreateOptions{})
	return failure(operation, err)
}

func ownedBy(object metav1.Object, owner metav1.OwnerReference) bool {
	return slices.ContainsFunc(object.GetOwnerReferences(), func(r metav1.OwnerReference) bool { return r.UID == owner.UID })
}
