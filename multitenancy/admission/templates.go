// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/cloudveneto/caas/multitenancy/tenant"
)

// template is a pod as an object describes it: the pod itself, or one that a controller
// makes of it.
type template struct {
	// holder has the fields metadata and spec.
	holder fields
	// path is where holder is, "" for a pod itself.
	path string
	// placed templates get the nodes that they may run on: a DaemonSet's controller reads
	// them from there, all others have them written to the pod.
	placed bool
}

func (t template) field(name string) string {
	if t.path == "" {
		return name
	}
	return t.path + "." + name
}

// templatePaths says where kinds of objects have their pods.
func templatePath(resource schema.GroupResource) (path []string, known bool) {
	switch resource.Group {
	case "":
		switch resource.Resource {
		case "pods":
			return nil, true
		case "replicationcontrollers":
			return []string{"spec", "template"}, true
		case "podtemplates":
			return []string{"template"}, true
		}
	case "apps", "extensions":
		if slices.Contains([]string{"deployments", "replicasets", "statefulsets", "daemonsets"}, resource.Resource) {
			return []string{"spec", "template"}, true
		}
	case "batch":
		switch resource.Resource {
		case "jobs":
			return []string{"spec", "template"}, true
		case "cronjobs":
			return []string{"spec", "jobTemplate", "spec", "template"}, true
		}
	}
	return nil, false
}

// templateOf is the pod of an object, if it has one.
func templateOf(resource schema.GroupResource, object fields) (template, bool) {
	path, known := templatePath(resource)
	if !known || object == nil {
		return template{}, false
	}
	holder := object
	if len(path) > 0 {
		if holder = child(object, path...); holder == nil {
			return template{}, false
		}
	}
	return template{
		holder: holder, path: strings.Join(path, "."),
		placed: resource == podResource || resource.Resource == "daemonsets",
	}, true
}

// labelled are all the places in the object where labels say whose the things are that a
// controller makes of it.
func labelled(resource schema.GroupResource, object fields) []fields {
	var places []fields
	if found, ok := templateOf(resource, object); ok && found.path != "" {
		places = append(places, found.holder)
	}
	if resource.Resource == "cronjobs" {
		if job := child(object, "spec", "jobTemplate"); job != nil {
			places = append(places, job)
		}
	}
	if resource.Resource == "statefulsets" {
		places = append(places, list(object, "spec", "volumeClaimTemplates")...)
	}
	if found, ok := templateOf(resource, object); ok {
		for _, volume := range list(found.holder, "spec", "volumes") {
			if claim := child(volume, "ephemeral", "volumeClaimTemplate"); claim != nil {
				places = append(places, claim)
			}
		}
	}
	if resource == claimTemplates {
		places = append(places, ensure(object, "spec"))
	}
	return places
}

// propagatePolicy copies the annotation that chooses nodes from a workload to its pods
// when they have none. A copy follows its original.
func propagatePolicy(resource schema.GroupResource, object, old fields) {
	found, ok := templateOf(resource, object)
	if !ok || found.path == "" {
		return
	}
	chosen, set := textMap(object, "metadata", "annotations")[tenant.AnnotationPolicy]
	own, has := textMap(found.holder, "metadata", "annotations")[tenant.AnnotationPolicy]
	if has && !copied(resource, old, own) {
		return
	}
	switch {
	case set:
		ensure(found.holder, "metadata", "annotations")[tenant.AnnotationPolicy] = chosen
	case has:
		delete(ensure(found.holder, "metadata", "annotations"), tenant.AnnotationPolicy)
	}
}

// copied tells that the template's value came from the workload before.
func copied(resource schema.GroupResource, old fields, value string) bool {
	before, ok := templateOf(resource, old)
	if !ok {
		return false
	}
	return textMap(old, "metadata", "annotations")[tenant.AnnotationPolicy] == value &&
		textMap(before.holder, "metadata", "annotations")[tenant.AnnotationPolicy] == value
}
