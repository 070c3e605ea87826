// SPDX-License-Identifier: Apache-2.0

package pool

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	osnodev1 "github.com/cloudveneto/caas/osnode/api/v1"
)

// SetupWithManager adds both loops to a manager, and the indexes of its cache that they
// need. The cache MUST hold all pods, or at least all that wait and all on nodes of pools.
func (p *Pools) SetupWithManager(ctx context.Context, manager ctrl.Manager) error {
	indexer := manager.GetFieldIndexer()
	for name, index := range map[string]client.IndexerFunc{indexNode: byNode, indexPending: byPending} {
		if err := indexer.IndexField(ctx, &corev1.Pod{}, name, index); err != nil {
			return fmt.Errorf("index pods by %s: %w", name, err)
		}
	}
	err := ctrl.NewControllerManagedBy(manager).Named("openstacknodepool").
		For(&osnodev1.OpenStackNodePool{}).
		Owns(&osnodev1.OpenStackNode{}).
		Watches(&corev1.Node{}, handler.EnqueueRequestsFromMapFunc(poolOfNode)).
		Watches(&corev1.Pod{}, handler.EnqueueRequestsFromMapFunc(p.poolOfPod), builder.WithPredicates(comingAndGoing())).
		WatchesRawSource(source.Channel(p.news, &handler.EnqueueRequestForObject{})).
		WithOptions(controller.Options{MaxConcurrentReconciles: p.Workers}).
		Complete(p)
	if err != nil {
		return fmt.Errorf("set up pools: %w", err)
	}
	err = ctrl.NewControllerManagedBy(manager).Named("openstacknodepool-pods").
		For(&corev1.Pod{}, builder.WithPredicates(predicate.NewPredicateFuncs(func(object client.Object) bool {
			pod, ok := object.(*corev1.Pod)
			if !ok {
				return false
			}
			_, waits := waitsSince(pod)
			return waits
		}))).
		Complete(pendingPods{p})
	if err != nil {
		return fmt.Errorf("set up pods that wait: %w", err)
	}
	return manager.Add(p)
}

func byNode(object client.Object) []string {
	pod, ok := object.(*corev1.Pod)
	if !ok || pod.Spec.NodeName == "" {
		return nil
	}
	return []string{pod.Spec.NodeName}
}

func byPending(object client.Object) []string {
	pod, ok := object.(*corev1.Pod)
	if !ok {
		return nil
	}
	if _, waits := waitsSince(pod); !waits {
		return nil
	}
	return []string{isPending}
}

// poolOfNode is the pool of a Node, as its labels say: a false one has a pool looked at once
// more, and nothing else.
func poolOfNode(_ context.Context, object client.Object) []reconcile.Request {
	namespace, name := object.GetLabels()[osnodev1.NodeLabelNamespace], object.GetLabels()[osnodev1.LabelPool]
	if namespace == "" || name == "" {
		return nil
	}
	return []reconcile.Request{{NamespacedName: types.NamespacedName{Namespace: namespace, Name: name}}}
}

func (p *Pools) poolOfPod(ctx context.Context, object client.Object) []reconcile.Request {
	pod, ok := object.(*corev1.Pod)
	if !ok {
		return nil
	}
	var node corev1.Node
	if err := p.Client.Get(ctx, types.NamespacedName{Name: pod.Spec.NodeName}, &node, client.UnsafeDisableDeepCopy); err != nil {
		return nil // the pool will see when it looks next
	}
	return poolOfNode(ctx, &node)
}

// comingAndGoing passes pods that begin or end to use a node.
func comingAndGoing() predicate.Funcs {
	return predicate.Funcs{
		CreateFunc: func(e event.CreateEvent) bool { return len(byNode(e.Object)) > 0 },
		UpdateFunc: func(e event.UpdateEvent) bool {
			before, okBefore := e.ObjectOld.(*corev1.Pod)
			after, okAfter := e.ObjectNew.(*corev1.Pod)
			return okBefore && okAfter && after.Spec.NodeName != "" &&
				(before.Spec.NodeName != after.Spec.NodeName || occupies(before) != occupies(after))
		},
		DeleteFunc:  func(e event.DeleteEvent) bool { return len(byNode(e.Object)) > 0 },
		GenericFunc: func(event.GenericEvent) bool { return false },
	}
}
