// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/cloudveneto/caas/multitenancy/tenant"
)

// Key names one object, or the place of one that does not exist.
type Key struct {
	Resource        schema.GroupResource
	Namespace, Name string
}

// Object is what the index knows about one object.
type Object struct {
	Key

	UID   types.UID
	Owner tenant.Owner
	// OwnerName is for people.
	OwnerName string
	// References are what the object makes others read or change by name alone.
	References []Key
	// Node is where a pod runs.
	Node string
}

// grave is a name that was in use.
type grave struct {
	owner tenant.Owner
	until time.Time
}

// Index knows who owns what, who refers to what, and who owned a name before. Informers
// fill it; all methods may be called at the same time, and none waits.
type Index struct {
	quarantine time.Duration
	now        func() time.Time

	mu        sync.RWMutex
	objects   map[Key]*Object
	uids      map[types.UID]*Object
	referrers map[Key]map[types.UID]*Object
	graves    map[Key]grave
	swept     time.Time
	projects  map[string]Project
	claims    pending
}

// Project is what the index knows of a namespace.
type Project struct {
	tenant.Namespace

	// ProjectName is the project's name as a label.
	ProjectName string
}

// NewIndex makes an empty index. A name stays its last owner's for the time of
// quarantine. now is time.Now outside tests.
func NewIndex(quarantine time.Duration, now func() time.Time) *Index {
	return &Index{
		quarantine: quarantine, now: now,
		objects: map[Key]*Object{}, uids: map[types.UID]*Object{},
		referrers: map[Key]map[types.UID]*Object{}, graves: map[Key]grave{}, projects: map[string]Project{}, claims: newPending(),
	}
}

// PutNamespace records a namespace as it is now.
func (x *Index) PutNamespace(name string, labels map[string]string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.projects[name] = Project{Namespace: tenant.NamespaceOf(name, labels), ProjectName: labels[tenant.LabelProjectName]}
}

// DeleteNamespace forgets a namespace.
func (x *Index) DeleteNamespace(name string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.projects, name)
}

// Project returns what is known of a namespace.
func (x *Index) Project(namespace string) (project Project, known bool) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	project, known = x.projects[namespace]
	return project, known
}

// Put records an object as it is now.
func (x *Index) Put(object *Object) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if before := x.objects[object.Key]; before != nil {
		x.forget(before)
		if before.UID != object.UID {
			x.bury(before)
		}
	}
	x.objects[object.Key] = object
	x.uids[object.UID] = object
	for _, to := range object.References {
		if x.referrers[to] == nil {
			x.referrers[to] = map[types.UID]*Object{}
		}
		x.referrers[to][object.UID] = object
	}
}

// Delete records that the object is gone. A later object of the same name is left alone.
func (x *Index) Delete(key Key, uid types.UID) {
	x.mu.Lock()
	defer x.mu.Unlock()
	before := x.objects[key]
	if before == nil || before.UID != uid {
		return
	}
	x.forget(before)
	delete(x.objects, key)
	x.bury(before)
}

func (x *Index) forget(object *Object) {
	delete(x.uids, object.UID)
	for _, to := range object.References {
		delete(x.referrers[to], object.UID)
		if len(x.referrers[to]) == 0 {
			delete(x.referrers, to)
		}
	}
}

func (x *Index) bury(object *Object) {
	now := x.now()
	if object.Owner.UserID == "" || x.quarantine <= 0 {
		return
	}
	x.graves[object.Key] = grave{owner: object.Owner, until: now.Add(x.quarantine)}
	x.sweep(now)
}

// sweep forgets names that are free again, now and then.
func (x *Index) sweep(now time.Time) {
	if now.Sub(x.swept) < x.quarantine/4 {
		return
	}
	x.swept = now
	for key, old := range x.graves {
		if !now.Before(old.until) {
			delete(x.graves, key)
		}
	}
}

// Find returns the object of that name, or nil. The result MUST NOT be changed.
func (x *Index) Find(key Key) *Object {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.objects[key]
}

// ByUID returns the object with that UID, or nil. The result MUST NOT be changed.
func (x *Index) ByUID(uid types.UID) *Object {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.uids[uid]
}

// Quarantined tells that the name was somebody else's a short time ago, or still is, or is about to be,
// and for how long it stays refused to this user.
func (x *Index) Quarantined(key Key, user string) (wait time.Duration, refused bool) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	if there := x.objects[key]; there != nil && there.Owner.UserID != "" && there.Owner.UserID != user {
		return x.quarantine, true
	}
	now := x.now()
	if old, buried := x.graves[key]; buried && old.owner.UserID != user && now.Before(old.until) {
		return old.until.Sub(now), true
	}
	if other := others(x.claims.byName[key], user, now); other != nil {
		return other.until.Sub(now), true
	}
	return 0, false
}

// Referrer returns an object of somebody else that refers to the name, or is about to, or nil.
func (x *Index) Referrer(to Key, user string) *Object {
	x.mu.RLock()
	defer x.mu.RUnlock()
	for _, from := range x.referrers[to] {
		if from.Owner.UserID != user {
			return from
		}
	}
	if other := others(x.claims.byReference[to], user, x.now()); other != nil {
		return &other.object
	}
	return nil
}

// Autoscaler returns an autoscaler of somebody else that aims at the object of that name, or nil.
func (x *Index) Autoscaler(to Key, user string) *Object {
	x.mu.RLock()
	defer x.mu.RUnlock()
	for _, from := range x.referrers[to] {
		if from.Resource.Group == autoscaling && from.Owner.UserID != user {
			return from
		}
	}
	return nil
}

// UsedOn tells that a pod on a node refers to the name.
func (x *Index) UsedOn(to Key, node string) bool {
	x.mu.RLock()
	defer x.mu.RUnlock()
	for _, from := range x.referrers[to] {
		if from.Node != "" && from.Node == node {
			return true
		}
	}
	return false
}

// Size tells how many objects, and names in quarantine or reserved, the index holds.
func (x *Index) Size() (objects, graves int) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return len(x.objects), len(x.graves) + len(x.claims.byName)
}
