// SPDX-License-Identifier: Apache-2.0

package events

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	apiwatch "k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"

	"github.com/cloudveneto/caas/internal/interlink"
	"github.com/cloudveneto/caas/internal/logging"
	"github.com/cloudveneto/caas/sidecar/plugin/table"
	"github.com/cloudveneto/caas/sidecar/plugin/watch"
)

const (
	// claimAfter is how soon events are looked at again that came before the pod that
	// they are about was known; claimTime is how long such events are kept.
	claimAfter = 500 * time.Millisecond
	claimTime  = time.Minute
	// maxPerPod and maxTotal bound what is stored.
	maxPerPod = 64
	maxTotal  = 100_000
	// aboutPods selects events by what they are about.
	aboutPods = "involvedObject.kind=Pod"
)

// Config says what a Log works with.
type Config struct {
	Client kubernetes.Interface
	Table  *table.Table
	// Namespaces are where created pods can be; "" is all of them.
	Namespaces []string
	// Selector is added to every list, for clusters that demand one.
	Selector string
}

// Log knows the events of created pods.
type Log struct {
	config  Config
	offered atomic.Bool
	// unclaimed has room for one signal: there are events of pods that are not known yet.
	unclaimed chan struct{}

	mu            sync.Mutex
	pods          map[types.UID]*about
	total         int
	subscriptions map[*Subscription]struct{}
}

// about are the events about one pod of the target cluster.
type about struct {
	// since is when the first one came; told is true once the pod was known.
	since     time.Time
	told      bool
	namespace string
	events    map[types.UID]*interlink.PodEvent
}

// New returns a Log; Run starts it.
func New(config Config) (*Log, error) {
	if config.Client == nil || config.Table == nil || len(config.Namespaces) == 0 {
		return nil, errors.New("events: client, table and namespaces are required")
	}
	return &Log{
		config: config, unclaimed: make(chan struct{}, 1), pods: map[types.UID]*about{},
		subscriptions: map[*Subscription]struct{}{},
	}, nil
}

// Offered reports whether the sidecar may see events.
func (l *Log) Offered() bool { return l.offered.Load() }

// Run follows the cluster's events until ctx is done. Without the right to see them
// it does nothing.
func (l *Log) Run(ctx context.Context) error {
	for _, namespace := range l.config.Namespaces {
		if !watch.Watchable(ctx, l.config.Client, watch.Kind{Resource: "events", Namespace: namespace, Selector: l.config.Selector}) {
			if ctx.Err() == nil {
				logging.From(ctx).InfoContext(ctx, "events not visible, origins are not told any", "namespace", namespace)
				<-ctx.Done()
			}
			return nil
		}
	}
	l.offered.Store(true)
	defer l.offered.Store(false)
	var running sync.WaitGroup
	defer running.Wait()
	for _, namespace := range l.config.Namespaces {
		reflector := cache.NewReflectorWithOptions(l.source(namespace), &corev1.Event{}, &feed{log: l, namespace: namespace},
			cache.ReflectorOptions{Name: "events"})
		running.Go(func() { reflector.RunWithContext(ctx) })
	}
	l.tidy(ctx)
	return nil
}

// source lists and watches the events about pods in a namespace.
func (l *Log) source(namespace string) cache.ListerWatcher { //nolint:ireturn // client-go's own seam
	events := l.config.Client.CoreV1().Events(namespace)
	selected := func(options metav1.ListOptions) metav1.ListOptions {
		options.LabelSelector, options.FieldSelector = l.config.Selector, aboutPods
		return options
	}
	return cache.ToListWatcherWithWatchListSemantics(&cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
			return events.List(ctx, selected(options))
		},
		WatchFuncWithContext: func(ctx context.Context, options metav1.ListOptions) (apiwatch.Interface, error) {
			return events.Watch(ctx, selected(options))
		},
	}, l.config.Client)
}

// tidy hands out events whose pod has become known, and forgets those of pods that
// are not, or no longer, the sidecar's.
func (l *Log) tidy(ctx context.Context) {
	period := time.NewTicker(claimTime / 2)
	defer period.Stop()
	soon := time.NewTimer(claimAfter)
	defer soon.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-l.unclaimed:
			soon.Reset(claimAfter)
		case <-soon.C:
			l.claim(time.Now())
		case <-period.C:
			l.claim(time.Now())
		}
	}
}

// claim looks at the events of pods that were not known when they came.
func (l *Log) claim(now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for uid, a := range l.pods {
		pod := l.config.Table.Created(uid)
		switch {
		case pod == nil && now.Sub(a.since) > claimTime:
			l.total -= len(a.events)
			delete(l.pods, uid)
		case pod != nil && !a.told:
			l.handOver(a, pod, nil)
		}
	}
}

// observe takes in one event as the cluster has it.
func (l *Log) observe(event *corev1.Event, now time.Time) {
	uid := event.InvolvedObject.UID
	if uid == "" {
		return
	}
	pod := l.config.Table.Created(uid)
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.pods[uid]
	if a == nil {
		a = &about{since: now, namespace: event.Namespace, events: map[types.UID]*interlink.PodEvent{}}
		l.pods[uid] = a
	}
	next := wire(event)
	if before := a.events[event.UID]; a.told && before != nil && *before == *next {
		return // a list repeats what the watch told
	}
	l.store(a, event.UID, next)
	switch {
	case pod == nil:
		select {
		case l.unclaimed <- struct{}{}:
		default:
		}
	case a.told:
		l.announce(pod, next)
	default:
		l.handOver(a, pod, next)
	}
}

// handOver tells everything about a pod that has become known; the caller holds the lock.
func (l *Log) handOver(a *about, pod *corev1.Pod, latest *interlink.PodEvent) {
	a.told = true
	for _, event := range a.events {
		l.announce(pod, event)
	}
	if latest != nil {
		l.announce(pod, latest) // there may have been no room for it
	}
}

// store keeps an event for readers that come later, in place of the pod's oldest
// one when there are too many; the caller holds the lock.
func (l *Log) store(a *about, uid types.UID, event *interlink.PodEvent) {
	if _, known := a.events[uid]; !known {
		if len(a.events) >= maxPerPod {
			var oldest types.UID
			for other, candidate := range a.events {
				if oldest == "" || candidate.Last.Before(&a.events[oldest].Last) {
					oldest = other
				}
			}
			delete(a.events, oldest)
			l.total--
		}
		if l.total >= maxTotal {
			return
		}
		l.total++
	}
	a.events[uid] = event
}

// forget drops an event that the cluster does not hold any more.
func (l *Log) forget(event *corev1.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.pods[event.InvolvedObject.UID]
	if a == nil {
		return
	}
	if _, known := a.events[event.UID]; !known {
		return
	}
	delete(a.events, event.UID)
	l.total--
	if len(a.events) == 0 {
		delete(l.pods, event.InvolvedObject.UID)
	}
}

// keep forgets the events of a namespace ("" is all) that the cluster's list does not have.
func (l *Log) keep(namespace string, listed map[types.UID]bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for uid, a := range l.pods {
		if namespace != "" && a.namespace != namespace {
			continue
		}
		for event := range a.events {
			if !listed[event] {
				delete(a.events, event)
				l.total--
			}
		}
		if len(a.events) == 0 {
			delete(l.pods, uid)
		}
	}
}

// Len is the number of events that are stored.
func (l *Log) Len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.total
}
