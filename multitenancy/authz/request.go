// SPDX-License-Identifier: Apache-2.0

package authz

import (
	"slices"

	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cloudveneto/caas/multitenancy/tenant"
)

// Request is a question of the API server: may this user do that?
type Request struct {
	User tenant.User
	// NonResource is set for URLs that are no objects: discovery, version, health.
	NonResource bool
	Verb        string
	Resource    Resource
	Subresource string
	Namespace   string
	Name        string
	// Selector are the requirements of the label selector. Objects that the request is about meet all of them.
	Selector []metav1.LabelSelectorRequirement
}

// RequestOf reads a review. Of selectors it takes what the API server has parsed and never the text: two parsers that
// disagree would be a hole. The name in a field selector is no limit that a decision could rest on, so field selectors
// are not looked at.
func RequestOf(spec *authorizationv1.SubjectAccessReviewSpec) Request {
	request := Request{User: tenant.User{Name: spec.User, UID: spec.UID, Groups: spec.Groups, Extra: make(map[string][]string, len(spec.Extra))}}
	for key, values := range spec.Extra {
		request.User.Extra[key] = values
	}
	attributes := spec.ResourceAttributes
	if attributes == nil {
		request.NonResource = spec.NonResourceAttributes != nil
		return request
	}
	request.Verb, request.Namespace, request.Name = attributes.Verb, attributes.Namespace, attributes.Name
	request.Resource = Resource{Group: attributes.Group, Resource: attributes.Resource}
	request.Subresource = attributes.Subresource
	if attributes.LabelSelector != nil {
		request.Selector = attributes.LabelSelector.Requirements
	}
	return request
}

// limits reports whether the selector lets through only objects whose label key has one of the allowed values. Since
// requirements are ANDed, one that does is enough whatever else there is. Only In can: NotIn, Exists and DoesNotExist let
// through values that nobody named.
func limits(selector []metav1.LabelSelectorRequirement, key string, allowed ...string) bool {
	return slices.ContainsFunc(selector, func(r metav1.LabelSelectorRequirement) bool {
		return r.Key == key && r.Operator == metav1.LabelSelectorOpIn && len(r.Values) > 0 &&
			!slices.ContainsFunc(r.Values, func(v string) bool { return v == "" || !slices.Contains(allowed, v) })
	})
}
