// SPDX-License-Identifier: Apache-2.0

package property //nolint:testpackage // the model is judged by its own parts, which nobody else needs

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

// TestModel tells in the specification's words what the model expects.
func TestModel(t *testing.T) {
	t.Parallel()
	all := actors()
	alice, bob, carol, eve := all[0], all[1], all[2], all[4]
	began := time.Now()
	at := func(resource, name string) place { return place{resource, "cms", name} }
	world := func() *model {
		m := newModel()
		m.make(step{actor: alice, kind: kindOf(configMaps), place: at(configMaps, "shown"), share: true}, began.Add(-time.Minute))
		m.make(step{actor: alice, kind: kindOf(configMaps), place: at(configMaps, "data")}, began.Add(-time.Minute))
		m.make(step{actor: alice, kind: kindOf(secrets), place: at(secrets, "token")}, began.Add(-time.Minute))
		m.make(step{actor: alice, kind: kindOf(pods), place: at(pods, "web"), secret: "db"}, began.Add(-time.Minute))
		m.make(step{actor: alice, kind: kindOf(secrets), place: at(secrets, "brief")}, began.Add(-time.Minute))
		m.remove(at(secrets, "brief"), began)
		return m
	}
	soon, later := 100*time.Millisecond, time.Minute
	for name, test := range map[string]struct {
		actor     actor
		op        op
		place     place
		secret    string
		selection selection
		after     time.Duration
		want      []outcome
	}{
		"own":                             {actor: alice, op: opGet, place: at(configMaps, "data"), want: []outcome{done}},
		"another's":                       {actor: bob, op: opGet, place: at(configMaps, "data"), want: []outcome{denied}},
		"shown":                           {actor: bob, op: opGet, place: at(configMaps, "shown"), want: []outcome{done}},
		"shown to a member of both":       {actor: eve, op: opGet, place: at(configMaps, "shown"), want: []outcome{done}},
		"shown, and of another project":   {actor: carol, op: opGet, place: at(configMaps, "shown"), want: []outcome{denied}},
		"shown is not to be changed":      {actor: bob, op: opPatch, place: at(configMaps, "shown"), want: []outcome{denied}},
		"shown is not to be deleted":      {actor: bob, op: opDelete, place: at(configMaps, "shown"), want: []outcome{denied}},
		"the system's":                    {actor: bob, op: opGet, place: at(configMaps, systemName), want: []outcome{done}},
		"the system's is not for changes": {actor: bob, op: opDelete, place: at(configMaps, systemName), want: []outcome{denied}},
		"a Secret is not shown":           {actor: alice, op: opShare, place: at(secrets, "token"), want: []outcome{denied}},
		"a new name":                      {actor: bob, op: opCreate, place: at(secrets, "new"), want: []outcome{done}},
		"a name in use":                   {actor: bob, op: opCreate, place: at(secrets, "token"), want: []outcome{taken, denied}},
		"a name in quarantine":            {actor: bob, op: opCreate, place: at(secrets, "brief"), after: soon, want: []outcome{taken}},
		"one's own is in none":            {actor: alice, op: opCreate, place: at(secrets, "brief"), after: soon, want: []outcome{done}},
		"the quarantine ends":             {actor: bob, op: opCreate, place: at(secrets, "brief"), after: later, want: []outcome{done}},
		"a name that a pod refers to":     {actor: bob, op: opCreate, place: at(secrets, "db"), want: []outcome{denied, taken}},
		"one's own pod refers to it":      {actor: alice, op: opCreate, place: at(secrets, "db"), want: []outcome{done}},
		"a pod with one's Secret":         {actor: alice, op: opCreate, place: at(pods, "new"), secret: "token", want: []outcome{done}},
		"a pod with another's Secret":     {actor: bob, op: opCreate, place: at(pods, "new"), secret: "token", want: []outcome{denied}},
		"own list":                        {actor: bob, op: opList, place: at(secrets, ""), selection: selectMine, want: []outcome{done}},
		"list of all":                     {actor: bob, op: opList, place: at(secrets, ""), selection: selectAll, want: []outcome{denied}},
		"list of one's and another's":     {actor: bob, op: opWatch, place: at(secrets, ""), selection: selectBoth, want: []outcome{denied}},
		"list of what is shown":           {actor: bob, op: opList, place: at(configMaps, ""), selection: selectVisible, want: []outcome{done}},
		"deletion of what is shown":       {actor: bob, op: opDeleteCollection, place: at(configMaps, ""), selection: selectVisible, want: []outcome{denied}},
		"applied over another's":          {actor: bob, op: opApply, place: at(configMaps, "data"), want: []outcome{denied}},
		"applied where nothing is":        {actor: bob, op: opApply, place: at(configMaps, "new"), want: []outcome{done}},
		"in another project":              {actor: carol, op: opCreate, place: at(configMaps, "new"), want: []outcome{denied}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := step{
				actor: test.actor, op: test.op, kind: kindOf(test.place.resource), place: test.place,
				secret: test.secret, selection: test.selection,
			}
			assert.Equal(t, test.want, world().expect(s, began.Add(test.after)))
		})
	}
	visible := step{actor: bob, kind: kindOf(configMaps), place: at(configMaps, ""), selection: selectVisible}
	assert.Equal(t, map[string]string{"shown": "alice/0"}, world().visible(visible))
}

// TestSteps follow from the seed.
func TestSteps(t *testing.T) {
	t.Parallel()
	steps := func(seed uint64) []string {
		g := newGenerator(seed, 0)
		var all []string
		for range 100 {
			all = append(all, g.next(actors(), nil).String())
		}
		return all
	}
	assert.Equal(t, steps(1), steps(1))
	assert.NotEqual(t, steps(1), steps(2))
}
