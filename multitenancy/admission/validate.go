// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"context"
	"slices"
	"strings"
	"time"

	admissionv1 "k8s.io/api/admission/v1"

	"github.com/cloudveneto/caas/multitenancy/tenant"
)

const notYours = "not found or not yours"

// Validate answers for the validating webhook. It believes nothing that Mutate or another
// webhook did: it sees the object that will be stored.
func (a *Admitter) Validate(ctx context.Context, request *admissionv1.AdmissionRequest) (*admissionv1.AdmissionResponse, error) {
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, decisionTimeout)
	defer cancel()
	r, done, err := a.begin(ctx, request)
	if err != nil {
		return nil, err
	}
	if !done {
		a.validate(ctx, r)
	}
	a.metrics.decided("validate", r, began)
	return r.answer(), nil
}

func (a *Admitter) validate(ctx context.Context, r *review) {
	if r.actor.role == roleTenant && !a.mayWrite(r) {
		r.refuse("%s cannot be changed by users", r.resource)
		return
	}
	switch r.Operation {
	case admissionv1.Create:
		if r.SubResource == "" {
			a.validateNew(ctx, r)
		} else {
			a.validateAction(ctx, r)
		}
	case admissionv1.Update:
		if r.itself() {
			a.validateStored(ctx, r)
		} else {
			a.ownsNamed(ctx, r)
			a.checkScale(ctx, r)
		}
	case admissionv1.Delete:
		a.ownsStored(r)
	case admissionv1.Connect:
		a.ownsNamed(ctx, r)
	default:
		r.refuse("operation %s is not known", r.Operation)
	}
}

// mayWrite asks the policy whether users write objects of that kind at all.
func (a *Admitter) mayWrite(r *review) bool {
	if r.SubResource == "" && r.resource.Resource == "bindings" {
		return true // refused with its own words
	}
	return a.policy.Writable(r.resource.Group, r.resource.Resource)
}

// validateAction is about subresources that are created: they have no owner themselves.
func (a *Admitter) validateAction(ctx context.Context, r *review) {
	switch r.SubResource {
	case "binding":
		a.checkBinding(r)
	case "token":
		if r.actor.role == roleTenant && r.Name == defaultServiceAccount {
			r.refuse("the ServiceAccount %s is nobody's and has no tokens", defaultServiceAccount)
			return
		}
		a.ownsNamed(ctx, r)
	default:
		a.ownsNamed(ctx, r)
	}
}

func (a *Admitter) checkBinding(r *review) {
	if !r.actor.binds {
		r.refuse("only the scheduler binds pods to nodes; use nodeSelector kubernetes.io/hostname")
		return
	}
	for _, kind := range []string{"labels", "annotations"} {
		for key := range textMap(r.object, "metadata", kind) {
			if reserved(key) {
				r.refuse("metadata.%s[%s]: a binding does not change whose a pod is", kind, key)
			}
		}
	}
}

// ownsStored checks a tenant's right to the object as it is stored. Objects that are being
// deleted are like others.
func (a *Admitter) ownsStored(r *review) {
	if r.actor.role != roleTenant {
		return
	}
	if ownerOf(r.old).UserID != r.actor.owner {
		r.refuse("%s %s: %s", r.resource, r.Name, notYours)
	}
}

// ownsNamed checks it where the request does not have the object.
func (a *Admitter) ownsNamed(ctx context.Context, r *review) {
	if r.actor.role != roleTenant {
		return
	}
	key := r.key()
	if r.SubResource == "proxy" {
		key.Name = proxied(key.Name)
	}
	found, err := a.find(ctx, key)
	switch {
	case err != nil:
		r.cannotTell(err)
	case found == nil || found.Owner.UserID != r.actor.owner:
		r.refuse("%s %s: %s", r.resource, r.Name, notYours)
	}
}

// checkScale is the second look at whom an autoscaler serves: when it was made, what it aims at may have been on its way
// through another process. Its controller is the only one that scales what it has not made.
func (a *Admitter) checkScale(ctx context.Context, r *review) {
	if r.actor.role != roleController {
		return
	}
	target, err := a.find(ctx, r.key())
	if err != nil {
		r.cannotTell(err)
		return
	}
	if target == nil || target.Owner.UserID == "" {
		return
	}
	if from := a.index.Autoscaler(r.key(), target.Owner.UserID); from != nil {
		r.refuse("%s %s: the autoscaler %s of somebody else aims at it", r.resource, r.Name, from.Name)
	}
}

// proxied is the object in a proxy's [scheme:]name[:port].
func proxied(name string) string {
	switch parts := strings.Split(name, ":"); len(parts) {
	case 2:
		return parts[0]
	case 3:
		return parts[1]
	default:
		return name
	}
}

func (a *Admitter) validateNew(ctx context.Context, r *review) {
	switch {
	case r.resource.Group == "" && r.resource.Resource == "bindings":
		a.checkBinding(r)
		return
	case isEvent(r):
		a.checkEvent(r, r.object)
		return
	case r.actor.role == roleNode && needsOwner(r):
		r.refuse("nodes cannot make pods in the namespace of a project: there are no static pods on its nodes")
		return
	}
	owner := ownerOf(r.object).UserID
	if r.actor.role == roleTenant {
		r.refuseAll(a.reservedKeys(r.object, nil))
		if owner != r.actor.owner {
			r.refuse("metadata.labels[%s]: the object is not marked as yours", tenant.LabelUserID)
		}
	}
	if owner == "" {
		if needsOwner(r) {
			r.refuse("metadata.labels[%s]: a workload needs an owner", tenant.LabelUserID)
		}
		return
	}
	release := a.reserve(r, owner)
	a.checkName(r, owner)
	a.checkObject(ctx, r, owner)
	if !r.allowed() {
		release()
	}
}

// reserve keeps the name of an object, and what it refers to, for its owner before anything is looked up: somebody else may
// be doing the same at this moment. Pods that are stored do not refer to more.
func (a *Admitter) reserve(r *review, owner string) (release func()) {
	refers := r.references()
	if r.Operation == admissionv1.Update && len(refers) == 0 || r.Name == "" || (r.DryRun != nil && *r.DryRun) {
		return func() {}
	}
	return a.index.Reserve(Object{Key: r.key(), Owner: tenant.Owner{UserID: owner}, References: refers})
}

func (a *Admitter) validateStored(ctx context.Context, r *review) {
	a.ownsStored(r)
	if r.object == nil || r.old == nil || len(r.refusals) > 0 {
		return
	}
	a.checkPinned(r)
	if isEvent(r) {
		// The owner of what it was about is shown what it says now.
		if a.checkEvent(r, r.old); len(r.refusals) == 0 {
			a.checkEvent(r, r.object)
		}
		return
	}
	owner := ownerOf(r.old).UserID
	if owner == "" || (r.SubResource != "" && !isPod(r)) {
		return
	}
	release := a.reserve(r, owner)
	a.checkObject(ctx, r, owner)
	if !r.allowed() {
		release()
	}
}

// checkPinned is the second look at what Mutate restored.
func (a *Admitter) checkPinned(r *review) {
	now, before := textMap(r.object, "metadata", "labels"), textMap(r.old, "metadata", "labels")
	for _, key := range ownerLabels() {
		if now[key] != before[key] && (key != tenant.LabelVisibleTo || r.SubResource != "") {
			r.refuse("metadata.labels[%s] cannot be changed", key)
		}
	}
	if r.actor.role == roleOperator {
		return
	}
	for key, value := range now {
		if reserved(key) && !slices.Contains(ownerLabels(), key) && before[key] != value {
			r.refuse("metadata.labels[%s] cannot be changed", key)
		}
	}
	notes, notesBefore := textMap(r.object, "metadata", "annotations"), textMap(r.old, "metadata", "annotations")
	for key, value := range notes {
		if reserved(key) && !a.settable(key) && notesBefore[key] != value {
			r.refuse("metadata.annotations[%s] cannot be changed", key)
		}
	}
}

// checkName keeps a name for a while for whom had it, and from those whom others' objects
// would take for another's.
func (a *Admitter) checkName(r *review, owner string) {
	if wait, refused := a.index.Quarantined(r.key(), owner); refused {
		r.wait = wait
		r.refuse("the name %s was used by somebody else a short time ago; try again in %d s, or use another", r.Name, int(wait.Seconds())+1)
	}
	if a.index.Referrer(r.key(), owner) != nil {
		r.refuse("the name %s is referred to by an object of somebody else; use another", r.Name)
	}
}

// checkObject has the rules about what an object says.
func (a *Admitter) checkObject(ctx context.Context, r *review, owner string) {
	a.checkVisible(r, owner)
	a.checkOwners(ctx, r, owner)
	if r.SubResource == "" {
		r.refuseAll(unrestricted(r.resource, r.object, owner))
		a.checkStamped(r, owner)
		a.checkTemplates(r)
	}
	a.checkWorkload(ctx, r, owner)
	if r.SubResource == "" {
		a.checkOthers(ctx, r, owner)
	}
}

// checkStamped sees to it that what controllers make of the object is the owner's.
func (a *Admitter) checkStamped(r *review, owner string) {
	for _, place := range labelled(r.resource, r.object) {
		if ownerOf(place).UserID != owner {
			r.refuse("a template in the object is not marked as its owner's")
		}
	}
}

// checkVisible allows showing an object to the project only for kinds without secrets.
func (a *Admitter) checkVisible(r *review, owner string) {
	to := ownerOf(r.object).VisibleTo
	if to == "" || to == owner {
		return
	}
	if to != tenant.VisibleToProject {
		r.refuse("metadata.labels[%s]: %q is neither your id nor %s", tenant.LabelVisibleTo, to, tenant.VisibleToProject)
		return
	}
	if a.policy.Class(r.resource.Group, r.resource.Resource) != tenant.Shareable {
		r.refuse("metadata.labels[%s]: %s cannot be shown to the project", tenant.LabelVisibleTo, r.resource)
	}
}
