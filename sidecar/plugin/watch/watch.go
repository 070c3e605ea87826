// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"

	"github.com/cloudveneto/caas/internal/logging"
	"github.com/cloudveneto/caas/sidecar/plugin/table"
)

// settle is how long changes of the cluster's capacity are collected before
// readers are told.
const settle = 500 * time.Millisecond

// Config says what a Watcher follows.
type Config struct {
	Client kubernetes.Interface
	Table  *table.Table
	// Namespaces are where created pods can be; "" is all of them.
	Namespaces []string
	// Selector is added to every list of pods, for clusters that demand one.
	Selector string
	// Origins are the clients whose created pods the table holds; its zero value is all.
	Origins Origins
	// VisibleNodes is the selector of every list of nodes, for clusters that demand one.
	VisibleNodes string
	Capacity     CapacityConfig
}

// Watcher follows the target cluster.
type Watcher struct {
	config Config
	synced atomic.Bool
	// dirty has room for one signal: the capacity may have changed.
	dirty chan struct{}

	mu        sync.Mutex
	nodes     map[string]*corev1.Node
	others    map[string]*corev1.Pod
	quotas    map[string]*corev1.ResourceQuota
	seesNodes bool
	listeners map[chan struct{}]struct{}
}

// New returns a Watcher; Run starts it.
func New(config Config) (*Watcher, error) {
	if config.Client == nil || config.Table == nil || len(config.Namespaces) == 0 {
		return nil, errors.New("watch: client, table and namespaces are required")
	}
	if err := config.Capacity.complete(); err != nil {
		return nil, err
	}
	return &Watcher{
		config: config, dirty: make(chan struct{}, 1),
		nodes: map[string]*corev1.Node{}, others: map[string]*corev1.Pod{}, quotas: map[string]*corev1.ResourceQuota{},
		listeners: map[chan struct{}]struct{}{},
	}, nil
}

// Synced reports whether the table holds every created pod.
func (w *Watcher) Synced() bool { return w.synced.Load() }

// Run follows the cluster until ctx is done.
func (w *Watcher) Run(ctx context.Context) error {
	var running sync.WaitGroup
	defer running.Wait()
	var synced []cache.InformerSynced
	for _, namespace := range w.config.Namespaces {
		informer := w.podInformer(namespace, managed+w.config.Origins.Ours(), "")
		hasSynced, err := w.start(ctx, &running, informer, keep, cache.ResourceEventHandlerFuncs{
			AddFunc: w.observe, UpdateFunc: func(_, pod any) { w.observe(pod) }, DeleteFunc: w.remove,
		})
		if err != nil {
			return fmt.Errorf("watch pods in namespace %q: %w", namespace, err)
		}
		synced = append(synced, hasSynced)
	}
	running.Go(func() {
		if err := w.surroundings(ctx, &running); err != nil {
			logging.From(ctx).ErrorContext(ctx, "capacity not followed", "error", err)
		}
	})
	running.Go(func() { w.tell(ctx) })
	if cache.WaitForCacheSync(ctx.Done(), synced...) {
		w.synced.Store(true)
		logging.From(ctx).InfoContext(ctx, "created pods known", "pods", w.config.Table.Len())
	}
	<-ctx.Done()
	w.synced.Store(false)
	return nil
}

// podInformer lists and watches pods in a namespace by label and field selector.
func (w *Watcher) podInformer(namespace, labels, fields string) cache.SharedIndexInformer { //nolint:ireturn // client-go's informers are interfaces
	if w.config.Selector != "" {
		labels += "," + w.config.Selector
	}
	return informers.NewSharedInformerFactoryWithOptions(w.config.Client, 0, informers.WithNamespace(namespace),
		informers.WithTweakListOptions(func(options *metav1.ListOptions) {
			options.LabelSelector, options.FieldSelector = labels, fields
		})).Core().V1().Pods().Informer()
}

// start runs an informer until ctx is done, and returns what tells whether the handler
// has seen all that was there.
func (w *Watcher) start(
	ctx context.Context, running *sync.WaitGroup, informer cache.SharedIndexInformer,
	trim cache.TransformFunc, handler cache.ResourceEventHandler,
) (cache.InformerSynced, error) {
	err := errors.Join(
		informer.SetTransform(trim),
		informer.SetWatchErrorHandlerWithContext(func(ctx context.Context, _ *cache.Reflector, err error) {
			if ctx.Err() == nil {
				logging.From(ctx).WarnContext(ctx, "watch interrupted", "error", err)
			}
		}),
	)
	if err != nil {
		return nil, err
	}
	registration, err := informer.AddEventHandler(handler)
	if err != nil {
		return nil, err
	}
	running.Go(func() { informer.RunWithContext(ctx) })
	return registration.HasSynced, nil
}

// keep trims created pods before the informer stores them.
func keep(object any) (any, error) {
	if pod, ok := object.(*corev1.Pod); ok {
		return table.Trim(pod), nil
	}
	return object, nil
}

func (w *Watcher) observe(object any) {
	pod, ok := object.(*corev1.Pod)
	if !ok {
		return
	}
	before := w.config.Table.Lookup(table.KeyOf(pod))
	w.config.Table.Observe(pod)
	if before == nil || before.Spec.NodeName != pod.Spec.NodeName || terminal(before) != terminal(pod) {
		w.touch()
	}
}

func (w *Watcher) remove(object any) {
	if last, ok := object.(cache.DeletedFinalStateUnknown); ok {
		object = last.Obj
	}
	if pod, ok := object.(*corev1.Pod); ok {
		w.config.Table.Remove(pod)
		w.touch()
	}
}

func terminal(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
}

func (w *Watcher) touch() {
	select {
	case w.dirty <- struct{}{}:
	default:
	}
}

// Changed returns a channel that signals when the capacity may have changed, and a
// function that MUST be called when it is no longer read.
func (w *Watcher) Changed() (changed <-chan struct{}, stop func()) {
	listener := make(chan struct{}, 1)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.listeners[listener] = struct{}{}
	return listener, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.listeners, listener)
	}
}

// tell signals listeners, at most once per settle time.
func (w *Watcher) tell(ctx context.Context) {
	timer := time.NewTimer(settle)
	timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.dirty:
			timer.Reset(settle)
		}
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		w.mu.Lock()
		for listener := range w.listeners {
			select {
			case listener <- struct{}{}:
			default:
			}
		}
		w.mu.Unlock()
	}
}

// ownNamespace is the only namespace of created pods, or "".
func (w *Watcher) ownNamespace() string {
	if len(w.config.Namespaces) == 1 && !slices.Contains(w.config.Namespaces, metav1.NamespaceAll) {
		return w.config.Namespaces[0]
	}
	return ""
}
