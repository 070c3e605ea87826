// SPDX-License-Identifier: Apache-2.0

package apply

import (
	"context"
	"slices"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/cloudveneto/caas/sidecar/plugin/translate"
)

// parallelObjects bounds the requests that one pod's objects cause at once.
const parallelObjects = 8

// writer is what ConfigMaps and Secrets have in common.
type writer[T metav1.Object] struct {
	kind   string
	create func(context.Context, T, metav1.CreateOptions) (T, error)
	update func(context.Context, T, metav1.UpdateOptions) (T, error)
	read   func(context.Context, string, metav1.GetOptions) (T, error)
	remove func(context.Context, string, metav1.DeleteOptions) error
}

func (a *Applier) configMaps(namespace string) writer[*corev1.ConfigMap] {
	client := a.config.Client.CoreV1().ConfigMaps(namespace)
	return writer[*corev1.ConfigMap]{
		kind: "configmap", create: client.Create, update: client.Update, read: client.Get, remove: client.Delete,
	}
}

func (a *Applier) secrets(namespace string) writer[*corev1.Secret] {
	client := a.config.Client.CoreV1().Secrets(namespace)
	return writer[*corev1.Secret]{
		kind: "secret", create: client.Create, update: client.Update, read: client.Get, remove: client.Delete,
	}
}

// objects creates what the pod references, owned by the pod.
func (a *Applier) objects(ctx context.Context, pod *corev1.Pod, result translate.Result) error {
	owner := metav1.OwnerReference{APIVersion: "v1", Kind: "Pod", Name: pod.Name, UID: pod.UID}
	configMaps, secrets := a.configMaps(pod.Namespace), a.secrets(pod.Namespace)
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
	return w.replace(ctx, object, existing.GetUID())
}

// replace makes object in place of the existing one with that UID.
func (w writer[T]) replace(ctx context.Context, object T, uid types.UID) error {
	operation := "create " + quoted(w.kind, object.GetNamespace(), object.GetName())
	err := w.remove(ctx, object.GetName(), metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid}})
	if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
		return failure(operation, err)
	}
	_, err = w.create(ctx, object, metav1.CreateOptions{})
	return failure(operation, err)
}

func ownedBy(object metav1.Object, owner metav1.OwnerReference) bool {
	return slices.ContainsFunc(object.GetOwnerReferences(), func(r metav1.OwnerReference) bool { return r.UID == owner.UID })
}
