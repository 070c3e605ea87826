// SPDX-License-Identifier: Apache-2.0

package property

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	"github.com/cloudveneto/caas/multitenancy/tenant"
)

const (
	// most bounds how many violations are told.
	most = 20
	// memory is how long objects that are gone are known, and sweep after how many notes others are forgotten.
	memory = time.Minute
	sweep  = 1000
)

// stored is what is known of an object that is, or was, in the store.
type stored struct {
	place place
	owner string
	// parent is the controller's UID.
	parent types.UID
	shared bool
	// shown is when the project saw it last, if it is not shared now.
	shown time.Time
	// gone is when it was deleted, if it was.
	gone time.Time
}

// oracle watches all that is stored with an administrator's rights, and says what must never be, whoever did it.
type oracle struct {
	stop    context.CancelFunc
	running sync.WaitGroup

	mu      sync.Mutex
	objects map[types.UID]stored
	// orphans are objects whose controller the oracle has not heard of, by its UID.
	orphans    map[types.UID][]stored
	violations []error
	notes      int
}

func newOracle(ctx context.Context, config *rest.Config) (*oracle, error) {
	client, err := metadata.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(ctx)
	o := &oracle{stop: stop, objects: map[types.UID]stored{}, orphans: map[types.UID][]stored{}}
	resources := derived()
	for _, k := range kinds() {
		resources = append(resources, k.GroupVersionResource)
	}
	for namespace := range namespaces() {
		for _, resource := range resources {
			o.follow(ctx, client, resource, namespace)
		}
	}
	return o, nil
}

func (o *oracle) follow(ctx context.Context, client metadata.Interface, resource schema.GroupVersionResource, namespace string) {
	from := client.Resource(resource).Namespace(namespace)
	source := cache.ToListWatcherWithWatchListSemantics(&cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
			return from.List(ctx, options)
		},
		WatchFuncWithContext: func(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
			return from.Watch(ctx, options)
		},
	}, client)
	reflector := cache.NewReflectorWithOptions(source, &metav1.PartialObjectMetadata{}, notes{o, resource.Resource}, cache.ReflectorOptions{})
	o.running.Go(func() { reflector.RunWithContext(ctx) })
}

func (o *oracle) close() {
	o.stop()
	o.running.Wait()
}

// notes is the store of one kind's reflector.
type notes struct {
	oracle   *oracle
	resource string
}

func (n notes) Add(obj any) error    { return n.note(obj, false) }
func (n notes) Update(obj any) error { return n.note(obj, false) }
func (n notes) Delete(obj any) error { return n.note(obj, true) }
func (n notes) Resync() error        { return nil }

func (n notes) Replace(objects []any, _ string) error {
	for _, obj := range objects {
		if err := n.note(obj, false); err != nil {
			return err
		}
	}
	return nil
}

func (n notes) note(obj any, gone bool) error {
	one, ok := obj.(*metav1.PartialObjectMetadata)
	if !ok {
		return fmt.Errorf("unexpected %T", obj)
	}
	n.oracle.note(place{n.resource, one.Namespace, one.Name}, &one.ObjectMeta, gone)
	return nil
}

func (o *oracle) note(at place, meta *metav1.ObjectMeta, gone bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	before, known := o.objects[meta.UID]
	owner := tenant.OwnerOf(meta.Labels)
	now := stored{place: at, owner: owner.UserID, shared: owner.Shared(), shown: before.shown}
	if gone {
		now.gone = time.Now()
	}
	if before.shared && (!now.shared || gone) {
		now.shown = time.Now()
	}
	if controller := metav1.GetControllerOfNoCopy(meta); controller != nil {
		now.parent = controller.UID
	}
	o.objects[meta.UID] = now
	if known && before.owner != now.owner {
		o.violated("%s was of %q and is of %q", at, before.owner, now.owner)
	}
	if err := sound(at, meta); err != nil {
		o.violated("%s: %w", at, err)
	}
	o.relate(meta.UID, now)
	if o.notes++; o.notes%sweep == 0 {
		o.forget()
	}
}

// relate wants what controllers made to be of whom that is of which they made it. The caller holds mu.
func (o *oracle) relate(uid types.UID, one stored) {
	for _, child := range o.orphans[uid] {
		o.compare(child, one)
	}
	delete(o.orphans, uid)
	if parent, known := o.objects[one.parent]; known {
		o.compare(one, parent)
	} else if one.parent != "" {
		o.orphans[one.parent] = append(o.orphans[one.parent], one)
	}
}

func (o *oracle) compare(child, parent stored) {
	if child.owner != parent.owner {
		o.violated("%s is of %q, and %s, which controls it, is of %q", child.place, child.owner, parent.place, parent.owner)
	}
}

// forget drops what is long gone. The caller holds mu.
func (o *oracle) forget() {
	maps.DeleteFunc(o.objects, func(_ types.UID, one stored) bool { return !one.gone.IsZero() && time.Since(one.gone) > memory })
}

// violated keeps what is wrong; the caller holds mu.
func (o *oracle) violated(format string, args ...any) {
	if len(o.violations) < most {
		o.violations = append(o.violations, fmt.Errorf(format, args...))
	}
}

// sound says what is wrong with an object by itself.
func sound(at place, meta *metav1.ObjectMeta) error {
	owner := tenant.OwnerOf(meta.Labels)
	if owner.System() {
		if ownerless(at.resource, at.name) {
			return nil
		}
		return errors.New("it has no owner")
	}
	who, known := actorOf(owner.UserID)
	value, hasValue := meta.Annotations[valueKey]
	copied := slices.ContainsFunc(derived(), func(r schema.GroupVersionResource) bool { return r.Resource == at.resource })
	switch {
	case !known || !who.memberOf(at.namespace):
		return fmt.Errorf("its owner %s is no member of the project", owner.UserID)
	case meta.Labels[tenant.LabelProjectID] != namespaces()[at.namespace].ID:
		return fmt.Errorf("its project is %q", meta.Labels[tenant.LabelProjectID])
	case hasValue && !who.wrote(value):
		return fmt.Errorf("it is of %s, and %q is not by them", who.name, value)
	case !copied && owner.VisibleTo != owner.UserID && (owner.VisibleTo != tenant.VisibleToProject || !kindOf(at.resource).shareable):
		return fmt.Errorf("it is visible to %q", owner.VisibleTo)
	}
	return nil
}

// problems are what must never be and was.
func (o *oracle) problems() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return errors.Join(o.violations...)
}

// find tells what is known of an object.
func (o *oracle) find(uid types.UID) (stored, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	found, known := o.objects[uid]
	return found, known
}

// recentlyShown tells that the project may see the object, or might a moment ago.
func (o *oracle) recentlyShown(uid types.UID) bool {
	found, known := o.find(uid)
	return known && (found.shared || time.Since(found.shown) < lag)
}
