// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"net/url"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
	"k8s.io/apiserver/pkg/endpoints/request"

	"github.com/cloudveneto/caas/multitenancy/tenant"
)

// need is what kube-mt-authz wants to see in a request's selector.
type need int

const (
	needNothing need = iota
	// needOwner is a requirement for objects that the caller owns.
	needOwner
	// needVisible is one for objects that the caller owns or that are shown to the project.
	needVisible
	// needPool is one for nodes on which pods of the caller may run.
	needPool
)

const (
	verbList             = "list"
	verbWatch            = "watch"
	verbDeleteCollection = "deletecollection"

	resourceNamespaces = "namespaces"
	parameterSelector  = "labelSelector"
)

// rules say which requests need a selector. They only know what is asked for, and not by whom.
type rules struct {
	policy tenant.Policy
	// project leaves alone lists of what is not sensitive.
	project   bool
	sensitive []string
}

func (r rules) need(info *request.RequestInfo) need {
	if !info.IsResourceRequest || info.Subresource != "" || viaPath(info) ||
		!slices.Contains([]string{verbList, verbWatch, verbDeleteCollection}, info.Verb) {
		return needNothing
	}
	if info.Namespace == "" || info.Resource == resourceNamespaces && info.APIGroup == "" {
		return r.cluster(info)
	}
	class := r.policy.Class(info.APIGroup, info.Resource)
	switch {
	case class != tenant.Owned && class != tenant.Shareable:
		return needNothing
	case info.Verb == verbDeleteCollection:
		return needOwner
	case r.project && !slices.Contains(r.sensitive, qualified(info)):
		return needNothing
	case class == tenant.Shareable:
		return needVisible
	default:
		return needOwner
	}
}

func (r rules) cluster(info *request.RequestInfo) need {
	scope, listed := r.policy.ClusterScope(info.APIGroup, info.Resource, info.Verb)
	switch {
	case !listed || info.Namespace != "":
		return needNothing
	case scope == tenant.OwnPool:
		return needPool
	case scope == tenant.OwnObjects:
		return needOwner
	default:
		return needNothing
	}
}

// viaPath recognises the oldest form of watches, whose selectors the API server shows to no authorizer.
func viaPath(info *request.RequestInfo) bool {
	prefix := []string{info.APIPrefix, info.APIVersion, verbWatch, ""}
	if info.APIGroup != "" {
		prefix = slices.Insert(prefix, 1, info.APIGroup)
	}
	return strings.HasPrefix(strings.TrimLeft(info.Path, "/"), strings.Join(prefix, "/"))
}

// qualified is a resource as the API server writes it: resource.group.
func qualified(info *request.RequestInfo) string {
	if info.APIGroup == "" {
		return info.Resource
	}
	return info.Resource + "." + info.APIGroup
}

// requirement is a need of a certain caller.
type requirement struct {
	key    string
	values []string
	// keys are those by which users show that they know what they select.
	keys []string
}

func (c *caller) requirement(needed need, verb string) requirement {
	owner := []string{tenant.LabelUserID, tenant.LabelVisibleTo}
	if verb == verbDeleteCollection {
		owner = owner[:1] // what is only visible, one does not delete
	}
	switch needed {
	case needOwner:
		return requirement{key: tenant.LabelUserID, values: []string{c.id}, keys: owner}
	case needVisible:
		return requirement{key: tenant.LabelVisibleTo, values: []string{c.id, tenant.VisibleToProject}, keys: owner}
	case needPool:
		pools := []string{tenant.PrivatePool(c.id)}
		for _, project := range c.projects {
			pools = append(pools, tenant.SharedPool(project.ID))
		}
		return requirement{key: tenant.NodePoolLabel, values: pools, keys: []string{tenant.NodePoolLabel}}
	case needNothing:
	}
	return requirement{}
}

// selectorResult says what became of a request's selector.
type selectorResult string

const (
	// selectorAdded is one that the requirement was added to.
	selectorAdded selectorResult = "added"
	// selectorKept is the user's own, who says whose objects he means.
	selectorKept selectorResult = "kept"
	// selectorOdd is one that is not understood, or there is more than one.
	selectorOdd selectorResult = "odd"
	// selectorNone is that of requests which need none.
	selectorNone selectorResult = "none"
)

// limit adds a requirement to the selector in a query. A query that needs no change, or that
// the API server might understand otherwise, comes back as it was.
func (r requirement) limit(rawQuery string) (string, selectorResult) {
	query, err := url.ParseQuery(rawQuery)
	if err != nil || len(query[parameterSelector]) > 1 {
		return rawQuery, selectorOdd
	}
	own := query.Get(parameterSelector)
	parsed, err := labels.Parse(own)
	if err != nil {
		return rawQuery, selectorOdd
	}
	requirements, selectable := parsed.Requirements()
	if !selectable {
		return rawQuery, selectorOdd
	}
	if slices.ContainsFunc(requirements, func(own labels.Requirement) bool { return slices.Contains(r.keys, own.Key()) }) {
		return rawQuery, selectorKept
	}
	added, err := labels.NewRequirement(r.key, selection.In, r.values)
	if err != nil {
		return rawQuery, selectorOdd
	}
	both := added.String()
	if len(requirements) > 0 {
		both = own + "," + both
	}
	if whole, err := labels.ParseToRequirements(both); err != nil || len(whole) != len(requirements)+1 {
		return rawQuery, selectorOdd
	}
	query.Set(parameterSelector, both)
	return query.Encode(), selectorAdded
}
