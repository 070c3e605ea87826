// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	admissionv1 "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utiljson "k8s.io/apimachinery/pkg/util/json"

	"github.com/cloudveneto/caas/multitenancy/tenant"
)

// review is one request on its way to an answer.
type review struct {
	*admissionv1.AdmissionRequest

	resource    schema.GroupResource
	project     Project
	actor       actor
	object, old fields

	// refusals are what the user did wrong, unsure is what could not be found out.
	refusals []string
	unsure   error
	// wait, when positive, says after how long the same request may be right.
	wait     time.Duration
	warnings []string
	patch    []operation
}

// errNotReady is said until the index is complete.
var errNotReady = errors.New("kube-mt-admission is not ready")

func newReview(request *admissionv1.AdmissionRequest) (*review, error) {
	r := &review{
		AdmissionRequest: request,
		resource:         schema.GroupResource{Group: request.Resource.Group, Resource: request.Resource.Resource},
	}
	for target, raw := range map[*fields][]byte{&r.object: request.Object.Raw, &r.old: request.OldObject.Raw} {
		if len(raw) == 0 || string(raw) == "null" {
			continue
		}
		if err := utiljson.Unmarshal(raw, target); err != nil {
			return nil, fmt.Errorf("object in the request: %w", err)
		}
	}
	return r, nil
}

func (r *review) refuse(format string, args ...any) {
	if len(args) == 0 {
		r.refusals = append(r.refusals, format)
		return
	}
	r.refusals = append(r.refusals, fmt.Sprintf(format, args...))
}

func (r *review) refuseAll(problems []string) { r.refusals = append(r.refusals, problems...) }

// cannotTell refuses for now.
func (r *review) cannotTell(err error) {
	if err != nil {
		r.unsure = errors.Join(r.unsure, err)
	}
}

func (r *review) warn(text string) {
	if !slices.Contains(r.warnings, text) {
		r.warnings = append(r.warnings, text)
	}
}

func (r *review) allowed() bool { return len(r.refusals) == 0 && r.unsure == nil }

// references are the names that the object refers to, and did not before. Of what is stored, only a change of the object itself
// can bring new ones; pods cannot be given any then but such as exist.
func (r *review) references() []Key {
	switch {
	case r.Operation == admissionv1.Update && (r.SubResource != "" || isPod(r)):
		return nil
	case isPod(r):
		return places(podReferences(r.object, r.Name), r.Namespace)
	}
	references, _ := ObjectReferences(r.resource, r.object)
	if r.old != nil {
		old, _ := ObjectReferences(r.resource, r.old)
		references = added(references, old)
	}
	return places(references, r.Namespace)
}

func (r *review) result() string {
	switch {
	case len(r.refusals) > 0:
		return "refused"
	case r.unsure != nil:
		return "unsure"
	default:
		return "allowed"
	}
}

// key is the place of the object that the request is about.
func (r *review) key() Key {
	return Key{Resource: r.resource, Namespace: r.Namespace, Name: r.Name}
}

// itself tells that the request is about the object and not about a subresource with a
// form of its own.
func (r *review) itself() bool {
	return r.SubResource == "" || (r.Operation == admissionv1.Update && r.SubResource != "scale")
}

// answer is the response without a patch.
func (r *review) answer() *admissionv1.AdmissionResponse {
	response := &admissionv1.AdmissionResponse{UID: r.UID, Allowed: true, Warnings: r.warnings}
	switch {
	case len(r.refusals) > 0:
		response.Allowed = false
		response.Result = &metav1.Status{
			Status: metav1.StatusFailure, Code: http.StatusForbidden, Reason: metav1.StatusReasonForbidden,
			Message: strings.Join(r.refusals, "; "),
		}
		if r.wait > 0 {
			response.Result.Code, response.Result.Reason = http.StatusConflict, metav1.StatusReasonConflict
			response.Result.Details = &metav1.StatusDetails{RetryAfterSeconds: int32(min(r.wait.Seconds()+1, 1<<20))}
		}
	case r.unsure != nil:
		response.Allowed = false
		response.Result = &metav1.Status{
			Status: metav1.StatusFailure, Code: http.StatusServiceUnavailable, Reason: metav1.StatusReasonServiceUnavailable,
			Message: "cannot tell whether this is allowed: " + r.unsure.Error(),
		}
	}
	return response
}

// begin decodes a request and finds out whose it is. done means that there is nothing to
// decide, or nothing that can be.
func (a *Admitter) begin(ctx context.Context, request *admissionv1.AdmissionRequest) (r *review, done bool, err error) {
	r, err = newReview(request)
	if err != nil {
		return nil, true, err
	}
	project, known := a.index.Project(r.Namespace)
	r.project = project
	r.actor.role = roleUnasked
	switch {
	case r.Namespace == "", tenant.SystemNamespace(r.Namespace):
		return r, true, nil
	case a.exempt(request.UserInfo):
		return r, true, nil
	}
	if err := a.ready(ctx, r.resource); err != nil {
		r.cannotTell(errors.Join(errNotReady, err))
		return r, true, nil
	}
	// The API server asks about projects' namespaces only: what says otherwise here is out of date.
	if !known || !project.Tenant {
		r.cannotTell(fmt.Errorf("the namespace %s is not known yet as a project's", r.Namespace))
		return r, true, nil
	}
	r.actor, err = a.actor(ctx, r)
	if err != nil {
		r.cannotTell(err)
		return r, true, nil
	}
	if r.actor.role == roleStranger {
		r.refuse("%s", r.actor.why)
		return r, true, nil
	}
	return r, false, nil
}

// ownerOf is the owner of an object by its labels.
func ownerOf(object fields) tenant.Owner {
	return tenant.OwnerOf(textMap(object, "metadata", "labels"))
}
