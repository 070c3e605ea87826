// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package fidelity_test

import (
	"fmt"
	"slices"
	"strings"
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
	// ownPath has it run beside others, but after each other: it takes away parts of a path that they have to themselves.
	ownPath bool
	// where chooses the room; the usual one when nil.
	where func(w *world) (namespace, target string, path *offload.Path)
	run   func(t *testing.T, r *room)
}

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
	w := theWorld(t)
	run := func(t *testing.T, index int, one fidelityCase) {
		t.Helper()
		namespace, target, path := fmt.Sprintf("case-%03d", index), commonNamespace, w.common
		if one.ownPath {
			target, path = brokenNamespace, w.broken
		}
		if one.where != nil {
			namespace, target, path = one.where(w)
		}
		one.run(t, w.enter(t, namespace, target, path))
	}
	t.Run("beside each other", func(t *testing.T) {
		t.Run("a path of their own", func(t *testing.T) {
			t.Parallel()
			for i, one := range cases() {
				if one.ownPath {
					t.Run(one.name, func(t *testing.T) { run(t, i, one) })
				}
			}
		})
		for i, one := range cases() {
			if !one.alone && !one.ownPath {
				t.Run(one.name, func(t *testing.T) {
					t.Parallel()
					run(t, i, one)
				})
			}
		}
	})
	for i, one := range cases() {
		if one.alone {
			t.Run(one.name, func(t *testing.T) { run(t, i, one) })
		}
	}
}
