// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package fidelity_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/cloudveneto/caas/internal/lab/offload"
)

// fidelityCase is one of the specification's.
type fidelityCase struct {
	// name begins with the case's number, or with "also".
	name string
	// alone keeps it from running beside others: it takes away something that all need.
	alone bool
	// ownPath has it run beside others, but after those with the same one: it takes away parts of that path.
	ownPath brokenPath
	// waits says that it mostly waits, so that it needs no turn among those that work.
	waits bool
	// crowd has it begin when all that take turns have ended.
	crowd bool
	// where chooses the room; the usual one when nil.
	where func(w *world) (namespace, target string, path *offload.Path)
	run   func(t *testing.T, r *room)
}

// brokenPath is one of those whose parts are killed; noPath is none.
type brokenPath int

const (
	noPath brokenPath = iota
	firstPath
	secondPath
)

func (c fidelityCase) number() string { return strings.Fields(c.name)[0] }

// cases are all of them.
func cases() []fidelityCase {
	return slices.Concat(identityCases(), objectCases(), environmentCases(), statusCases(), disruptionCases(), siteCases(),
		deletionCases(), removalCases(), streamCases(), furtherCases(), outageCases())
}

const mostCases = 20

// TestFidelityIsComplete looks for a test of every case that there has to be.
func TestFidelityIsComplete(t *testing.T) {
	found, names := map[string][]string{}, map[string]bool{}
	for _, one := range cases() {
		found[one.number()] = append(found[one.number()], one.name)
		assert.False(t, names[one.name], "two cases are called %s", one.name)
		names[one.name] = true
	}
	for number := range mostCases {
		name := fmt.Sprintf("%02d", number+1)
		assert.NotEmpty(t, found[name], "no case has the number %s", name)
		delete(found, name)
	}
	for _, name := range further() {
		assert.True(t, names["also: "+name], "no case is called %s", name)
	}
	assert.Len(t, found["also:"], len(further()), "further cases that are not listed")
	delete(found, "also:")
	assert.Empty(t, found, "cases that the specification does not have")
}

// TestFidelity does all cases: first those that leave each other alone.
func TestFidelity(t *testing.T) {
	w, all := theWorld(t), cases()
	t.Run("beside each other", func(t *testing.T) {
		for _, own := range []brokenPath{firstPath, secondPath} {
			t.Run(fmt.Sprintf("path %d of their own", own), func(t *testing.T) {
				t.Parallel()
				w.eachOf(t, all, func(c fidelityCase) bool { return c.ownPath == own })
			})
		}
		turns, others := make(chan struct{}, atOnce), &sync.WaitGroup{}
		for i, one := range all {
			if one.alone || one.ownPath != noPath {
				continue
			}
			t.Run(one.name, func(t *testing.T) {
				if !one.waits && !one.crowd {
					others.Add(1) // here, as -run may leave it out
				}
				t.Parallel()
				switch {
				case one.crowd:
					others.Wait()
				case !one.waits:
					turns <- struct{}{}
					t.Cleanup(func() {
						<-turns
						others.Done()
					})
				}
				w.do(t, i, one)
			})
		}
	})
	w.eachOf(t, all, func(c fidelityCase) bool { return c.alone })
}

// eachOf does some of the cases, one after the other.
func (w *world) eachOf(t *testing.T, all []fidelityCase, chosen func(fidelityCase) bool) {
	t.Helper()
	for i, one := range all {
		if chosen(one) {
			t.Run(one.name, func(t *testing.T) { w.do(t, i, one) })
		}
	}
}

// do does one case in a room of its own.
func (w *world) do(t *testing.T, index int, one fidelityCase) {
	t.Helper()
	namespace, target, path := fmt.Sprintf("case-%03d", index), commonNamespace, w.common
	if one.ownPath != noPath {
		path = w.broken[one.ownPath-1]
		target = path.RemoteNamespace
	}
	if one.where != nil {
		namespace, target, path = one.where(w)
	}
	one.run(t, w.enter(t, namespace, target, path))
}
