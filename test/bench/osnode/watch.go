// SPDX-License-Identifier: Apache-2.0

//go:build bench

package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	osnodev1 "github.com/cloudveneto/caas/osnode/api/v1"
)

// sighting is when news of an OpenStackNode came, by this program's clock.
type sighting struct {
	uid           types.UID
	namespace     string
	made, running time.Time
	gone          time.Time
	phase         osnodev1.Phase
	server        string
	object        *osnodev1.OpenStackNode
}

// watcher follows all OpenStackNodes, and whatever else follow is called for.
type watcher struct {
	cache cache.Cache
	stop  context.CancelFunc
	ended sync.WaitGroup
	// left, if not nil, is told of each object that is gone. It is set before the first is made.
	left func(sighting)

	mu   sync.Mutex // guards what follows
	seen map[types.NamespacedName]sighting
	err  error
}

func (w *world) watch(ctx context.Context) (*watcher, error) {
	followed, err := cache.New(w.config, cache.Options{Scheme: w.scheme, DefaultTransform: cache.TransformStripManagedFields()})
	if err != nil {
		return nil, fmt.Errorf("watch: %w", err)
	}
	running, stop := context.WithCancel(ctx)
	seen := &watcher{cache: followed, stop: stop, seen: map[types.NamespacedName]sighting{}}
	seen.ended.Go(func() {
		err := followed.Start(running)
		seen.mu.Lock()
		defer seen.mu.Unlock()
		seen.err = err
	})
	if err := seen.follow(ctx, &osnodev1.OpenStackNode{}, seen.note); err != nil {
		return nil, errors.Join(err, seen.close())
	}
	return seen, nil
}

// follow calls news for each object of a kind, whenever it changes and when it is gone.
func (s *watcher) follow(ctx context.Context, kind client.Object, news func(object any, gone bool)) error {
	informer, err := s.cache.GetInformer(ctx, kind)
	if err != nil {
		return fmt.Errorf("watch: %w", err)
	}
	registration, err := informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
		AddFunc:    func(object any) { news(object, false) },
		UpdateFunc: func(_, object any) { news(object, false) },
		DeleteFunc: func(object any) {
			if unknown, ok := object.(toolscache.DeletedFinalStateUnknown); ok {
				object = unknown.Obj
			}
			news(object, true)
		},
	})
	if err != nil {
		return fmt.Errorf("watch: %w", err)
	}
	if !toolscache.WaitForCacheSync(ctx.Done(), registration.HasSynced) {
		return fmt.Errorf("watch: %w", context.Cause(ctx))
	}
	return nil
}

func (s *watcher) close() error {
	s.stop()
	s.ended.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

func (s *watcher) note(object any, gone bool) {
	now := time.Now()
	osn, ok := object.(*osnodev1.OpenStackNode)
	if !ok {
		return
	}
	key := client.ObjectKeyFromObject(osn)
	s.mu.Lock()
	seen := s.seen[key]
	if seen.uid != osn.UID {
		seen = sighting{uid: osn.UID, namespace: osn.Namespace, made: now}
	}
	seen.phase, seen.object = osn.Status.Phase, osn
	if osn.Status.Server != nil {
		seen.server = osn.Status.Server.ID
	}
	if seen.running.IsZero() && osn.Status.Phase == osnodev1.PhaseRunning {
		seen.running = now
	}
	if gone {
		seen.gone, seen.object = now, nil
	}
	s.seen[key] = seen
	s.mu.Unlock()
	if gone && s.left != nil {
		s.left(seen)
	}
}

// forget drops an object that is gone.
func (s *watcher) forget(key types.NamespacedName) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.seen, key)
}

func (s *watcher) of(key types.NamespacedName) sighting {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.seen[key]
}

// count is how many of the keys' sightings are as told.
func (s *watcher) count(keys []types.NamespacedName, as func(sighting) bool) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, key := range keys {
		if as(s.seen[key]) {
			n++
		}
	}
	return n
}
