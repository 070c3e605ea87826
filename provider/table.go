// SPDX-License-Identifier: Apache-2.0

package provider

import (
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/cloudveneto/caas/internal/interlink"
	"github.com/cloudveneto/caas/provider/podstatus"
)

// holding is what is known of the far end's share of a pod.
type holding int

const (
	// holdsNothing: no create was ever sent.
	holdsNothing holding = iota
	// holdsMaybe: a create was sent, or may have been sent by an earlier process.
	holdsMaybe
	// holds: the far end accepted the pod, or reported it.
	holds
	// heldOnce: the far end said that it holds nothing more.
	heldOnce
)

// entry is one pod of the table. Pods and statuses in it are never changed, only
// replaced, so a copy of an entry can be read without the table's lock.
type entry struct {
	uid types.UID
	// pod is the origin's object as last seen, or one made up from a report for
	// a pod that the origin does not have.
	pod *corev1.Pod
	// present is true while the origin has the object.
	present bool
	held    holding
	// sent: this process sent a create, so the far end's snapshot of an earlier
	// moment says nothing about it.
	sent bool
	// acceptedAt is when this process learned that the far end holds the pod.
	acceptedAt time.Time
	seenAt     time.Time
	// suspect: the far end holds the pod no more, as it seems; to be asked again.
	suspect  bool
	absences int
	// orphan: reported by the far end, but not seen at the origin; to be verified.
	orphan bool
	// unmarked: the job id has yet to be written to the origin's object.
	unmarked bool
	jobID    string

	deleteSent  time.Time
	deleteAcked bool
	// finished: the origin's object has been deleted by this process.
	finished bool
	// lost: the pod was given up although the far end was not asked to delete it.
	lost bool

	// debugged holds what became of ephemeral containers; see note.
	debugged map[string]string

	failures int
	// said is the last event's text, so that the same trouble is told once.
	said string

	// standing is what updates go by, see keepInStep.
	standing standing

	// wire is the far end's last report; final overrules it. status is what was
	// last reported to the origin.
	wire *interlink.PodStatus
	// heardAt is when the far end's oldest report came that the origin may not have yet.
	heardAt time.Time
	wait    *wait
	final   *podstatus.Outcome
	status  *corev1.PodStatus
	// tells counts how often status was handed over since it last arrived, answers how
	// often the API server took it since.
	tells, answers int
	// written is the origin's status after our last patch, until the informer
	// has caught up with it.
	written        *corev1.PodStatus
	writtenVersion string
	// overtaken: the API server refused a status because the object is newer than what is known of it.
	overtaken bool
}

// wait is why a pod has not been created yet.
type wait struct{ reason, message string }

// unwanted reports whether the pod is to be removed from the far end.
func (e *entry) unwanted() bool { return !e.present || e.pod.DeletionTimestamp != nil }

// base is the newest status of the origin's object that is known.
func (e *entry) base() *corev1.PodStatus {
	if e.written != nil {
		return e.written
	}
	return &e.pod.Status
}

// baseVersion is the object's version that has this status.
func (e *entry) baseVersion() string {
	if e.written != nil {
		return e.writtenVersion
	}
	return e.pod.ResourceVersion
}

// table holds the entries. Its methods never block on anything but its lock.
type table struct {
	mu      sync.Mutex
	entries map[types.UID]*entry
}

func newTable() *table { return &table{entries: map[types.UID]*entry{}} }

// view returns a copy of an entry.
func (t *table) view(uid types.UID) (entry, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e, ok := t.entries[uid]; ok {
		return *e, true
	}
	return entry{}, false
}

// change calls edit with the entry under the lock, if there is one.
func (t *table) change(uid types.UID, edit func(*entry)) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	e, ok := t.entries[uid]
	if ok {
		edit(e)
	}
	return ok
}

// ensure calls edit with the entry under the lock, which is made when missing.
func (t *table) ensure(uid types.UID, edit func(e *entry, fresh bool)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e, ok := t.entries[uid]
	if !ok {
		e = &entry{uid: uid, seenAt: time.Now()}
		t.entries[uid] = e
	}
	edit(e, !ok)
}

// each calls visit with every entry under the lock; visit may change it.
func (t *table) each(visit func(*entry)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, e := range t.entries {
		visit(e)
	}
}

func (t *table) remove(uid types.UID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.entries, uid)
}

func (t *table) uids() []types.UID {
	t.mu.Lock()
	defer t.mu.Unlock()
	list := make([]types.UID, 0, len(t.entries))
	for uid := range t.entries {
		list = append(list, uid)
	}
	return list
}

func (t *table) size() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.entries)
}
