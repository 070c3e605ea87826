// SPDX-License-Identifier: Apache-2.0

package property

import (
	"slices"
	"time"
)

// lag is how long a webhook may take to hear of a change. Within it a user may still be shown what was shared with him,
// or still not be shown what is. A name that another had is not excused: the quarantine is for that.
const lag = 3 * time.Second

// slack is how much earlier than its user the webhook may have heard that something is gone, so that a quarantine ends
// earlier than the model thinks.
const slack = 300 * time.Millisecond

// outcome is what came of a request.
type outcome string

const (
	done   outcome = "done"
	denied outcome = "denied"
	absent outcome = "absent"
	taken  outcome = "taken" // the name is in use, or was another's a moment ago
)

// thing is an object that a user made.
type thing struct {
	owner  actor
	value  string
	shared bool
	// changed is when sharing began or ended last, or the object was made.
	changed time.Time
	// secret is what the object refers to.
	secret string
}

// grave is a name that was in use. Its owner may use it again at once.
type grave struct {
	owner actor
	until time.Time
}

// model is what exists and who had which name, and decides by the rules of the specification.
type model struct {
	things map[place]thing
	graves map[place]grave
	// shown is when the project saw a name's object last.
	shown map[place]time.Time
	// referred is when a name was referred to last by an object that is gone.
	referred map[place]time.Time
}

func newModel() *model {
	return &model{
		things: map[place]thing{}, graves: map[place]grave{}, shown: map[place]time.Time{}, referred: map[place]time.Time{},
	}
}

// expect are the outcomes that are right.
func (m *model) expect(s step, now time.Time) []outcome {
	if !s.actor.memberOf(s.place.namespace) {
		return []outcome{denied}
	}
	switch s.op {
	case opCreate:
		return m.expectCreate(s, now)
	case opApply:
		return m.expectApply(s, now)
	case opGet:
		return m.expectGet(s, now)
	case opUpdate, opPatch, opShare, opUnshare, opForge:
		return m.expectChange(s)
	case opDelete:
		return m.expectOwn(s.actor, s.place)
	case opDeleteCollection:
		return permitted(slices.Contains([]selection{selectMine, selectMineByName}, s.selection))
	case opList, opWatch:
		return permitted(s.mayCollect())
	case opChild:
	}
	return nil // judged by the child
}

func permitted(yes bool) []outcome {
	if yes {
		return []outcome{done}
	}
	return []outcome{denied}
}

// mayCollect tells selectors that let through nothing but the actor's objects, and what is shared where the kind can be.
func (s step) mayCollect() bool {
	switch s.selection {
	case selectMine, selectMineByName, selectUnshared:
		return true
	case selectVisible, selectShared:
		return s.kind.shareable
	case selectAll, selectOther, selectBoth, selectOwned, selectOthers, selectVisibleToIt:
	}
	return false
}

// expectOwn is for what only owners do. What is another's and what is not there are refused alike, but the authorizer may
// not have heard yet that the actor's own is gone.
func (m *model) expectOwn(a actor, at place) []outcome {
	found, exists := m.things[at]
	switch {
	case exists && found.owner.id == a.id:
		return []outcome{done}
	case exists || systemObject(at.resource, at.name):
		return []outcome{denied}
	default:
		return []outcome{denied, absent}
	}
}

func (m *model) expectChange(s step) []outcome {
	expected := m.expectOwn(s.actor, s.place)
	if s.op == opShare && !s.kind.shareable && slices.Contains(expected, done) {
		return []outcome{denied}
	}
	return expected
}

func (m *model) expectGet(s step, now time.Time) []outcome {
	if systemObject(s.place.resource, s.place.name) {
		return []outcome{done}
	}
	expected := m.expectOwn(s.actor, s.place)
	found, exists := m.things[s.place]
	if !exists || found.owner.id == s.actor.id {
		return expected
	}
	switch recent := now.Sub(m.shown[s.place]) < lag; {
	case found.shared && now.Sub(found.changed) < lag, !found.shared && recent:
		return []outcome{done, denied}
	case found.shared:
		return []outcome{done}
	default:
		return expected
	}
}

func (m *model) expectApply(s step, now time.Time) []outcome {
	found, exists := m.things[s.place]
	switch {
	case systemObject(s.place.resource, s.place.name), exists && found.owner.id != s.actor.id:
		return []outcome{denied}
	case exists && s.share && !s.kind.shareable:
		return []outcome{denied}
	case exists:
		return []outcome{done}
	}
	expected := m.expectCreate(s, now)
	if last, buried := m.graves[s.place]; buried && last.owner.id != s.actor.id && now.Before(last.until.Add(lag)) {
		expected = append(expected, denied) // the authorizer may not have heard yet that the other's is gone
	}
	return expected
}

func (m *model) expectCreate(s step, now time.Time) []outcome {
	if _, exists := m.things[s.place]; exists || systemObject(s.place.resource, s.place.name) {
		return []outcome{taken, denied}
	}
	var refused, unsure []outcome
	refuse := func(sure bool, reasons ...outcome) {
		if sure {
			refused = append(refused, reasons...)
		} else {
			unsure = append(unsure, reasons...)
		}
	}
	if last, buried := m.graves[s.place]; buried && last.owner.id != s.actor.id && now.Before(last.until.Add(lag)) {
		refuse(now.Before(last.until.Add(-slack)), taken)
	}
	if s.share && !s.kind.shareable {
		refuse(true, denied)
	}
	if sure, wrong := m.dangles(s, now); wrong {
		refuse(sure, denied)
	}
	if by, ok := m.referrer(s, now); ok {
		refuse(by, denied, taken)
	}
	switch {
	case len(refused) > 0:
		return append(refused, unsure...)
	default:
		return append(unsure, done)
	}
}

// dangles tells whether a new pod refers to what is not the actor's, or not there. If the actor's own is gone, but not for
// long, it is not sure.
func (m *model) dangles(s step, now time.Time) (sure, wrong bool) {
	found, exists := m.things[s.secretPlace()]
	if s.secret == "" || exists && found.owner.id == s.actor.id {
		return false, false
	}
	gone, buried := m.graves[s.secretPlace()]
	return exists || !buried || gone.owner.id != s.actor.id || now.After(gone.until.Add(lag)), true
}

func (s step) secretPlace() place { return place{secrets, s.place.namespace, s.secret} }

// referrer tells whether another's pod refers to the name, or did a moment ago: then it is not sure.
func (m *model) referrer(s step, now time.Time) (sure, found bool) {
	if s.place.resource != secrets {
		return false, false
	}
	for at, one := range m.things {
		if at.namespace == s.place.namespace && one.secret == s.place.name && one.owner.id != s.actor.id {
			return now.Sub(one.changed) > lag, true
		}
	}
	return false, now.Sub(m.referred[s.place]) < lag
}

// happen has the model follow what came of a step.
func (m *model) happen(s step, came outcome, now time.Time) {
	if came != done {
		return
	}
	switch s.op {
	case opCreate, opApply:
		m.make(s, now)
	case opUpdate, opPatch, opForge:
		m.change(s, func(one *thing) { one.value = s.value() })
	case opShare, opUnshare:
		m.change(s, func(one *thing) { m.setShared(s.place, one, s.op == opShare, now) })
	case opDelete:
		m.remove(s.place, now)
	case opDeleteCollection:
		for at, one := range m.things {
			if at.resource == s.place.resource && at.namespace == s.place.namespace && one.owner.id == s.actor.id &&
				(s.selection != selectMineByName || at.name == s.place.name) {
				m.remove(at, now)
			}
		}
	case opGet, opList, opWatch, opChild:
	}
}

func (m *model) make(s step, now time.Time) {
	one, exists := m.things[s.place]
	if !exists {
		one = thing{owner: s.actor, changed: now, secret: s.secret}
	}
	one.value = s.value()
	if s.share || !exists {
		m.setShared(s.place, &one, s.share, now)
	}
	m.things[s.place] = one
}

func (m *model) change(s step, how func(*thing)) {
	one := m.things[s.place]
	how(&one)
	m.things[s.place] = one
}

func (m *model) setShared(at place, one *thing, shared bool, now time.Time) {
	if one.shared && !shared {
		m.shown[at] = now
	}
	if one.shared != shared {
		one.shared, one.changed = shared, now
	}
}

func (m *model) remove(at place, now time.Time) {
	one := m.things[at]
	if one.shared {
		m.shown[at] = now
	}
	if one.secret != "" {
		m.referred[place{secrets, at.namespace, one.secret}] = now
	}
	m.graves[at] = grave{owner: one.owner, until: now.Add(quarantine)}
	delete(m.things, at)
}

// visible are the values, by name, of what a collection of an actor has, but for what controllers made.
func (m *model) visible(s step) map[string]string {
	values := map[string]string{}
	for at, one := range m.things {
		if at.resource != s.place.resource || at.namespace != s.place.namespace {
			continue
		}
		mine := one.owner.id == s.actor.id
		var selected bool
		switch s.selection {
		case selectMine:
			selected = mine
		case selectMineByName:
			selected = mine && at.name == s.place.name
		case selectUnshared:
			selected = mine && !one.shared
		case selectVisible:
			selected = mine || one.shared
		case selectShared:
			selected = one.shared
		case selectAll, selectOther, selectBoth, selectOwned, selectOthers, selectVisibleToIt:
		}
		if selected {
			values[at.name] = one.value
		}
	}
	return values
}
