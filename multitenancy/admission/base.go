// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"

	"github.com/cloudveneto/caas/multitenancy/tenant"
)

// watchNamespaces keeps whose the namespaces are.
func (w *Watcher) watchNamespaces() (*informer, error) {
	client := w.client.CoreV1().Namespaces()
	return followTyped(&cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
			return client.List(ctx, options)
		},
		WatchFuncWithContext: func(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
			return client.Watch(ctx, options)
		},
	}, &corev1.Namespace{},
		func(one *corev1.Namespace) { w.index.PutNamespace(one.Name, one.Labels) },
		func(one *corev1.Namespace) { w.index.DeleteNamespace(one.Name) },
		func(one *corev1.Namespace) {
			one.ManagedFields, one.Annotations = nil, nil
		})
}

// watchNodes keeps which pools have nodes that are ready.
func (w *Watcher) watchNodes() (*informer, error) {
	client := w.client.CoreV1().Nodes()
	return followTyped(&cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
			return client.List(ctx, options)
		},
		WatchFuncWithContext: func(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
			return client.Watch(ctx, options)
		},
	}, &corev1.Node{},
		func(one *corev1.Node) { w.nodes.Put(one.Name, one.Labels[tenant.NodePoolLabel], takesPods(one)) },
		func(one *corev1.Node) { w.nodes.Delete(one.Name) },
		func(one *corev1.Node) {
			one.ManagedFields, one.Annotations, one.Status.Images = nil, nil, nil
		})
}

func takesPods(node *corev1.Node) bool {
	if node.Spec.Unschedulable {
		return false
	}
	for _, condition := range node.Status.Conditions {
		if condition.Type == corev1.NodeReady {
			return condition.Status == corev1.ConditionTrue
		}
	}
	return false
}

// followTyped calls put with each object that is new or changed, and drop with each that
// is gone. shorten takes away what is not needed before the object is kept.
func followTyped[T runtime.Object](source *cache.ListWatch, kind T, put, drop, shorten func(T)) (*informer, error) {
	made := cache.NewSharedIndexInformer(source, kind, 0, cache.Indexers{})
	if err := made.SetTransform(func(object any) (any, error) {
		if one, ok := object.(T); ok {
			shorten(one)
		}
		return object, nil
	}); err != nil {
		return nil, err
	}
	call := func(object any, handle func(T)) {
		if last, missed := object.(cache.DeletedFinalStateUnknown); missed {
			object = last.Obj
		}
		if one, ok := object.(T); ok {
			handle(one)
		}
	}
	handler, err := made.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: func(object any) { call(object, put) }, UpdateFunc: func(_, now any) { call(now, put) },
		DeleteFunc: func(object any) { call(object, drop) },
	})
	if err != nil {
		return nil, err
	}
	return &informer{run: made.RunWithContext, synced: handler.HasSynced}, nil
}
