// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
)

// observer notes when each pod of one label was first seen in a state, by the
// clock of this process, so that both clusters are timed by the same clock.
type observer struct {
	stop     context.CancelFunc
	shutdown func()
	name     func(*corev1.Pod) string

	mu      sync.Mutex
	changed chan struct{}
	running map[string]time.Time
	gone    map[string]time.Time
	marks   map[string]time.Time
	// uids are the pods; there are more than names when one took the place of another.
	uids map[types.UID]struct{}
}

// podName tells pods apart by their names, originName offloaded ones by what they are called at the origin.
func podName(pod *corev1.Pod) string    { return pod.Name }
func originName(pod *corev1.Pod) string { return pod.Annotations["offload.infn.it/name"] }

// markCondition is the pod condition whose message the status benchmark changes;
// it is one that a kubelet owns, so it travels to the origin.
const markCondition = corev1.PodReady

// observe follows the pods of namespace that carry label until close is called, under what name says they are called.
// It is an informer, so it outlives what ends a single watch.
func observe(ctx context.Context, client kubernetes.Interface, namespace, selector string, name func(*corev1.Pod) string) (*observer, error) {
	ctx, cancel := context.WithCancel(ctx)
	o := &observer{
		stop: cancel, name: name, changed: make(chan struct{}),
		running: map[string]time.Time{}, gone: map[string]time.Time{}, marks: map[string]time.Time{}, uids: map[types.UID]struct{}{},
	}
	factory := informers.NewSharedInformerFactoryWithOptions(client, 0, informers.WithNamespace(namespace),
		informers.WithTweakListOptions(func(options *metav1.ListOptions) { options.LabelSelector = selector }))
	informer := factory.Core().V1().Pods().Informer()
	registration, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(object any) { o.note(object, false) },
		UpdateFunc: func(_, object any) { o.note(object, false) },
		DeleteFunc: func(object any) { o.note(object, true) },
	})
	if err != nil {
		cancel()
		return nil, fmt.Errorf("watch pods %s in %s: %w", selector, namespace, err)
	}
	factory.Start(ctx.Done())
	o.shutdown = factory.Shutdown
	if !cache.WaitForCacheSync(ctx.Done(), registration.HasSynced) {
		o.close()
		return nil, fmt.Errorf("watch pods %s in %s: %w", selector, namespace, context.Cause(ctx))
	}
	return o, nil
}

func (o *observer) close() {
	o.stop()
	o.shutdown()
}

// wake tells waiters that something changed; the caller holds mu.
func (o *observer) wake() {
	close(o.changed)
	o.changed = make(chan struct{})
}

func (o *observer) note(object any, deleted bool) {
	now := time.Now()
	if unknown, ok := object.(cache.DeletedFinalStateUnknown); ok {
		object = unknown.Obj
	}
	pod, ok := object.(*corev1.Pod)
	if !ok {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	name := o.name(pod)
	o.uids[pod.UID] = struct{}{}
	if deleted {
		o.gone[name] = now
	} else if _, seen := o.running[name]; !seen && pod.Status.Phase == corev1.PodRunning {
		o.running[name] = now
	}
	for _, condition := range pod.Status.Conditions {
		if condition.Type == markCondition && condition.Message != "" {
			key := name + " " + condition.Message
			if _, seen := o.marks[key]; !seen {
				o.marks[key] = now
			}
		}
	}
	o.wake()
}

// await waits until done, called under the observer's lock, says true.
func (o *observer) await(ctx context.Context, what string, done func() bool) error {
	for {
		o.mu.Lock()
		finished, changed := done(), o.changed
		o.mu.Unlock()
		if finished {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w", what, ctx.Err())
		}
	}
}

// awaitRunning waits until n pods have been seen Running and returns when the
// last one was.
func (o *observer) awaitRunning(ctx context.Context, n int) (time.Time, error) {
	err := o.await(ctx, fmt.Sprintf("%d running pods", n), func() bool { return len(o.running) >= n })
	return o.latest(o.running), err
}

// awaitGone waits until n pods have been seen deleted.
func (o *observer) awaitGone(ctx context.Context, n int) (time.Time, error) {
	err := o.await(ctx, fmt.Sprintf("%d deleted pods", n), func() bool { return len(o.gone) >= n })
	return o.latest(o.gone), err
}

// awaitMark waits until pod shows mark and returns when it first did.
func (o *observer) awaitMark(ctx context.Context, pod, mark string) (time.Time, error) {
	key := pod + " " + mark
	err := o.await(ctx, "status of pod "+pod, func() bool { return !o.marks[key].IsZero() })
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.marks[key], err
}

func (o *observer) latest(times map[string]time.Time) time.Time {
	o.mu.Lock()
	defer o.mu.Unlock()
	var last time.Time
	for _, at := range times {
		if at.After(last) {
			last = at
		}
	}
	return last
}
