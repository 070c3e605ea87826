// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	admissionv1 "k8s.io/api/admission/v1"

	"github.com/cloudveneto/caas/multitenancy/tenant"
)

// errNoOwner is said of objects that cannot be anybody's.
var errNoOwner = errors.New("no owner")

// Mutate answers for the mutating webhook: it changes the object so that Validate can
// accept it. A second call changes nothing.
func (a *Admitter) Mutate(ctx context.Context, request *admissionv1.AdmissionRequest) (*admissionv1.AdmissionResponse, error) {
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, decisionTimeout)
	defer cancel()
	r, done, err := a.begin(ctx, request)
	if err != nil {
		return nil, err
	}
	if !done && r.object != nil {
		before := clone(r.object)
		a.mutate(ctx, r)
		r.patch = diff(before, r.object, "")
	}
	a.metrics.decided("mutate", r, began)
	response := r.answer()
	return withPatch(response, r.patch)
}

func (a *Admitter) mutate(ctx context.Context, r *review) {
	switch {
	case r.Operation == admissionv1.Create && r.SubResource == "":
		a.mutateNew(ctx, r)
	case r.Operation == admissionv1.Create && r.SubResource == "binding":
		// What stands in a Binding is written over the pod's.
		strip(r.object)
	case r.Operation == admissionv1.Update && r.itself():
		a.mutateStored(r)
	}
}

// strip removes the platform's labels and annotations.
func strip(object fields) {
	for _, kind := range []string{"labels", "annotations"} {
		write(object, without(textMap(object, "metadata", kind), reserved), "metadata", kind)
	}
}

func (a *Admitter) mutateNew(ctx context.Context, r *review) {
	if r.resource.Resource == "bindings" {
		strip(r.object)
		return
	}
	owner, err := a.possessor(ctx, r)
	switch {
	case errors.Is(err, errNoOwner):
		r.refuse("%s", err.Error())
		return
	case err != nil:
		r.cannotTell(err)
		return
	case owner.userID == "":
		return
	}
	a.keepFromProject(r, owner.userID)
	owner.stampAll(r.resource, r.object)
	a.shape(r, owner)
}

// shape restricts what the object selects and where its pods run.
func (a *Admitter) shape(r *review, owner possessor) {
	restrict(r.resource, r.object, owner.userID)
	propagatePolicy(r.resource, r.object, r.old)
	pod, ok := templateOf(r.resource, r.object)
	if !ok {
		return
	}
	spec := ensure(pod.holder, "spec")
	if pod.path == "" {
		tokenless(spec)
		spec["enableServiceLinks"] = false // the variables would tell of others' Services
	}
	if !pod.placed {
		return
	}
	// A wrong annotation is refused by Validate; until then private is safe.
	mode, err := modeOf(textMap(pod.holder, "metadata", "annotations"), "")
	if err != nil {
		mode = modePrivate
	}
	place(spec, pools(mode, owner.userID, owner.projectID))
}

// tokenless takes the token of the default ServiceAccount, which has no rights, from pods
// that do not ask for it. The API server has put it there before webhooks are asked.
func tokenless(spec fields) {
	account := text(spec, "serviceAccountName")
	if _, asked := spec["automountServiceAccountToken"]; asked || (account != "" && account != defaultServiceAccount) {
		return
	}
	spec["automountServiceAccountToken"] = false
	injected := func(item any) bool {
		one, _ := item.(fields)
		return strings.HasPrefix(text(one, "name"), "kube-api-access-")
	}
	drop := func(holder fields, field string) {
		if items, ok := holder[field].([]any); ok && slices.ContainsFunc(items, injected) {
			if items = slices.DeleteFunc(slices.Clone(items), injected); len(items) == 0 {
				delete(holder, field)
			} else {
				holder[field] = items
			}
		}
	}
	drop(spec, "volumes")
	for _, kind := range []string{"containers", "initContainers"} {
		for _, container := range list(spec, kind) {
			drop(container, "volumeMounts")
		}
	}
}

// mutateStored holds what is stored. Only a change of the object itself, and not of its
// status, can bring new templates and selectors.
func (a *Admitter) mutateStored(r *review) {
	if r.old == nil {
		return
	}
	a.pin(r)
	labels := textMap(r.object, "metadata", "labels")
	if r.SubResource != "" || labels[tenant.LabelUserID] == "" || isPod(r) {
		return
	}
	owner := possessor{
		userID: labels[tenant.LabelUserID], userName: labels[tenant.LabelUserName],
		projectID: labels[tenant.LabelProjectID], projectName: labels[tenant.LabelProjectName],
	}
	for _, place := range labelled(r.resource, r.object) {
		owner.stamp(place, visible(podResource, place, owner.userID))
	}
	a.shape(r, owner)
}

func isPod(r *review) bool { return r.resource == podResource }

// possessor finds out whose a new object is; it has no userID when it is nobody's.
func (a *Admitter) possessor(ctx context.Context, r *review) (possessor, error) {
	owner := possessor{projectID: r.project.ProjectID, projectName: r.project.ProjectName}
	switch {
	case isEvent(r):
		return a.eventOwner(ctx, r, owner)
	case r.actor.role == roleTenant:
		owner.userID, owner.userName = r.actor.owner, r.actor.ownerName
		if r.actor.projectName != "" {
			owner.projectName = r.actor.projectName
		}
		return owner, nil
	case r.actor.trusted():
		return a.inherited(ctx, r, owner)
	default:
		return possessor{}, nil
	}
}

// inherited is the owner of the object that controls the new one, by its UID: labels are
// believed only where none does, as they come from templates that this webhook stamped.
func (a *Admitter) inherited(ctx context.Context, r *review, owner possessor) (possessor, error) {
	labels := textMap(r.object, "metadata", "labels")
	controller := controllerOf(r.object)
	if controller == nil {
		owner.userID, owner.userName = labels[tenant.LabelUserID], labels[tenant.LabelUserName]
		if owner.userID == "" && needsOwner(r) {
			return possessor{}, fmt.Errorf("%w: nothing controls it, and it has no label %s", errNoOwner, tenant.LabelUserID)
		}
		return owner, nil
	}
	parent, err := a.findOwner(ctx, r.Namespace, *controller)
	switch {
	case err != nil:
		return possessor{}, err
	case parent == nil:
		return possessor{}, fmt.Errorf("the %s %s of that UID is not known yet", controller.Kind, controller.Name)
	case parent.Owner.UserID == "" && needsOwner(r):
		return possessor{}, fmt.Errorf("%w: the %s %s, which controls it, has none", errNoOwner, controller.Kind, controller.Name)
	}
	owner.userID, owner.userName = parent.Owner.UserID, parent.OwnerName
	if owner.userName == "" && labels[tenant.LabelUserID] == owner.userID {
		owner.userName = labels[tenant.LabelUserName]
	}
	return owner, nil
}

// needsOwner tells that an object of nobody can do harm: what a pod is made of.
func needsOwner(r *review) bool {
	_, hasPods := templatePath(r.resource)
	return hasPods
}

func isEvent(r *review) bool { return r.resource == eventResource || r.resource == newEvents }
