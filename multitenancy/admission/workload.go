// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"strings"

	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
)

const (
	warnNoPrivateNode = "no node of yours is ready: pods will stay Pending; create an OpenStackNode (policy private), " +
		"or set the annotation osn.infn.it/policy: shared"
	warnNoNode = "neither you nor your project has a node that is ready: pods will stay Pending; create an OpenStackNode"
	warnShared = "pods with osn.infn.it/policy: shared may run on nodes of other members of the project, whose owners can access them"
)

// checkWorkload has the rules for pods, wherever they are described.
func (a *Admitter) checkWorkload(ctx context.Context, r *review, owner string) {
	found, ok := templateOf(r.resource, r.object)
	if !ok {
		return
	}
	mode, err := modeOf(textMap(found.holder, "metadata", "annotations"), found.field("metadata.annotations"))
	if err != nil {
		r.refuse("%s", err.Error())
		return
	}
	if _, err := modeOf(textMap(r.object, "metadata", "annotations"), "metadata.annotations"); err != nil && found.path != "" {
		r.refuse("%s", err.Error())
	}
	before, stored := templateOf(r.resource, r.old)
	if stored && reflect.DeepEqual(child(before.holder, "spec"), child(found.holder, "spec")) && found.path == "" {
		return
	}
	spec, err := decodePodSpec(child(found.holder, "spec"), found.field("spec"))
	if err != nil {
		r.refuse("%s", err.Error())
		return
	}
	created := r.Operation == admissionv1.Create
	if spec.NodeName != "" && (created || found.path != "") {
		r.refuse("%s", forcedNode(found.field("spec")))
	}
	a.checkPlacement(r, found, spec, owner, mode)
	r.refuseAll(a.foreignTo(spec, mode, found.field("spec")))
	a.checkPodReferences(ctx, r, found, before, spec, owner)
	if created && len(r.refusals) == 0 {
		a.advise(r, owner, mode)
	}
}

func (a *Admitter) checkPlacement(r *review, found template, spec *corev1.PodSpec, owner, mode string) {
	path := found.field("spec")
	if !found.placed {
		r.refuseAll(tolerations(spec, pools(mode, owner, r.project.ProjectID), path))
		return
	}
	if r.Operation == admissionv1.Update && found.path == "" {
		mode = modeShared // the annotation may have changed since, the restriction cannot be widened
	}
	r.refuseAll(misplaced(spec, pools(mode, owner, r.project.ProjectID), path))
}

// foreignTo are the rules about what a pod may do beside others.
func (a *Admitter) foreignTo(spec *corev1.PodSpec, mode, path string) []string {
	var problems []string
	if spec.SchedulerName != "" && !slices.Contains(a.rules.SchedulerNames, spec.SchedulerName) {
		problems = append(problems, fmt.Sprintf("%s.schedulerName: %s is not allowed", path, spec.SchedulerName))
	}
	if spec.PriorityClassName != "" && !slices.Contains(a.rules.PriorityClasses, spec.PriorityClassName) {
		problems = append(problems, fmt.Sprintf("%s.priorityClassName: %s is not allowed", path, spec.PriorityClassName))
	}
	for i := range spec.Volumes {
		if kind := volumeType(&spec.Volumes[i]); kind != "" && !slices.Contains(a.rules.VolumeTypes, kind) {
			problems = append(problems, fmt.Sprintf("%s.volumes[%d]: volumes of type %s are not allowed; use a PersistentVolumeClaim", path, i, kind))
		}
	}
	if mode == modeShared || a.rules.PrivateNodes != levelPrivileged {
		problems = append(problems, beyondBaseline(spec, path)...)
	}
	return problems
}

// volumeType is the name of the field that is set, as users write it.
func volumeType(volume *corev1.Volume) string {
	source := reflect.ValueOf(volume.VolumeSource)
	for i := range source.NumField() {
		if !source.Field(i).IsNil() {
			name, _, _ := strings.Cut(source.Type().Field(i).Tag.Get("json"), ",")
			return name
		}
	}
	return ""
}

// checkPodReferences looks at what a pod would have its node read for it. A pod refers to
// what exists: if it came first, somebody else could make what it then reads. Templates
// may be first, as their pods are looked at again.
func (a *Admitter) checkPodReferences(ctx context.Context, r *review, found, before template, spec *corev1.PodSpec, owner string) {
	name := ""
	if found.path == "" {
		name = r.Name
		if name == "" {
			name = text(r.object, "metadata", "name")
		}
	}
	references, unknown := PodReferences(spec, name, found.field("spec"))
	for _, path := range unknown {
		r.refuse("%s: of a type that kube-mt-admission does not know", path)
	}
	strict := found.path == "" && !a.gated(spec)
	if before.holder != nil {
		references = a.newReferences(references, before, name, strict)
	}
	want := ifKnown
	if strict {
		want = mustExist
	}
	a.checkReferences(ctx, r, references, owner, want)
}

// gated tells that the pod waits for the objects that it refers to, and for nothing else.
func (a *Admitter) gated(spec *corev1.PodSpec) bool {
	return a.rules.ObjectsGate != "" && len(spec.SchedulingGates) == 1 && spec.SchedulingGates[0].Name == a.rules.ObjectsGate
}

// newReferences are those that were not looked at before: what has been referred to
// may be gone by now. A pod that waited no longer has all looked at.
func (a *Admitter) newReferences(references []Reference, before template, name string, strict bool) []Reference {
	spec, err := decodePodSpec(child(before.holder, "spec"), "")
	if err != nil || (strict && a.gated(spec)) {
		return references
	}
	old, _ := PodReferences(spec, name, "")
	return added(references, old)
}

func added(references, old []Reference) []Reference {
	return slices.DeleteFunc(references, func(reference Reference) bool {
		return slices.ContainsFunc(old, func(known Reference) bool {
			return known.Resource == reference.Resource && known.Name == reference.Name
		})
	})
}

// demand is how sure one has to be of what an object refers to.
type demand int

const (
	// ifKnown is for templates: their pods are looked at again before anything is read for them.
	ifKnown demand = iota
	// ifThere also asks the API server, because nobody looks again.
	ifThere
	// mustExist wants the object to be there.
	mustExist
)

// checkReferences wants every referenced object to be the owner's. What does not exist must not be about to be somebody else's.
func (a *Admitter) checkReferences(ctx context.Context, r *review, references []Reference, owner string, want demand) {
	seen := map[Key]bool{}
	for _, reference := range references {
		key := reference.place(r.Namespace)
		if seen[key] || a.everybodys(key) || key.Resource == ingressHosts {
			continue
		}
		seen[key] = true
		found, err := a.index.Find(key), error(nil)
		if want != ifKnown {
			found, err = a.find(ctx, key)
		}
		switch {
		case err != nil:
			r.cannotTell(err)
		case found == nil && a.index.Reserved(key, owner):
			r.refuse("%s: %s %q: %s", reference.Path, reference.Resource, reference.Name, notYours)
		case found == nil && (reference.Later || want != mustExist):
		case found == nil || found.Owner.UserID != owner:
			r.refuse("%s: %s %q: %s", reference.Path, reference.Resource, reference.Name, notYours)
		}
	}
}

// everybodys are the objects that each namespace has.
func (a *Admitter) everybodys(key Key) bool {
	return a.policy.SystemObject(key.Resource.Group, key.Resource.Resource, key.Name) ||
		(key.Resource == serviceAccounts && key.Name == defaultServiceAccount)
}

// advise tells the user now what would otherwise be found out late.
func (a *Admitter) advise(r *review, owner, mode string) {
	if r.actor.role != roleTenant {
		return
	}
	allowed := pools(mode, owner, r.project.ProjectID)
	switch {
	case mode == modePrivate && !a.nodes.Ready(allowed):
		r.warn(warnNoPrivateNode)
	case mode == modeShared && !a.nodes.Ready(allowed):
		r.warn(warnNoNode)
	}
	if mode == modeShared {
		r.warn(warnShared)
	}
}

func nodeName(user string) string { return strings.TrimPrefix(user, "system:node:") }
