// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	"github.com/cloudveneto/caas/internal/logging"
	"github.com/cloudveneto/caas/multitenancy/tenant"
)

// refreshInterval is how often new kinds of objects are looked for.
const refreshInterval = 30 * time.Second

const (
	// customGrace is how long kinds that are not Kubernetes' own may hold up readiness.
	customGrace = 10 * time.Second
	// readPatience is how long a request waits for the objects of its kind while they are read for the first time, and
	// readInterval how often it looks.
	readPatience, readInterval = time.Second, 20 * time.Millisecond
)

// owned selects what has an owner: all else is not worth its memory.
const owned = tenant.LabelUserID

// Watcher fills the index from a cluster.
type Watcher struct {
	index *Index
	nodes *Nodes

	policy    tenant.Policy
	discovery discovery.DiscoveryInterface
	metadata  metadata.Interface
	dynamic   dynamic.Interface
	client    kubernetes.Interface
	slots     chan struct{} // of live lookups
	woken     chan struct{} // has kinds read before their time

	mu        sync.RWMutex
	resources map[schema.GroupResource]schema.GroupVersionResource
	informers map[schema.GroupVersionResource]*informer
	begun     bool
	started   time.Time
	// complete tells that Ready has said so once.
	complete atomic.Bool
}

// informer is a running watch.
type informer struct {
	run func(ctx context.Context)
	// synced tells that the index has all that was there at the beginning.
	synced cache.InformerSynced
	stop   context.CancelFunc
	// begun is when its watch began.
	begun time.Time
}

// mostLookups bounds how many live lookups run at a time.
const mostLookups = 64

// NewWatcher prepares to watch; Run does.
func NewWatcher(config *rest.Config, policy tenant.Policy, index *Index, nodes *Nodes) (*Watcher, error) {
	client, clientErr := kubernetes.NewForConfig(config)
	meta, metaErr := metadata.NewForConfig(config)
	dyn, dynErr := dynamic.NewForConfig(config)
	if err := errors.Join(clientErr, metaErr, dynErr); err != nil {
		return nil, fmt.Errorf("clients: %w", err)
	}
	return &Watcher{
		index: index, nodes: nodes, policy: policy, discovery: client.Discovery(), metadata: meta, dynamic: dyn, client: client,
		slots: make(chan struct{}, mostLookups), woken: make(chan struct{}, 1),
		resources: map[schema.GroupResource]schema.GroupVersionResource{},
		informers: map[schema.GroupVersionResource]*informer{},
	}, nil
}

// Run watches until ctx is done, and returns when all watches have ended.
func (w *Watcher) Run(ctx context.Context) error {
	var running sync.WaitGroup
	defer running.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	w.mu.Lock()
	w.started = time.Now()
	w.mu.Unlock()
	for name, start := range map[string]func() (*informer, error){"namespaces": w.watchNamespaces, "nodes": w.watchNodes} {
		made, err := start()
		if err != nil {
			return err
		}
		w.mu.Lock()
		w.informers[schema.GroupVersionResource{Resource: name}] = made // no version: it is never left
		w.mu.Unlock()
		running.Go(func() { made.run(ctx) })
	}
	ticker := time.NewTicker(refreshInterval)
	defer ticker.Stop()
	for {
		if err := w.refresh(ctx, &running); err != nil {
			logging.From(ctx).ErrorContext(ctx, "kinds of objects cannot be read", "error", err)
			ticker.Reset(time.Second)
		} else {
			ticker.Reset(refreshInterval)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		case <-w.woken:
		}
	}
}

// Ready says what is not complete yet that any request may depend on. Kinds of the cluster's own hold it up for a while at the
// beginning only, and after that nobody but those who ask about them: a broken one must not close the cluster.
func (w *Watcher) Ready() error {
	w.mu.RLock()
	defer w.mu.RUnlock()
	if !w.begun {
		return errors.New("the kinds of objects are not known yet")
	}
	early := !w.complete.Load() && time.Since(w.started) < customGrace
	for resource, one := range w.informers {
		if (early || essential(resource)) && !one.synced() {
			return unread(resource)
		}
	}
	w.complete.Store(true)
	return nil
}

// ReadyFor is Ready for requests about a kind, all of whose objects have to be known, too. While a kind is new to the
// cluster it waits for that a little.
func (w *Watcher) ReadyFor(ctx context.Context, resource schema.GroupResource) error {
	if err := w.Ready(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, readPatience)
	defer cancel()
	look := time.NewTicker(readInterval)
	defer look.Stop()
	for {
		version, one := w.informerOf(resource)
		if one == nil || one.synced() {
			return nil
		}
		if time.Since(one.begun) >= customGrace {
			return unread(version)
		}
		select {
		case <-look.C:
		case <-ctx.Done():
			return unread(version)
		}
	}
}

func (w *Watcher) informerOf(resource schema.GroupResource) (schema.GroupVersionResource, *informer) {
	w.mu.RLock()
	defer w.mu.RUnlock()
	version := w.resources[resource]
	return version, w.informers[version]
}

func unread(resource schema.GroupVersionResource) error {
	return fmt.Errorf("%s are not all read yet", resource.GroupResource())
}

// essential tells kinds that requests about others depend on: Kubernetes' own, and those that refer to others' names.
func essential(resource schema.GroupVersionResource) bool {
	return resource.Version == "" || scheme.Scheme.IsGroupRegistered(resource.Group) || refers(resource.GroupResource())
}

// refresh reads what kinds of objects there are, watches new ones and leaves old ones.
func (w *Watcher) refresh(ctx context.Context, running *sync.WaitGroup) error {
	lists, err := discovery.ServerPreferredResources(w.discovery)
	if len(lists) == 0 && err != nil {
		return err
	}
	// An API service that is down takes only its own kinds with it; those watched stay.
	partial := err != nil
	found := map[schema.GroupVersionResource]bool{}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, resource := range preferred(lists) {
		if !w.worth(resource.GroupResource()) {
			continue
		}
		w.resources[resource.GroupResource()] = resource
		found[resource] = true
		if w.informers[resource] == nil {
			w.start(ctx, resource, running)
		}
	}
	for resource, one := range w.informers {
		if resource.Version != "" && !found[resource] && !partial {
			one.stop()
			delete(w.informers, resource)
		}
	}
	w.begun = true
	return nil
}

// preferred are the resources that can be watched, in one version each.
func preferred(lists []*metav1.APIResourceList) []schema.GroupVersionResource {
	var found []schema.GroupVersionResource
	for _, list := range lists {
		version, err := schema.ParseGroupVersion(list.GroupVersion)
		if err != nil {
			continue
		}
		for i := range list.APIResources {
			resource := &list.APIResources[i]
			if slices.Contains(resource.Verbs, "list") && slices.Contains(resource.Verbs, "watch") &&
				(resource.Namespaced || resource.Name == volumes.Resource) {
				found = append(found, version.WithResource(resource.Name))
			}
		}
	}
	return found
}

// worth tells that owners of such objects matter. Of other kinds users own none.
func (w *Watcher) worth(resource schema.GroupResource) bool {
	if resource == eventResource || resource == newEvents {
		return false
	}
	class := w.policy.Class(resource.Group, resource.Resource)
	return class == tenant.Owned || class == tenant.Shareable || resource == volumes || resource == podResource
}

// start watches one kind. The caller holds the lock.
func (w *Watcher) start(ctx context.Context, resource schema.GroupVersionResource, running *sync.WaitGroup) {
	ctx, stop := context.WithCancel(ctx)
	var made *informer
	var err error
	if refers(resource.GroupResource()) {
		made, err = w.watchObjects(resource)
	} else {
		made, err = w.watchMetadata(resource)
	}
	if err != nil {
		stop()
		logging.From(ctx).ErrorContext(ctx, "objects cannot be watched", "resource", resource.String(), "error", err)
		return
	}
	made.stop, made.begun = stop, time.Now()
	w.informers[resource] = made
	running.Go(func() { made.run(ctx) })
}

// source is where objects of one kind come from: L is a list of them.
type source[L runtime.Object] interface {
	List(ctx context.Context, options metav1.ListOptions) (L, error)
	Watch(ctx context.Context, options metav1.ListOptions) (watch.Interface, error)
}

// onlyOwned lists and watches those that have an owner.
func onlyOwned[L runtime.Object](from source[L]) *cache.ListWatch {
	return &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
			options.LabelSelector = owned
			return from.List(ctx, options)
		},
		WatchFuncWithContext: func(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
			options.LabelSelector = owned
			return from.Watch(ctx, options)
		},
	}
}

func (w *Watcher) watchMetadata(resource schema.GroupVersionResource) (*informer, error) {
	return w.follow(onlyOwned(w.metadata.Resource(resource)), &metav1.PartialObjectMetadata{}, func(object any) (any, error) {
		if meta, ok := object.(*metav1.PartialObjectMetadata); ok {
			return newEntry(resource.GroupResource(), meta), nil
		}
		return object, nil
	})
}

func (w *Watcher) watchObjects(resource schema.GroupVersionResource) (*informer, error) {
	return w.follow(onlyOwned(w.dynamic.Resource(resource)), &unstructured.Unstructured{}, func(object any) (any, error) {
		if full, ok := object.(*unstructured.Unstructured); ok {
			return fullEntry(resource.GroupResource(), full), nil
		}
		return object, nil
	})
}

// follow keeps the index as the informer sees the cluster.
func (w *Watcher) follow(source *cache.ListWatch, kind runtime.Object, transform cache.TransformFunc) (*informer, error) {
	made := cache.NewSharedIndexInformer(source, kind, 0, cache.Indexers{})
	if err := made.SetTransform(transform); err != nil {
		return nil, err
	}
	put := func(object any) {
		if one, ok := object.(*entry); ok {
			w.index.Put(one.object)
		}
	}
	handler, err := made.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: put, UpdateFunc: func(_, now any) { put(now) },
		DeleteFunc: func(object any) {
			if last, missed := object.(cache.DeletedFinalStateUnknown); missed {
				object = last.Obj
			}
			if one, ok := object.(*entry); ok {
				w.index.Delete(one.object.Key, one.object.UID)
			}
		},
	})
	if err != nil {
		return nil, err
	}
	return &informer{run: made.RunWithContext, synced: handler.HasSynced}, nil
}
