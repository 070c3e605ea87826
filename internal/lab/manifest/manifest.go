// SPDX-License-Identifier: Apache-2.0

// Package manifest applies YAML files to a cluster, as kubectl apply --server-side does, for the lab and for tests.
//
//	err := manifest.Apply(ctx, config, os.DirFS("deploy/osnode"), "crds/*.yaml", "rbac.yaml")
//
// It imports no other package of this repository.
package manifest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
)

const (
	// fieldManager is in whose name objects are applied.
	fieldManager = "caas-lab"
	// establishTimeout bounds how long a new kind may take until it can be used.
	establishTimeout  = 30 * time.Second
	establishInterval = 50 * time.Millisecond
	readBuffer        = 4096
)

// Apply applies the objects in the files of source that match the patterns, in the order of the patterns, the files'
// names, and the files' contents. It returns when kinds that it made can be used. A pattern that matches nothing is an
// error, and so is an object without a name.
func Apply(ctx context.Context, config *rest.Config, source fs.FS, patterns ...string) error {
	var objects []*unstructured.Unstructured
	for _, pattern := range patterns {
		names, err := fs.Glob(source, pattern)
		if err != nil {
			return fmt.Errorf("manifests %q: %w", pattern, err)
		}
		if len(names) == 0 {
			return fmt.Errorf("manifests %q: there are none", pattern)
		}
		slices.Sort(names)
		for _, name := range names {
			found, err := read(source, name)
			if err != nil {
				return err
			}
			objects = append(objects, found...)
		}
	}
	return ApplyObjects(ctx, config, objects...)
}

// Decode reads the objects of a YAML stream; empty documents are skipped.
func Decode(data []byte) ([]*unstructured.Unstructured, error) {
	decoder := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(data), readBuffer)
	var objects []*unstructured.Unstructured
	for {
		object := &unstructured.Unstructured{}
		switch err := decoder.Decode(&object.Object); {
		case errors.Is(err, io.EOF):
			return objects, nil
		case err != nil:
			return nil, fmt.Errorf("document %d: %w", len(objects)+1, err)
		case len(object.Object) > 0:
			objects = append(objects, object)
		}
	}
}

func read(source fs.FS, name string) ([]*unstructured.Unstructured, error) {
	data, err := fs.ReadFile(source, name)
	if err != nil {
		return nil, fmt.Errorf("read manifest: %w", err)
	}
	objects, err := Decode(data)
	if err != nil {
		return nil, fmt.Errorf("manifest %s: %w", name, err)
	}
	return objects, nil
}

// ApplyObjects applies objects in their order.
func ApplyObjects(ctx context.Context, config *rest.Config, objects ...*unstructured.Unstructured) error {
	kinds, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		return fmt.Errorf("make client: %w", err)
	}
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("make client: %w", err)
	}
	a := applier{client: client, mapper: restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(kinds))}
	for _, object := range objects {
		if err := a.apply(ctx, object); err != nil {
			return fmt.Errorf("apply %s %s: %w", object.GetKind(), object.GetName(), err)
		}
	}
	return nil
}

type applier struct {
	client dynamic.Interface
	mapper *restmapper.DeferredDiscoveryRESTMapper
}

func (a *applier) apply(ctx context.Context, object *unstructured.Unstructured) error {
	kind := object.GroupVersionKind()
	mapping, err := a.mapper.RESTMapping(kind.GroupKind(), kind.Version)
	if err != nil {
		return err
	}
	var objects dynamic.ResourceInterface = a.client.Resource(mapping.Resource)
	if mapping.Scope.Name() == meta.RESTScopeNameNamespace {
		namespace := object.GetNamespace()
		if namespace == "" {
			namespace = metav1.NamespaceDefault
		}
		objects = a.client.Resource(mapping.Resource).Namespace(namespace)
	}
	if _, err := objects.Apply(ctx, object.GetName(), object, metav1.ApplyOptions{FieldManager: fieldManager, Force: true}); err != nil {
		return err
	}
	if kind.GroupKind() == apiextensionsv1.SchemeGroupVersion.WithKind("CustomResourceDefinition").GroupKind() {
		return a.awaitEstablished(ctx, objects, object.GetName())
	}
	return nil
}

// awaitEstablished returns when the new kind is served; what is known of kinds is forgotten then.
func (a *applier) awaitEstablished(ctx context.Context, definitions dynamic.ResourceInterface, name string) error {
	ctx, cancel := context.WithTimeout(ctx, establishTimeout)
	defer cancel()
	ticker := time.NewTicker(establishInterval)
	defer ticker.Stop()
	for {
		definition, err := definitions.Get(ctx, name, metav1.GetOptions{})
		if err != nil && !apierrors.IsNotFound(err) {
			return err
		}
		if err == nil && established(definition) {
			a.mapper.Reset()
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait until it is served: %w", ctx.Err())
		case <-ticker.C:
		}
	}
}

func established(definition *unstructured.Unstructured) bool {
	conditions, _, _ := unstructured.NestedSlice(definition.Object, "status", "conditions")
	for _, each := range conditions {
		condition, isMap := each.(map[string]any)
		if isMap && condition["type"] == string(apiextensionsv1.Established) && condition["status"] == string(metav1.ConditionTrue) {
			return true
		}
	}
	return false
}
