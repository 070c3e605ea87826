// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package tenancy_test

import (
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

// attack is one of the specification's.
type attack struct {
	// name begins with the attack's number.
	name string
	// alone keeps it from running beside others: it breaks something that all need.
	alone bool
	run   func(t *testing.T, w *world)
}

func (a attack) number() string { return strings.Fields(a.name)[0] }

// attacks are all of them.
func attacks() []attack {
	return slices.Concat(readingAttacks(), collectionAttacks(), writingAttacks(), podAttacks(), accountAttacks(), referenceAttacks(), nameAttacks(),
		controllerAttacks(), clusterAttacks(), placementAttacks(), loginAttacks(), loadAttacks())
}

const mostAttacks = 71

// TestTenancyIsComplete looks for a test of every attack that there has to be.
func TestTenancyIsComplete(t *testing.T) {
	found := map[string][]string{}
	for _, one := range attacks() {
		found[one.number()] = append(found[one.number()], one.name)
	}
	for number := range mostAttacks {
		name := "A" + strconv.Itoa(number+1)
		assert.NotEmpty(t, found[name], "no attack has the number %s", name)
		delete(found, name)
	}
	assert.Empty(t, found, "attacks that the specification does not have")
}

// TestTenancyAttacks does all attacks, and at last looks whether anything that is Bob's has changed.
func TestTenancyAttacks(t *testing.T) {
	w := theWorld(t)
	check := w.untouched(t, bobs()...)
	t.Run("all", func(t *testing.T) {
		for _, one := range attacks() {
			t.Run(one.name, func(t *testing.T) {
				if !one.alone {
					t.Parallel()
				}
				one.run(t, w)
			})
		}
	})
	check()
}
