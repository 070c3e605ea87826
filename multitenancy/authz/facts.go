// SPDX-License-Identifier: Apache-2.0

package authz

import "github.com/cloudveneto/caas/multitenancy/tenant"

// Resource is a kind of object as requests name it. Its version does not matter: all versions of a kind are one set of
// objects.
type Resource struct {
	Group, Resource string
}

func (r Resource) String() string {
	if r.Group == "" {
		return r.Resource
	}
	return r.Resource + "." + r.Group
}

// canonical is the resource under which objects are known that two groups serve.
func (r Resource) canonical() Resource {
	if r == (Resource{Group: "events.k8s.io", Resource: resourceEvents}) {
		return core(resourceEvents)
	}
	return r
}

// Key names one object. Namespace is empty for cluster-scoped ones.
type Key struct {
	Resource

	Namespace, Name string
}

// Object is what a decision may depend on.
type Object struct {
	UID   string
	Owner tenant.Owner
	// Labels are kept for Namespaces and Nodes only.
	Labels map[string]string
}

// Knowledge says how far an Object can be relied on.
type Knowledge int

const (
	// Unknown objects are not in the index, or the index of their kind is out of date: the API server has to be asked.
	Unknown Knowledge = iota
	// Known objects exist as told.
	Known
	// Absent objects do not exist: the API server was asked.
	Absent
	// Limited objects were not asked about because their user asks too often.
	Limited
	// Unavailable objects could not be asked about.
	Unavailable
)

// Facts are what Decide knows of the cluster. They answer at once, from memory.
type Facts interface {
	// Ready reports whether the facts are complete enough for decisions.
	Ready() bool
	// Object tells what is known of an object.
	Object(key Key) (Object, Knowledge)
}

// asked are facts with the answers to what they could not tell.
type asked struct {
	Facts

	answers map[Key]answer
}

type answer struct {
	object    Object
	knowledge Knowledge
}

func (a asked) Object(key Key) (Object, Knowledge) {
	if got, ok := a.answers[key]; ok {
		return got.object, got.knowledge
	}
	return a.Facts.Object(key)
}
