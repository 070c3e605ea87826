// SPDX-License-Identifier: Apache-2.0

package admission

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/cloudveneto/caas/multitenancy/tenant"
)

// entry is what an informer keeps of an object: enough to be stored, and the index's view.
type entry struct {
	metav1.ObjectMeta

	object *Object
}

// newEntry keeps a little of the metadata and the owner.
func newEntry(resource schema.GroupResource, meta metav1.Object) *entry {
	labels := meta.GetLabels()
	return &entry{
		ObjectMeta: metav1.ObjectMeta{
			Name: meta.GetName(), Namespace: meta.GetNamespace(), UID: meta.GetUID(), ResourceVersion: meta.GetResourceVersion(),
		},
		object: &Object{
			Key: Key{Resource: resource, Namespace: meta.GetNamespace(), Name: meta.GetName()},
			UID: meta.GetUID(), Owner: tenant.OwnerOf(labels), OwnerName: labels[tenant.LabelUserName],
		},
	}
}

// refers tells that objects of this resource have others resolve names while they exist.
func refers(resource schema.GroupResource) bool {
	switch resource.Group + "/" + resource.Resource {
	case "/pods", "/persistentvolumeclaims", "networking.k8s.io/ingresses", "autoscaling/horizontalpodautoscalers":
		return true
	default:
		return resource.Group == "gateway.networking.k8s.io"
	}
}

// fullEntry also reads to what the object refers.
func fullEntry(resource schema.GroupResource, object *unstructured.Unstructured) *entry {
	made := newEntry(resource, object)
	var references []Reference
	if resource == podResource {
		references = podEntry(made.object, object.Object)
	} else {
		references, _ = ObjectReferences(resource, object.Object)
	}
	made.object.References = places(references, object.GetNamespace())
	return made
}

// places are the names that an object of the namespace refers to.
func places(references []Reference, namespace string) []Key {
	var found []Key
	for _, reference := range references {
		found = append(found, reference.place(namespace))
	}
	return found
}

func (r Reference) place(namespace string) Key {
	if r.Resource == volumes || r.Resource == ingressHosts {
		namespace = ""
	}
	return Key{Resource: r.Resource, Namespace: namespace, Name: r.Name}
}

// podEntry reads a pod. One that has ended reads nothing any more.
func podEntry(into *Object, pod fields) []Reference {
	into.Node = text(pod, "spec", "nodeName")
	switch corev1.PodPhase(text(pod, "status", "phase")) {
	case corev1.PodSucceeded, corev1.PodFailed:
		return nil
	case corev1.PodPending, corev1.PodRunning, corev1.PodUnknown:
	}
	return podReferences(pod, into.Name)
}

func podReferences(pod fields, name string) []Reference {
	spec := &corev1.PodSpec{}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(child(pod, "spec"), spec); err != nil {
		return nil // an API server sends no such pod
	}
	references, _ := PodReferences(spec, name, "spec")
	return references
}
