// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"context"
	"fmt"
	"sync"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"

	"github.com/cloudveneto/caas/internal/logging"
	"github.com/cloudveneto/caas/sidecar/plugin/demand"
	"github.com/cloudveneto/caas/sidecar/plugin/translate"
)

const (
	// askTimeout bounds one question about the sidecar's rights.
	askTimeout = 10 * time.Second
	// askAgain is the time between two attempts.
	askAgain = 5 * time.Second
)

// managed selects what this and other sidecars created.
const managed = translate.LabelManagedBy + "=" + translate.ManagedBy

// living selects pods that hold a node's resources.
const living = "spec.nodeName!=,status.phase!=Succeeded,status.phase!=Failed"

// surroundings follows nodes, other people's pods and quotas, as far as allowed.
func (w *Watcher) surroundings(ctx context.Context, running *sync.WaitGroup) error {
	if w.config.Capacity.Disabled {
		return nil
	}
	if !w.watchable(ctx, "nodes", metav1.NamespaceAll, w.config.VisibleNodes) {
		logging.From(ctx).InfoContext(ctx, "nodes not visible, capacity is what the configuration says")
		return nil
	}
	w.mu.Lock()
	w.seesNodes = true
	w.mu.Unlock()
	cluster := informers.NewSharedInformerFactoryWithOptions(w.config.Client, 0,
		informers.WithTweakListOptions(func(options *metav1.ListOptions) { options.LabelSelector = w.config.VisibleNodes }))
	if _, err := w.start(ctx, running, cluster.Core().V1().Nodes().Informer(), trimNode, w.nodeHandler()); err != nil {
		return fmt.Errorf("watch nodes: %w", err)
	}
	namespaces := w.config.Namespaces
	if w.watchable(ctx, "pods", metav1.NamespaceAll, w.config.Selector) {
		namespaces = []string{metav1.NamespaceAll}
	}
	for _, namespace := range namespaces {
		for _, foreign := range w.foreign(namespace) {
			informer := w.podInformer(namespace, foreign.labels, foreign.fields)
			if _, err := w.start(ctx, running, informer, trimOther, w.otherHandler()); err != nil {
				return fmt.Errorf("watch other pods: %w", err)
			}
		}
	}
	namespace := w.ownNamespace()
	if namespace == "" || !w.watchable(ctx, "resourcequotas", namespace, "") {
		return nil
	}
	own := informers.NewSharedInformerFactoryWithOptions(w.config.Client, 0, informers.WithNamespace(namespace))
	if _, err := w.start(ctx, running, own.Core().V1().ResourceQuotas().Informer(), same, w.quotaHandler()); err != nil {
		return fmt.Errorf("watch resource quotas: %w", err)
	}
	return nil
}

// watchable reports whether the sidecar may list and watch what a label selector
// selects of a resource. It asks until it gets an answer: a cluster that is down now must not cost the capacity
// for good.
func (w *Watcher) watchable(ctx context.Context, resource, namespace, selector string) bool {
	return Watchable(ctx, w.config.Client, Kind{Resource: resource, Namespace: namespace, Selector: selector})
}

// Kind is what a watch is about.
type Kind struct{ Resource, Namespace, Selector string }

// Watchable reports whether the sidecar may list and watch what a label selector
// selects of a resource. It asks until it gets an answer or ctx ends.
func Watchable(ctx context.Context, client kubernetes.Interface, kind Kind) bool {
	for _, verb := range []string{"list", "watch"} {
		wanted := authorizationv1.ResourceAttributes{Namespace: kind.Namespace, Verb: verb, Resource: kind.Resource}
		if kind.Selector != "" {
			wanted.LabelSelector = &authorizationv1.LabelSelectorAttributes{RawSelector: kind.Selector}
		}
		allowed, err := may(ctx, client, wanted)
		for err != nil {
			logging.From(ctx).WarnContext(ctx, "rights not known, asking again", "verb", verb, "resource", kind.Resource, "error", err)
			if !pause(ctx, askAgain) {
				return false
			}
			allowed, err = may(ctx, client, wanted)
		}
		if !allowed {
			return false
		}
	}
	return true
}

// pause waits, and reports whether the wait was not cut short by ctx.
func pause(ctx context.Context, length time.Duration) bool {
	timer := time.NewTimer(length)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// may asks the target cluster whether the sidecar has a right.
func may(ctx context.Context, client kubernetes.Interface, wanted authorizationv1.ResourceAttributes) (bool, error) {
	review := &authorizationv1.SelfSubjectAccessReview{Spec: authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: &wanted}}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	answer, err := client.AuthorizationV1().SelfSubjectAccessReviews().Create(ctx, review, metav1.CreateOptions{})
	if err != nil {
		return false, fmt.Errorf("ask for the right to %s %s: %w", wanted.Verb, wanted.Resource, err)
	}
	return answer.Status.Allowed, nil
}

func same(object any) (any, error) { return object, nil }

func trimNode(object any) (any, error) {
	node, ok := object.(*corev1.Node)
	if !ok {
		return object, nil
	}
	trimmed := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: node.Name, UID: node.UID, ResourceVersion: node.ResourceVersion, Labels: node.Labels},
		Spec:       corev1.NodeSpec{Unschedulable: node.Spec.Unschedulable, Taints: node.Spec.Taints},
		Status:     corev1.NodeStatus{Allocatable: node.Status.Allocatable},
	}
	for _, condition := range node.Status.Conditions {
		if condition.Type == corev1.NodeReady {
			trimmed.Status.Conditions = []corev1.NodeCondition{{Type: condition.Type, Status: condition.Status}}
		}
	}
	return trimmed, nil
}

// trimOther keeps of a foreign pod where it runs and what it asks for.
func trimOther(object any) (any, error) {
	pod, ok := object.(*corev1.Pod)
	if !ok {
		return object, nil
	}
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: pod.Name, Namespace: pod.Namespace, UID: pod.UID, ResourceVersion: pod.ResourceVersion},
		Spec:       corev1.PodSpec{NodeName: pod.Spec.NodeName, Resources: &corev1.ResourceRequirements{Requests: demand.Requests(pod)}},
	}, nil
}

func (w *Watcher) nodeHandler() cache.ResourceEventHandlerFuncs {
	return follow(w, func() map[string]*corev1.Node { return w.nodes })
}

func (w *Watcher) otherHandler() cache.ResourceEventHandlerFuncs {
	return follow(w, func() map[string]*corev1.Pod { return w.others })
}

func (w *Watcher) quotaHandler() cache.ResourceEventHandlerFuncs {
	return follow(w, func() map[string]*corev1.ResourceQuota { return w.quotas })
}

// follow keeps a map of objects by UID; into is called with the lock held. Updates
// that change nothing but the resource version, such as a node's heartbeat, are
// stored without waking anyone.
func follow[T metav1.Object](w *Watcher, into func() map[string]T) cache.ResourceEventHandlerFuncs {
	set := func(object any) {
		if typed, ok := object.(T); ok {
			w.mu.Lock()
			into()[string(typed.GetUID())] = typed
			w.mu.Unlock()
		}
	}
	return cache.ResourceEventHandlerFuncs{
		AddFunc: func(object any) { set(object); w.touch() },
		UpdateFunc: func(before, after any) {
			set(after)
			if !sameButVersion(before, after) {
				w.touch()
			}
		},
		DeleteFunc: func(object any) {
			if last, ok := object.(cache.DeletedFinalStateUnknown); ok {
				object = last.Obj
			}
			if typed, ok := object.(T); ok {
				w.mu.Lock()
				delete(into(), string(typed.GetUID()))
				w.mu.Unlock()
				w.touch()
			}
		},
	}
}

func sameButVersion(before, after any) bool {
	switch a := before.(type) {
	case *corev1.Node:
		b, ok := after.(*corev1.Node)
		return ok && equality.Semantic.DeepEqual(a.Spec, b.Spec) && equality.Semantic.DeepEqual(a.Status, b.Status) &&
			equality.Semantic.DeepEqual(a.Labels, b.Labels)
	case *corev1.Pod:
		b, ok := after.(*corev1.Pod)
		return ok && equality.Semantic.DeepEqual(a.Spec, b.Spec)
	}
	return false
}
