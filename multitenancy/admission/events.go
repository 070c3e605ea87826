// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"context"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
)

// regarding is the object that an event is about, in either version's words.
func regarding(event fields) fields {
	if about := child(event, "regarding"); about != nil {
		return about
	}
	return child(event, "involvedObject")
}

// subject finds the object of an event by its UID, or by its name when there is none.
// Events are many and worth little: only the index is asked.
func (a *Admitter) subject(r *review, event fields) *Object {
	about := regarding(event)
	if uid := text(about, "uid"); uid != "" {
		if known := a.index.ByUID(types.UID(uid)); known != nil && known.Namespace == r.Namespace {
			return known
		}
		return nil
	}
	version, err := schema.ParseGroupVersion(text(about, "apiVersion"))
	if err != nil {
		return nil
	}
	return a.index.Find(Key{
		Resource:  schema.GroupResource{Group: version.Group, Resource: plural(text(about, "kind"))},
		Namespace: r.Namespace, Name: text(about, "name"),
	})
}

// eventOwner lets those read an event who own what it is about. An event about something
// unknown is nobody's, and users do not see it.
func (a *Admitter) eventOwner(_ context.Context, r *review, owner possessor) (possessor, error) {
	if r.actor.role == roleTenant {
		owner.userID, owner.userName = r.actor.owner, r.actor.ownerName
		return owner, nil
	}
	if about := a.subject(r, r.object); about != nil {
		owner.userID, owner.userName = about.Owner.UserID, about.OwnerName
	} else {
		strip(r.object)
	}
	return owner, nil
}

// checkEvent keeps users from saying things about others' objects, and nodes about what
// none of their pods has to do with: its owner would be shown it.
func (a *Admitter) checkEvent(r *review, event fields) {
	about := a.subject(r, event)
	switch {
	case about == nil:
	case r.actor.role == roleTenant && about.Owner.UserID != r.actor.owner:
		r.refuse("the object of the event is not yours")
	case r.actor.role == roleNode && about.Resource == podResource && about.Node != nodeName(r.actor.name):
		r.refuse("the pod of the event does not run on this node")
	case r.actor.role == roleNode && about.Resource != podResource && !a.index.UsedOn(about.Key, nodeName(r.actor.name)):
		r.refuse("the object of the event is used by no pod on this node")
	}
}
