// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"maps"
	"slices"

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

// controllerName is also the reporting controller of its metrics and logs.
const controllerName = "openstacknode"

// SetupWithManager has the manager run the Reconciler and its Collector.
func (r *Reconciler) SetupWithManager(manager ctrl.Manager) error {
	err := ctrl.NewControllerManagedBy(manager).
		Named(controllerName).
		For(&osnodev1.OpenStackNode{}, builder.WithPredicates(wishes())).
		Watches(&osnodev1.OpenStackNode{}, handler.EnqueueRequestsFromMapFunc(r.wake), builder.WithPredicates(departures())).
		Watches(&corev1.Node{}, handler.EnqueueRequestsFromMapFunc(r.ownerOf), builder.WithPredicates(nodeNews())).
		Watches(&corev1.Namespace{}, handler.EnqueueRequestsFromMapFunc(r.inNamespace), builder.WithPredicates(bindings())).
		WatchesRawSource(source.Channel(r.calls, &handler.EnqueueRequestForObject{})).
		WithOptions(controller.Options{
			MaxConcurrentReconciles: r.Workers,
			// With priorities, what a new process finds comes last, and if there is always
			// something else to do, never.
			UsePriorityQueue: new(false),
		}).
		Complete(r)
	if err != nil {
		return err
	}
	return manager.Add(r.Collector())
}

// wishes are changes of an object by others. The status is the controller's own, and
// what it writes there must not call it again.
func wishes() predicate.Predicate { //nolint:ireturn // the library's interface
	return predicate.Or(
		predicate.GenerationChangedPredicate{}, predicate.AnnotationChangedPredicate{},
		predicate.LabelChangedPredicate{},
		predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
			return !slices.Equal(e.ObjectOld.GetFinalizers(), e.ObjectNew.GetFinalizers())
		}},
	)
}

func departures() predicate.Funcs {
	return predicate.Funcs{
		CreateFunc:  func(event.CreateEvent) bool { return false },
		UpdateFunc:  func(event.UpdateEvent) bool { return false },
		GenericFunc: func(event.GenericEvent) bool { return false },
	}
}

// nodeNews leaves heartbeats out.
func nodeNews() predicate.Funcs {
	return predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
		before, ok := e.ObjectOld.(*corev1.Node)
		if !ok {
			return true
		}
		after, ok := e.ObjectNew.(*corev1.Node)
		return !ok || readyIn(before) != readyIn(after) || !maps.Equal(before.Labels, after.Labels) ||
			!slices.Equal(taintKeys(before), taintKeys(after))
	}}
}

func readyIn(current *corev1.Node) bool {
	ready, _ := readiness(current)
	return ready
}

func taintKeys(current *corev1.Node) []string {
	keys := make([]string, 0, len(current.Spec.Taints))
	for _, taint := range current.Spec.Taints {
		keys = append(keys, taint.Key+"="+taint.Value+":"+string(taint.Effect))
	}
	return keys
}

// bindings are changes of the project that a namespace belongs to.
func bindings() predicate.Funcs {
	return predicate.Funcs{
		CreateFunc: func(event.CreateEvent) bool { return false },
		DeleteFunc: func(event.DeleteEvent) bool { return false },
		UpdateFunc: func(e event.UpdateEvent) bool {
			return e.ObjectOld.GetLabels()[osnodev1.LabelProjectID] != e.ObjectNew.GetLabels()[osnodev1.LabelProjectID]
		},
	}
}

// ownerOf is the object whose Node it is. The labels only find it; a pass compares.
func (r *Reconciler) ownerOf(_ context.Context, current client.Object) []reconcile.Request {
	labels := current.GetLabels()
	if labels[osnodev1.NodeLabelName] == "" {
		return nil
	}
	return []reconcile.Request{{NamespacedName: types.NamespacedName{
		Namespace: labels[osnodev1.NodeLabelNamespace], Name: labels[osnodev1.NodeLabelName],
	}}}
}

// wake calls those that wait for quota in the project of an object that is gone: its
// machine has left room.
func (r *Reconciler) wake(ctx context.Context, departed client.Object) []reconcile.Request {
	r.forget(departed.GetUID())
	project := departed.GetLabels()[osnodev1.LabelProjectID]
	waiting := &osnodev1.OpenStackNodeList{}
	if project == "" || r.Client.List(ctx, waiting, client.MatchingLabels{osnodev1.LabelProjectID: project}) != nil {
		return nil // they look by themselves, only later
	}
	var requests []reconcile.Request
	for i := range waiting.Items {
		osn := &waiting.Items[i]
		if has(osn, osnodev1.ConditionQuotaAvailable, osnodev1.ReasonQuotaExceeded) && osn.DeletionTimestamp.IsZero() {
			r.remember(osn.UID, func(m *memory) { m.woken = true })
			requests = append(requests, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(osn)})
		}
	}
	return requests
}

// inNamespace are the objects that may have been waiting for their namespace's project.
func (r *Reconciler) inNamespace(ctx context.Context, namespace client.Object) []reconcile.Request {
	list := &osnodev1.OpenStackNodeList{}
	if err := r.Client.List(ctx, list, client.InNamespace(namespace.GetName())); err != nil {
		return nil // as above
	}
	requests := make([]reconcile.Request, 0, len(list.Items))
	for i := range list.Items {
		requests = append(requests, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&list.Items[i])})
	}
	return requests
}
