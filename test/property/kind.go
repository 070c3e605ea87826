// SPDX-License-Identifier: Apache-2.0

package property

import (
	"maps"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/cloudveneto/caas/multitenancy/tenant"
)

// valueKey is the annotation that has an object's content: who wrote it, and when.
const valueKey = "example.org/value"

type object = map[string]any

// kind is a resource that users make objects of.
type kind struct {
	schema.GroupVersionResource

	name string
	// shareable kinds may be shown to the project.
	shareable bool
	// rest is what an object has beside its metadata. secret, when not empty, is what it refers to.
	rest func(secret string) object
}

func (k kind) body(name, value, secret string, labels object) object {
	metadata := object{"name": name, "annotations": object{valueKey: value}}
	if len(labels) > 0 {
		metadata["labels"] = labels
	}
	body := object{"apiVersion": k.GroupVersion().String(), "kind": k.name, "metadata": metadata}
	maps.Copy(body, k.rest(secret))
	return body
}

func podSpec(secret string) object {
	container := object{"name": "c", "image": "registry.example.org/pause"}
	if secret != "" {
		container["envFrom"] = []any{object{"secretRef": object{"name": secret}}}
	}
	return object{"containers": []any{container}}
}

const (
	configMaps  = "configmaps"
	secrets     = "secrets"
	pods        = "pods"
	deployments = "deployments"
)

// kinds are of all classes that users write: shareable, owned, with and without children.
func kinds() []kind {
	core := func(resource string) schema.GroupVersionResource {
		return schema.GroupVersionResource{Version: "v1", Resource: resource}
	}
	nothing := func(string) object { return nil }
	return []kind{
		{core(configMaps), "ConfigMap", true, nothing},
		{core("services"), "Service", true, func(string) object {
			return object{"spec": object{"selector": object{"app": "web"}, "ports": []any{object{"port": 80}}}}
		}},
		{core(secrets), "Secret", false, nothing},
		{core("serviceaccounts"), "ServiceAccount", false, nothing},
		{core(pods), "Pod", false, func(secret string) object { return object{"spec": podSpec(secret)} }},
		{schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: deployments}, "Deployment", false, func(secret string) object {
			return object{"spec": object{
				"selector": object{"matchLabels": object{"app": "web"}},
				"template": object{"metadata": object{"labels": object{"app": "web"}}, "spec": podSpec(secret)},
			}}
		}},
	}
}

// derived are kinds that only controllers make objects of.
func derived() []schema.GroupVersionResource {
	return []schema.GroupVersionResource{
		{Group: "apps", Version: "v1", Resource: "replicasets"},
		{Version: "v1", Resource: "endpoints"},
		{Group: "discovery.k8s.io", Version: "v1", Resource: "endpointslices"},
	}
}

// systemName is an object of nobody that all members may read.
const systemName = "kube-root-ca.crt"

func systemObject(resource, name string) bool { return resource == configMaps && name == systemName }

// ownerless objects are made by the system in every namespace.
func ownerless(resource, name string) bool {
	return systemObject(resource, name) || resource == "serviceaccounts" && name == "default"
}

// place is a name, taken or not.
type place struct{ resource, namespace, name string }

func (p place) String() string { return p.namespace + "/" + p.resource + "/" + p.name }

// sharing is what a user asks an object's labels to be.
func sharing(share bool, id string) object {
	if share {
		return object{tenant.LabelVisibleTo: tenant.VisibleToProject}
	}
	return object{tenant.LabelVisibleTo: id}
}
