// SPDX-License-Identifier: Apache-2.0

package authz

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"

	"github.com/cloudveneto/caas/internal/logging"
)

// discover starts to watch kinds that the cluster serves, and stops to watch those that it does not serve any more.
func (x *Index) discover(ctx context.Context, running *sync.WaitGroup) error {
	served, failed, err := x.served(ctx)
	if err != nil {
		return err
	}
	x.change(func(kinds map[Resource]kind) {
		for resource, was := range kinds {
			now, isServed := served[resource]
			if isServed && now == was.servedKind || !isServed && failed[resource.Group] {
				continue
			}
			was.stop()
			delete(kinds, resource)
		}
		for resource, now := range served {
			if _, started := kinds[resource]; !started {
				kinds[resource] = x.start(ctx, running, resource, now)
			}
		}
	})
	return nil
}

type servedKind struct {
	version schema.GroupVersionResource
	watched bool
}

// served asks which of the wanted resources there are, each in the version that its group prefers. failed are the groups of
// which it is not known, as when the server behind an APIService is down.
func (x *Index) served(ctx context.Context) (served map[Resource]servedKind, failed map[string]bool, err error) {
	groups, lists, err := x.cfg.Discovery.ServerGroupsAndResourcesWithContext(ctx)
	if len(groups) == 0 {
		return nil, nil, fmt.Errorf("discover: %w", err)
	}
	failed = map[string]bool{}
	if err != nil {
		for _, group := range groups {
			failed[group.Name] = true
		}
	}
	ranks, served := rankVersions(groups), map[Resource]servedKind{}
	for _, list := range lists {
		version, err := schema.ParseGroupVersion(list.GroupVersion)
		if err != nil {
			return nil, nil, fmt.Errorf("discover: %w", err)
		}
		x.prefer(served, ranks, version, list.APIResources)
	}
	return served, failed, nil
}

// prefer adds the wanted ones of a version's resources, unless a better version of them is there.
func (x *Index) prefer(served map[Resource]servedKind, ranks map[schema.GroupVersion]int, version schema.GroupVersion, resources []metav1.APIResource) {
	for i := range resources {
		r := &resources[i]
		resource := Resource{Group: version.Group, Resource: r.Name}
		if strings.Contains(r.Name, "/") || resource != resource.canonical() || !x.cfg.Wants(resource) {
			continue
		}
		if earlier, seen := served[resource]; seen && ranks[earlier.version.GroupVersion()] <= ranks[version] {
			continue
		}
		served[resource] = servedKind{
			version: version.WithResource(r.Name),
			watched: slices.Contains(r.Verbs, "watch") && slices.Contains(r.Verbs, "list"),
		}
	}
}

// rankVersions orders the versions of each group: the preferred one is the first.
func rankVersions(groups []*metav1.APIGroup) map[schema.GroupVersion]int {
	ranks := map[schema.GroupVersion]int{}
	for _, group := range groups {
		for i, version := range group.Versions {
			rank := i + 1
			if version.Version == group.PreferredVersion.Version {
				rank = 0
			}
			ranks[schema.GroupVersion{Group: group.Name, Version: version.Version}] = rank
		}
	}
	return ranks
}

// start begins to watch a kind. Events are not watched: they are the most objects of a cluster and are asked for by name
// hardly ever, and the API server sends no bookmarks for them.
func (x *Index) start(ctx context.Context, running *sync.WaitGroup, resource Resource, found servedKind) kind {
	ctx, cancel := context.WithCancel(ctx)
	k := kind{servedKind: found, stop: cancel}
	if !found.watched || resource == core(resourceEvents) {
		return k
	}
	k.table = newTable(resource, resource == core(resourceNamespaces) || resource == core(resourceNodes))
	logging.From(ctx).DebugContext(ctx, "kind is watched", "resource", resource.String(), "version", found.version.Version)
	x.reflect(ctx, running, found.version, k.table)
	return k
}

// reflect fills store with the metadata of all objects of a resource, until ctx is done.
func (x *Index) reflect(ctx context.Context, running *sync.WaitGroup, resource schema.GroupVersionResource, store cache.ReflectorStore) {
	client := x.cfg.Metadata.Resource(resource)
	source := cache.ToListWatcherWithWatchListSemantics(&cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
			return client.List(ctx, options)
		},
		WatchFuncWithContext: func(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
			return client.Watch(ctx, options)
		},
	}, x.cfg.Metadata)
	reflector := cache.NewReflectorWithOptions(source, &metav1.PartialObjectMetadata{}, store, cache.ReflectorOptions{Name: resource.String()})
	running.Go(func() { reflector.RunWithContext(ctx) })
}

// definitions is where kinds of the cluster's own come from.
func definitions() schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}
}

// watchDefinitions wakes Run when kinds come and go.
func (x *Index) watchDefinitions(ctx context.Context) {
	var watching sync.WaitGroup
	x.reflect(ctx, &watching, definitions(), bell{x.kick})
	watching.Wait()
}

// bell is a store that keeps nothing and rings at every change.
type bell struct{ ring chan<- struct{} }

func (b bell) change() error {
	select {
	case b.ring <- struct{}{}:
	default: // it rings already
	}
	return nil
}

func (b bell) Add(any) error               { return b.change() }
func (b bell) Update(any) error            { return b.change() }
func (b bell) Delete(any) error            { return b.change() }
func (b bell) Replace([]any, string) error { return b.change() }
func (b bell) Resync() error               { return nil }
