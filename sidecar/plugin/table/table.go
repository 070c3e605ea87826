// SPDX-License-Identifier: Apache-2.0

package table

import (
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/cloudveneto/caas/internal/interlink"
	"github.com/cloudveneto/caas/sidecar/plugin/translate"
)

// Key identifies a pod at its origin.
type Key struct {
	// Origin is translate.OriginLabel of the client.
	Origin string
	// UID is the pod's UID at its origin.
	UID string
}

// KeyOf reads a created pod's key from its labels.
func KeyOf(pod *corev1.Pod) Key {
	return Key{Origin: pod.Labels[translate.LabelOrigin], UID: pod.Labels[translate.LabelUID]}
}

// Table holds one record per created pod. Pods that it returns are shared: callers
// MUST NOT change them.
type Table struct {
	mu   sync.RWMutex
	pods map[Key]record
	// created finds a pod's key by the UID that it has in the target cluster.
	created       map[types.UID]Key
	subscriptions map[*Subscription]struct{}
	// used is what pods and reservations take, by origin.
	used map[string]corev1.ResourceList
	// reserved is what pods that are being created will take.
	reserved map[Key]reservation
}

type record struct {
	pod *corev1.Pod
	// unseen is when the pod was inserted ahead of the watch; zero once the watch saw it.
	unseen time.Time
}

// New returns an empty table.
func New() *Table {
	return &Table{
		pods: map[Key]record{}, created: map[types.UID]Key{}, subscriptions: map[*Subscription]struct{}{},
		used: map[string]corev1.ResourceList{}, reserved: map[Key]reservation{},
	}
}

// Lookup returns the created pod of key, or nil.
func (t *Table) Lookup(key Key) *corev1.Pod {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.pods[key].pod
}

// Created returns the pod that has a UID in the target cluster, or nil.
func (t *Table) Created(uid types.UID) *corev1.Pod {
	t.mu.RLock()
	defer t.mu.RUnlock()
	key, found := t.created[uid]
	if !found {
		return nil
	}
	return t.pods[key].pod
}

// set stores a record; the caller holds the lock.
func (t *Table) set(key Key, next record) {
	before := t.pods[key].pod
	if before != nil && before.UID != next.pod.UID {
		delete(t.created, before.UID)
	}
	t.recount(key, before, next.pod)
	t.pods[key] = next
	t.created[next.pod.UID] = key
}

// Len is the number of pods.
func (t *Table) Len() int {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return len(t.pods)
}

// Insert records a pod that was just created, so that no snapshot misses it while
// the watch has not seen it. What the watch knows is never older, and stays.
func (t *Table) Insert(pod *corev1.Pod, now time.Time) {
	key := KeyOf(pod)
	t.mu.Lock()
	defer t.mu.Unlock()
	if known := t.pods[key].pod; known != nil && known.UID == pod.UID {
		return
	}
	t.set(key, record{pod: pod, unseen: now})
	t.announce(key, pod, false)
}

// Observe records a pod as the watch saw it.
func (t *Table) Observe(pod *corev1.Pod) {
	key := KeyOf(pod)
	if key.UID == "" {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.set(key, record{pod: pod})
	t.announce(key, pod, false)
}

// Remove forgets a pod that the target cluster no longer holds; pod is its last
// state. A newer pod of the same key stays.
func (t *Table) Remove(pod *corev1.Pod) {
	key := KeyOf(pod)
	t.mu.Lock()
	defer t.mu.Unlock()
	known := t.pods[key].pod
	if known == nil || known.UID != pod.UID {
		return
	}
	t.recount(key, known, nil)
	delete(t.pods, key)
	delete(t.created, pod.UID)
	t.announce(key, pod, true)
}

// Unseen returns pods that were inserted before the given time and that the watch
// has not seen since.
func (t *Table) Unseen(before time.Time) []*corev1.Pod {
	t.mu.RLock()
	defer t.mu.RUnlock()
	var pods []*corev1.Pod
	for _, entry := range t.pods {
		if !entry.unseen.IsZero() && entry.unseen.Before(before) {
			pods = append(pods, entry.pod)
		}
	}
	return pods
}

// Each calls visit for every pod; visit MUST NOT call the table.
func (t *Table) Each(visit func(Key, *corev1.Pod)) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	for key, entry := range t.pods {
		visit(key, entry.pod)
	}
}

// Selection chooses pods of one client and, unless empty, of one origin cluster
// and one virtual node.
type Selection struct {
	Origin  string
	Cluster string
	Node    string
}

// Matches reports whether the created pod belongs to the selection.
func (s Selection) Matches(pod *corev1.Pod) bool {
	return pod.Labels[translate.LabelOrigin] == s.Origin &&
		(s.Cluster == "" || pod.Annotations[interlink.AnnotationOriginCluster] == s.Cluster) &&
		(s.Node == "" || pod.Annotations[interlink.AnnotationOriginNode] == s.Node)
}
