// SPDX-License-Identifier: Apache-2.0

package property

import (
	"cmp"
	"maps"
	"math/rand/v2"
	"slices"
)

// names are few, so that users meet.
func names() []string { return []string{"data", "db", "results", "token", "web"} }

// generator makes steps. What it makes follows from the seed and from what exists at each step.
type generator struct {
	random *rand.Rand
	made   int
	queue  []step
	names  []string
	kinds  []kind
}

func newGenerator(seed, stream uint64) *generator {
	dice := rand.New(rand.NewPCG(seed, stream)) //nolint:gosec // it has to be the same again for a seed
	return &generator{random: dice, names: names(), kinds: kinds()}
}

// crowd has all steps be about few names, so that users are after the same ones within milliseconds.
func (g *generator) crowd() {
	g.names = g.names[:1]
	g.kinds = slices.DeleteFunc(g.kinds, func(k kind) bool { return k.Resource != configMaps && k.Resource != secrets })
}

func pick[T any](g *generator, from []T) T { return from[g.random.IntN(len(from))] }

func (g *generator) chance(percent int) bool { return g.random.IntN(100) < percent }

// weighted are the operations in the proportion in which they come.
func weighted() []op {
	var all []op
	for _, one := range []struct {
		op     op
		weight int
	}{
		{opCreate, 18},
		{opApply, 8},
		{opGet, 14},
		{opUpdate, 7},
		{opPatch, 7},
		{opShare, 5},
		{opUnshare, 4},
		{opForge, 4},
		{opDelete, 10},
		{opDeleteCollection, 2},
		{opList, 12},
		{opWatch, 3},
		{opChild, 6},
	} {
		for range one.weight {
			all = append(all, one.op)
		}
	}
	return all
}

// next makes a step of one of the actors. known are the objects that there are, as far as the caller knows.
func (g *generator) next(among []actor, known map[place]thing) step {
	if len(g.queue) > 0 {
		s := g.queue[0]
		g.queue = g.queue[1:]
		return g.number(s)
	}
	s := step{actor: pick(g, among), op: pick(g, weighted()), kind: pick(g, g.kinds)}
	s.place = place{s.kind.Resource, g.namespace(s.actor), pick(g, g.names)}
	// What is there is more interesting than what is not.
	if s.op != opCreate && len(known) > 0 && g.chance(70) {
		s.place = g.existing(known)
		s.kind = kindOf(s.place.resource)
		if g.chance(50) {
			s.actor = known[s.place].owner
		}
	}
	if g.chance(3) {
		s.kind, s.place.resource, s.place.name = kinds()[0], configMaps, systemName
	}
	s.other = g.another(s.actor)
	g.details(&s)
	return g.number(s)
}

func (g *generator) number(s step) step {
	g.made++
	s.number = g.made
	return s
}

// namespace is one of the actor's own, most of the time.
func (g *generator) namespace(a actor) string {
	all := slices.Sorted(maps.Keys(namespaces()))
	own := slices.DeleteFunc(slices.Clone(all), func(name string) bool { return !a.memberOf(name) })
	if g.chance(90) {
		return pick(g, own)
	}
	return pick(g, all)
}

func (g *generator) existing(known map[place]thing) place {
	return pick(g, slices.SortedFunc(maps.Keys(known), func(a, b place) int { return cmp.Compare(a.String(), b.String()) }))
}

func (g *generator) another(a actor) actor {
	return pick(g, slices.DeleteFunc(actors(), func(other actor) bool { return other.id == a.id }))
}

func (g *generator) details(s *step) {
	switch s.op {
	case opCreate, opApply:
		s.share = g.chance(15)
		if s.kind.Resource == pods && s.op == opCreate && g.chance(50) {
			s.secret = pick(g, g.names)
		}
	case opList, opWatch:
		s.selection = pick(g, selections())
		if g.chance(40) {
			s.selection = pick(g, []selection{selectMine, selectVisible})
		}
	case opDeleteCollection:
		s.selection = pick(g, selections()[1:])
		if g.chance(25) {
			s.selection = selectMine
		}
	case opChild:
		s.place.resource = pick(g, []string{pods, "replicasets"})
		s.child, s.verb = g.random.IntN(100), pick(g, []op{opGet, opGet, opPatch, opDelete})
	case opDelete:
		g.follow(*s)
	case opGet, opUpdate, opPatch, opShare, opUnshare, opForge:
	}
}

// follow makes some deletions part of something: the name is used again, by the same user or another, or the object gets
// another name.
func (g *generator) follow(deleted step) {
	next := deleted
	next.op = opCreate
	switch g.random.IntN(8) {
	case 0, 1:
		g.queue = append(g.queue, next)
	case 2:
		next.place.name = pick(g, g.names)
		next.place.namespace = g.namespace(deleted.actor)
		g.queue = append(g.queue, next)
	case 3:
		read := next
		read.op, next.actor = opGet, deleted.other
		g.queue = append(g.queue, next, read)
	}
}

func kindOf(resource string) kind {
	all := kinds()
	return all[slices.IndexFunc(all, func(k kind) bool { return k.Resource == resource })]
}
