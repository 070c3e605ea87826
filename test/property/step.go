// SPDX-License-Identifier: Apache-2.0

package property

import (
	"fmt"
	"strings"
)

// op is what a user does.
type op string

const (
	opCreate           op = "create"
	opApply            op = "apply"
	opGet              op = "get"
	opUpdate           op = "update"
	opPatch            op = "patch"
	opShare            op = "share"
	opUnshare          op = "unshare"
	opForge            op = "forge" // a patch that sets another's labels
	opDelete           op = "delete"
	opDeleteCollection op = "deletecollection"
	opList             op = "list"
	opWatch            op = "watch"
	opChild            op = "child" // get, patch or delete what a controller made
)

// selection is whose objects a collection request asks for.
type selection string

const (
	selectMine        selection = "userid=me"
	selectMineByName  selection = "userid=me, one name"
	selectUnshared    selection = "visible-to=me"
	selectVisible     selection = "visible-to in (me,project)"
	selectAll         selection = "nothing"
	selectOther       selection = "userid=another"
	selectBoth        selection = "userid in (me,another)"
	selectOwned       selection = "userid exists"
	selectOthers      selection = "userid!=me"
	selectVisibleToIt selection = "visible-to=another"
	selectShared      selection = "visible-to=project"
)

func selections() []selection {
	return []selection{
		selectMine, selectMineByName, selectUnshared, selectVisible, selectAll, selectOther, selectBoth, selectOwned, selectOthers,
		selectVisibleToIt, selectShared,
	}
}

// step is one request of one user. It has no outcome: the same steps can be played again.
type step struct {
	number int
	actor  actor
	op     op
	kind   kind
	place  place
	// other is another user, whose labels are forged or whose objects are asked for.
	other actor
	// share asks for an object that the project sees, in opCreate and opApply.
	share bool
	// secret is the Secret that a new pod refers to.
	secret string
	// selection is that of collections.
	selection selection
	// child and verb say which of the children there are, and what is done to it.
	child int
	verb  op
}

// value is what the step writes.
func (s step) value() string { return fmt.Sprintf("%s/%d", s.actor.name, s.number) }

func (s step) String() string {
	var text strings.Builder
	_, _ = fmt.Fprintf(&text, "%6d %-5s %-16s ", s.number, s.actor.name, s.op)
	switch {
	case s.selection != "":
		_, _ = fmt.Fprintf(&text, "%s/%s select %s", s.place.namespace, s.place.resource, s.selection)
		if s.selection == selectMineByName {
			_, _ = fmt.Fprintf(&text, " %s", s.place.name)
		}
	case s.op == opChild:
		_, _ = fmt.Fprintf(&text, "%s %s #%d: %s", s.place.namespace, s.place.resource, s.child, s.verb)
	default:
		text.WriteString(s.place.String())
	}
	if s.share {
		text.WriteString(" shared")
	}
	if s.secret != "" {
		text.WriteString(" with secret " + s.secret)
	}
	if s.other.name != "" && s.op != opCreate {
		text.WriteString(" (another is " + s.other.name + ")")
	}
	return text.String()
}
