// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"slices"
	"time"
)

// reservation is longer than news of an object takes to come.
const reservation = 10 * time.Second

// claim is an object that is about to be made, or to be changed to what it says now.
type claim struct {
	object Object
	until  time.Time
}

// pending are those that no news may have come of yet, by their own names and by those that they refer to.
type pending struct {
	byName, byReference map[Key][]*claim
	// order has all of them. Their times are as long, so that the oldest ends first.
	order []*claim
}

func newPending() pending {
	return pending{byName: map[Key][]*claim{}, byReference: map[Key][]*claim{}}
}

func (p *pending) add(one *claim) {
	p.order = append(p.order, one)
	p.byName[one.object.Key] = append(p.byName[one.object.Key], one)
	for _, to := range one.object.References {
		p.byReference[to] = append(p.byReference[to], one)
	}
}

func (p *pending) remove(one *claim) {
	if at := slices.Index(p.order, one); at >= 0 {
		p.order = slices.Delete(p.order, at, at+1)
	}
	drop := func(from map[Key][]*claim, key Key) {
		if from[key] = slices.DeleteFunc(from[key], func(other *claim) bool { return other == one }); len(from[key]) == 0 {
			delete(from, key)
		}
	}
	drop(p.byName, one.object.Key)
	for _, to := range one.object.References {
		drop(p.byReference, to)
	}
}

// sweep forgets those that have ended.
func (p *pending) sweep(now time.Time) {
	for len(p.order) > 0 && !now.Before(p.order[0].until) {
		p.remove(p.order[0])
	}
}

// others finds one of somebody else.
func others(among []*claim, user string, now time.Time) *claim {
	at := slices.IndexFunc(among, func(one *claim) bool { return one.object.Owner.UserID != user && now.Before(one.until) })
	if at < 0 {
		return nil
	}
	return among[at]
}

// Reserve says that an object is about to be made, or changed to what it says now: its name, and those that it refers to,
// count as its owner's before it is seen, and for a while, because others' ideas of whose a name is must not be behind when
// it has come and gone unseen. Whoever reserves MUST do so before looking whether he may: of two who want what does
// not go together, one at least sees the other then. release takes it back, when nothing comes of it.
func (x *Index) Reserve(object Object) (release func()) {
	x.mu.Lock()
	defer x.mu.Unlock()
	now := x.now()
	// Not all that is admitted comes to be, so that no deletion would ever clear this up.
	x.claims.sweep(now)
	made := &claim{object: object, until: now.Add(min(reservation, x.quarantine))}
	x.claims.add(made)
	return func() {
		x.mu.Lock()
		defer x.mu.Unlock()
		x.claims.remove(made)
	}
}

// Reserved tells that somebody else is about to make an object of that name.
func (x *Index) Reserved(key Key, user string) bool {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return others(x.claims.byName[key], user, x.now()) != nil
}
