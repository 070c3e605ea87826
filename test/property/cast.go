// SPDX-License-Identifier: Apache-2.0

package property

import (
	"slices"
	"strings"
	"time"

	"github.com/cloudveneto/caas/multitenancy/tenant"
	"github.com/cloudveneto/caas/test/property/site"
)

// quarantine is as short as kube-mt-admission lets it be, so that names do change hands.
const quarantine = time.Second

// actor is a user. The name is the token, too.
type actor struct {
	name, id string
	projects []tenant.Project
}

func cms() tenant.Project { return tenant.Project{ID: "c0ffee00000000000000000000000000", Name: "CMS"} }

func qst() tenant.Project { return tenant.Project{ID: "9570000000000000000000000000aa01", Name: "QST"} }

// actors are two users of each project, and one of both.
func actors() []actor {
	return []actor{
		{"alice", "a11ce000000000000000000000000001", []tenant.Project{cms()}},
		{"bob", "b0b00000000000000000000000000002", []tenant.Project{cms()}},
		{"carol", "ca401000000000000000000000000003", []tenant.Project{qst()}},
		{"dan", "da400000000000000000000000000004", []tenant.Project{qst()}},
		{"eve", "e4e00000000000000000000000000005", []tenant.Project{cms(), qst()}},
	}
}

// namespaces are those of the projects.
func namespaces() map[string]tenant.Project {
	return map[string]tenant.Project{"cms": cms(), "qst": qst()}
}

func actorOf(id string) (actor, bool) {
	all := actors()
	at := slices.IndexFunc(all, func(a actor) bool { return a.id == id })
	if at < 0 {
		return actor{}, false
	}
	return all[at], true
}

func (a actor) memberOf(namespace string) bool {
	return slices.Contains(a.projects, namespaces()[namespace])
}

// wrote tells that a value is of the actor's hand.
func (a actor) wrote(value string) bool { return strings.HasPrefix(value, a.name+"/") }

// Site describes the site that histories are played on.
func Site(dir, programs string) site.Config {
	users := map[string]tenant.User{}
	for _, a := range actors() {
		users[a.name] = site.User(a.name+"@infn.it", a.id, a.projects...)
	}
	return site.Config{
		Dir: dir, Programs: programs, Users: users, Projects: namespaces(), ControllerManager: true, Quarantine: quarantine,
	}
}
