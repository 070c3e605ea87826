// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
)

// fields is a JSON object. Objects are changed in this form and not as Go types, which
// would lose what a newer API server knows and this program does not.
type fields = map[string]any

// child returns the object at the path, or nil.
func child(object fields, path ...string) fields {
	for _, name := range path {
		next, ok := object[name].(fields)
		if !ok {
			return nil
		}
		object = next
	}
	return object
}

// ensure returns the object at the path and makes what is missing of it.
func ensure(object fields, path ...string) fields {
	for _, name := range path {
		next, ok := object[name].(fields)
		if !ok {
			next = fields{}
			object[name] = next
		}
		object = next
	}
	return object
}

func text(object fields, path ...string) string {
	if len(path) == 0 {
		return ""
	}
	value, _ := child(object, path[:len(path)-1]...)[path[len(path)-1]].(string)
	return value
}

// list returns the objects of a list; others of its items are left out.
func list(object fields, path ...string) []fields {
	items, _ := child(object, path[:len(path)-1]...)[path[len(path)-1]].([]any)
	found := make([]fields, 0, len(items))
	for _, item := range items {
		if item, ok := item.(fields); ok {
			found = append(found, item)
		}
	}
	return found
}

// textMap is a map of strings such as labels; nil when there is none.
func textMap(object fields, path ...string) map[string]string {
	source := child(object, path...)
	if source == nil {
		return nil
	}
	found := make(map[string]string, len(source))
	for key, value := range source {
		if value, ok := value.(string); ok {
			found[key] = value
		}
	}
	return found
}

func clone(object fields) fields {
	if object == nil {
		return nil
	}
	return runtime.DeepCopyJSON(object)
}

// decodePodSpec reads a pod spec. A field that this program does not know is an error: it
// may refer to anything.
func decodePodSpec(spec fields, path string) (*corev1.PodSpec, error) {
	decoded := &corev1.PodSpec{}
	if err := strictly(spec, decoded); err != nil {
		return nil, fmt.Errorf("%s: kube-mt-admission does not know all of it: %w", path, err)
	}
	return decoded, nil
}

func strictly(source fields, into any) error {
	if source == nil {
		return nil
	}
	return runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(source, into, true)
}

func ownerReferences(object fields) []metav1.OwnerReference {
	return (&unstructured.Unstructured{Object: object}).GetOwnerReferences()
}

func controllerOf(object fields) *metav1.OwnerReference {
	for _, reference := range ownerReferences(object) {
		if reference.Controller != nil && *reference.Controller {
			return &reference
		}
	}
	return nil
}

// without returns a copy of the map less the keys for which drop says so.
func without(values map[string]string, drop func(key string) bool) map[string]string {
	kept := make(map[string]string, len(values))
	for key, value := range values {
		if !drop(key) {
			kept[key] = value
		}
	}
	return kept
}

// plural is the resource of a kind by the rule to which all of Kubernetes' own keep.
func plural(kind string) string {
	lower := strings.ToLower(kind)
	switch {
	case strings.HasSuffix(lower, "endpoints"):
		return lower
	case strings.HasSuffix(lower, "s"), strings.HasSuffix(lower, "x"), strings.HasSuffix(lower, "ch"), strings.HasSuffix(lower, "sh"):
		return lower + "es"
	case strings.HasSuffix(lower, "y") && !strings.HasSuffix(lower, "ay") && !strings.HasSuffix(lower, "ey"):
		return lower[:len(lower)-1] + "ies"
	default:
		return lower + "s"
	}
}
