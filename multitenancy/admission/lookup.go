// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"context"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Lookup asks the API server for the metadata of one object.
func (w *Watcher) Lookup(ctx context.Context, key Key) (*Object, error) {
	w.mu.RLock()
	resource, known := w.resources[key.Resource]
	w.mu.RUnlock()
	if !known && !w.worth(key.Resource) {
		return nil, nil // of such a kind users own nothing
	}
	select {
	case w.slots <- struct{}{}:
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for a turn: %w", ctx.Err())
	}
	defer func() { <-w.slots }()
	if !known {
		var err error
		if resource, known, err = w.served(key.Resource); err != nil || !known {
			return nil, err
		}
		w.wake()
	}
	found, err := w.metadata.Resource(resource).Namespace(key.Namespace).Get(ctx, key.Name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err), apierrors.IsInvalid(err), apierrors.IsBadRequest(err):
		return nil, nil
	case err != nil:
		return nil, err
	}
	return newEntry(key.Resource, found).object, nil
}

// served asks in which version the cluster serves a kind that was not there when kinds were last read.
func (w *Watcher) served(resource schema.GroupResource) (found schema.GroupVersionResource, is bool, err error) {
	groups, err := w.discovery.ServerGroups()
	if err != nil {
		return schema.GroupVersionResource{}, false, fmt.Errorf("kinds of objects: %w", err)
	}
	for i := range groups.Groups {
		if groups.Groups[i].Name != resource.Group {
			continue
		}
		version := groups.Groups[i].PreferredVersion.GroupVersion
		list, err := w.discovery.ServerResourcesForGroupVersion(version)
		if err != nil {
			return schema.GroupVersionResource{}, false, fmt.Errorf("kinds of objects in %s: %w", version, err)
		}
		for _, one := range preferred([]*metav1.APIResourceList{list}) {
			if one.GroupResource() == resource {
				return one, true, nil
			}
		}
	}
	return schema.GroupVersionResource{}, false, nil
}

// wake has the kinds of objects read again now.
func (w *Watcher) wake() {
	select {
	case w.woken <- struct{}{}:
	default: // they will be
	}
}
