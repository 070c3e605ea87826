// SPDX-License-Identifier: Apache-2.0

package authz

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/metadata"

	"github.com/cloudveneto/caas/internal/logging"
)

const (
	// defaultStale is how long the watch of a kind may be silent. The API server sends a bookmark each minute.
	defaultStale = 90 * time.Second
	// defaultDiscover is how often kinds are looked for without a reason.
	defaultDiscover = 30 * time.Second
	// customGrace is how long kinds that are not Kubernetes' own may hold up readiness. A broken one must not close the
	// cluster for everybody; its objects are asked for one by one.
	customGrace = 10 * time.Second
)

// IndexConfig are the parts of an Index. Metadata, Discovery and Wants are required.
type IndexConfig struct {
	Metadata  metadata.Interface
	Discovery discovery.DiscoveryInterfaceWithContext
	// Wants tells the kinds to know.
	Wants func(Resource) bool
	// Stale is how long the watch of a kind may be silent before its objects are asked for one by one; default 90 s.
	Stale time.Duration
	// Discover is how often the cluster is asked which kinds it serves, beyond changes of CRDs; default 30 s.
	Discover time.Duration
}

// Index knows the owners of all objects of the given kinds. It takes in nothing but metadata. Objects that it does not know
// may exist: it learns of them some milliseconds late.
type Index struct {
	cfg     IndexConfig
	kick    chan struct{} // wakes Run to discover; anybody sends, without waiting
	started time.Time

	// kinds are read by every decision and replaced as a whole by Run.
	kinds atomic.Pointer[map[Resource]kind]
	ready atomic.Bool
}

// kind is a resource that the cluster serves.
type kind struct {
	servedKind

	table *table // nil when it cannot be watched, or is not worth it
	stop  context.CancelFunc
}

// NewIndex makes an Index, which knows nothing until Run.
func NewIndex(cfg IndexConfig) (*Index, error) {
	if cfg.Metadata == nil || cfg.Discovery == nil || cfg.Wants == nil {
		return nil, errors.New("authz index: metadata client, discovery client and the wanted kinds are required")
	}
	if cfg.Stale == 0 {
		cfg.Stale = defaultStale
	}
	if cfg.Discover == 0 {
		cfg.Discover = defaultDiscover
	}
	x := &Index{cfg: cfg, kick: make(chan struct{}, 1), started: time.Now()}
	x.kinds.Store(&map[Resource]kind{})
	return x, nil
}

// Ready implements Facts: whether every kind was read once.
func (x *Index) Ready() bool { return x.ready.Load() }

// Check says what is missing for being ready.
func (x *Index) Check(context.Context) error {
	if x.Ready() {
		return nil
	}
	if missing := x.missing(); len(missing) > 0 {
		return fmt.Errorf("not read yet: %s", strings.Join(missing, ", "))
	}
	return errors.New("the cluster has not said yet what it serves")
}

// missing are the kinds that have to be read before the index is ready.
func (x *Index) missing() []string {
	var missing []string
	for resource, k := range *x.kinds.Load() {
		custom := strings.Contains(resource.Group, ".") && !strings.HasSuffix(resource.Group, ".k8s.io")
		if k.table != nil && !k.table.synced.Load() && (!custom || time.Since(x.started) < customGrace) {
			missing = append(missing, resource.String())
		}
	}
	slices.Sort(missing)
	return missing
}

// Object implements Facts.
func (x *Index) Object(key Key) (Object, Knowledge) {
	k, served := (*x.kinds.Load())[key.canonical()]
	if !served || k.table == nil || !k.table.fresh(x.cfg.Stale) {
		return Object{}, Unknown
	}
	object, known := k.table.object(key.Namespace, key.Name)
	if !known {
		return Object{}, Unknown
	}
	return object, Known
}

// Version is the version under which the cluster serves a resource.
func (x *Index) Version(resource Resource) (schema.GroupVersionResource, bool) {
	k, ok := (*x.kinds.Load())[resource.canonical()]
	return k.version, ok
}

// Run keeps the index until ctx is done.
func (x *Index) Run(ctx context.Context) error {
	x.started = time.Now()
	var running sync.WaitGroup
	defer running.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	running.Go(func() { x.watchDefinitions(ctx) })
	running.Go(func() { x.awaitReady(ctx) })
	discovered := time.NewTimer(0)
	defer discovered.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-x.kick:
			// The definition is there before the kind is served.
			discovered.Reset(settle)
			continue
		case <-discovered.C:
		}
		next := x.cfg.Discover
		if err := x.discover(ctx, &running); err != nil {
			logging.From(ctx).WarnContext(ctx, "kinds cannot be discovered", "error", err)
			next = settle
		}
		discovered.Reset(next)
	}
}

// settle is the time from a change of definitions to asking for what is served, and between attempts.
const settle = 500 * time.Millisecond

// awaitReady sets ready once; what goes wrong later is dealt with per kind.
func (x *Index) awaitReady(ctx context.Context) {
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for {
		if len(*x.kinds.Load()) > 0 && len(x.missing()) == 0 {
			x.ready.Store(true)
			logging.From(ctx).InfoContext(ctx, "index is ready", "kinds", len(*x.kinds.Load()), "objects", x.size(), "elapsed", time.Since(x.started))
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

func (x *Index) size() int {
	total := 0
	for _, k := range *x.kinds.Load() {
		if k.table != nil {
			total += k.table.size()
		}
	}
	return total
}

// tables are the kinds in use, for metrics.
func (x *Index) tables() []*table {
	var tables []*table
	for _, k := range *x.kinds.Load() {
		if k.table != nil {
			tables = append(tables, k.table)
		}
	}
	return tables
}

// change replaces the kinds by a changed copy. Only Run's goroutine calls it.
func (x *Index) change(edit func(map[Resource]kind)) {
	kinds := maps.Clone(*x.kinds.Load())
	edit(kinds)
	x.kinds.Store(&kinds)
}
