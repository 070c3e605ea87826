// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/cloudveneto/caas/multitenancy/tenant"
)

// possessor is whom an object is written to.
type possessor struct {
	userID, userName       string
	projectID, projectName string
}

// ownerLabels are the labels that say whose an object is.
func ownerLabels() []string {
	return []string{tenant.LabelUserID, tenant.LabelUserName, tenant.LabelProjectID, tenant.LabelProjectName, tenant.LabelVisibleTo}
}

func reserved(key string) bool { return strings.HasPrefix(key, tenant.Prefix) }

// stamp writes the owner on an object or on the template of one.
func (p possessor) stamp(holder fields, visibleTo string) {
	labels := ensure(holder, "metadata", "labels")
	values := map[string]string{
		tenant.LabelUserID: p.userID, tenant.LabelUserName: p.userName,
		tenant.LabelProjectID: p.projectID, tenant.LabelProjectName: p.projectName, tenant.LabelVisibleTo: visibleTo,
	}
	for key, value := range values {
		if value != "" {
			labels[key] = value
		} else {
			delete(labels, key)
		}
	}
}

// visible is who may read the object, besides its owner. It is the owner's choice, but
// for machines, whose policy says it.
func visible(resource schema.GroupResource, object fields, owner string) string {
	if resource.Group == "osnode.infn.it" && resource.Resource == "openstacknodes" {
		if text(object, "spec", "policy") == modeShared {
			return tenant.VisibleToProject
		}
		return owner
	}
	if textMap(object, "metadata", "labels")[tenant.LabelVisibleTo] == tenant.VisibleToProject {
		return tenant.VisibleToProject
	}
	return owner
}

// stampAll writes the owner on the object and on all that controllers make of it.
func (p possessor) stampAll(resource schema.GroupResource, object fields) {
	p.stamp(object, visible(resource, object, p.userID))
	for _, place := range labelled(resource, object) {
		p.stamp(place, visible(schema.GroupResource{}, place, p.userID))
	}
}

// keepFromProject undoes what controllers copy: what they make of something that is shown to the project is not shown
// itself, unless it is of a kind that can be.
func (a *Admitter) keepFromProject(r *review, owner string) {
	labels := textMap(r.object, "metadata", "labels")
	if r.actor.role != roleController || owner == "" || labels[tenant.LabelVisibleTo] != tenant.VisibleToProject ||
		a.policy.Class(r.resource.Group, r.resource.Resource) == tenant.Shareable {
		return
	}
	ensure(r.object, "metadata", "labels")[tenant.LabelVisibleTo] = owner
}

// pin holds labels and annotations of the platform as they are stored.
func (a *Admitter) pin(r *review) {
	a.keepFromProject(r, textMap(r.old, "metadata", "labels")[tenant.LabelUserID])
	labels, before := textMap(r.object, "metadata", "labels"), textMap(r.old, "metadata", "labels")
	pinned := without(labels, reserved)
	for key, value := range before {
		if reserved(key) {
			pinned[key] = value
		}
	}
	if r.actor.role == roleOperator {
		// What operators write stays, but for the owner.
		for key, value := range labels {
			if reserved(key) && !slices.Contains(ownerLabels(), key) {
				pinned[key] = value
			}
		}
	}
	if r.actor.role == roleNode {
		pinned = maps.Clone(before) // a kubelet has no reason to change any
	}
	if owner := before[tenant.LabelUserID]; owner != "" && r.SubResource == "" && r.actor.role != roleNode {
		pinned[tenant.LabelVisibleTo] = revisible(r.resource, r.object, before, owner)
	}
	write(r.object, pinned, "metadata", "labels")
	if r.actor.role != roleOperator {
		write(r.object, a.pinnedAnnotations(r), "metadata", "annotations")
	}
}

// revisible is the new value of visible-to: removing the label does not change it.
func revisible(resource schema.GroupResource, object fields, before map[string]string, owner string) string {
	if _, given := textMap(object, "metadata", "labels")[tenant.LabelVisibleTo]; !given && before[tenant.LabelVisibleTo] != "" &&
		resource.Group != "osnode.infn.it" {
		return before[tenant.LabelVisibleTo]
	}
	return visible(resource, object, owner)
}

func (a *Admitter) pinnedAnnotations(r *review) map[string]string {
	annotations, before := textMap(r.object, "metadata", "annotations"), textMap(r.old, "metadata", "annotations")
	pinned := without(annotations, func(key string) bool { return reserved(key) && !a.settable(key) })
	for key, value := range before {
		if reserved(key) && !a.settable(key) {
			pinned[key] = value
		}
	}
	return pinned
}

// settable tells that users may set an annotation of the platform.
func (a *Admitter) settable(key string) bool {
	return key == tenant.AnnotationPolicy || slices.Contains(a.rules.Annotations, key)
}

// write replaces a map of strings; it leaves no empty one where there was none.
func write(object fields, values map[string]string, path ...string) {
	last := len(path) - 1
	if len(values) == 0 {
		if parent := child(object, path[:last]...); parent != nil && len(child(parent, path[last])) > 0 {
			delete(parent, path[last])
		}
		return
	}
	target := fields{}
	for key, value := range values {
		target[key] = value
	}
	ensure(object, path[:last]...)[path[last]] = target
}

// reservedKeys finds labels and annotations of the platform that a user made up, which are not among those before.
func (a *Admitter) reservedKeys(object, before fields) []string {
	var problems []string
	find := func(kind string, mine func(key string) bool) {
		old := textMap(before, "metadata", kind)
		for key, value := range textMap(object, "metadata", kind) {
			if was, had := old[key]; reserved(key) && !mine(key) && (!had || was != value) {
				problems = append(problems, "metadata."+kind+"["+key+"] is the platform's and cannot be set")
			}
		}
	}
	find("labels", func(key string) bool { return slices.Contains(ownerLabels(), key) })
	find("annotations", a.settable)
	slices.Sort(problems)
	return problems
}

// checkTemplates keeps users from having controllers write such keys to what these make of the object.
func (a *Admitter) checkTemplates(r *review) {
	if r.actor.role != roleTenant {
		return
	}
	var before []fields
	if r.old != nil {
		before = labelled(r.resource, r.old)
	}
	for i, place := range labelled(r.resource, r.object) {
		var old fields
		if i < len(before) {
			old = before[i]
		}
		for _, problem := range a.reservedKeys(place, old) {
			r.refuse("a template in the object: %s", problem)
		}
	}
}
