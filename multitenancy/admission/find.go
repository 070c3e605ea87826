// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"context"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

const (
	// decisionTimeout is less than the API server's patience, so that it hears the reason.
	decisionTimeout = 2500 * time.Millisecond
	// lookupTimeout bounds one question to the API server.
	lookupTimeout = 2 * time.Second
)

// find returns the object of that name, or nil when there is none. What the index has not
// heard of may have been made a moment ago.
func (a *Admitter) find(ctx context.Context, key Key) (*Object, error) {
	if known := a.index.Find(key); known != nil {
		return known, nil
	}
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	found, err := a.lookup.Lookup(ctx, key)
	switch {
	case err != nil:
		a.metrics.lookups.WithLabelValues("error").Inc()
		return nil, fmt.Errorf("look up %s %s: %w", key.Resource, key.Name, err)
	case found == nil:
		a.metrics.lookups.WithLabelValues("absent").Inc()
	default:
		a.metrics.lookups.WithLabelValues("found").Inc()
	}
	return found, nil
}

// findOwner returns the object that an ownerReference means, or nil when there is none of
// that UID under that name.
func (a *Admitter) findOwner(ctx context.Context, namespace string, reference metav1.OwnerReference) (*Object, error) {
	version, err := schema.ParseGroupVersion(reference.APIVersion)
	if err != nil {
		return nil, nil //nolint:nilerr // such a thing does not exist
	}
	key := Key{Resource: schema.GroupResource{Group: version.Group, Resource: plural(reference.Kind)}, Namespace: namespace, Name: reference.Name}
	if known := a.index.ByUID(reference.UID); known != nil {
		if known.Namespace != namespace || known.Name != reference.Name || known.Resource != key.Resource {
			return nil, nil // it is another's UID
		}
		return known, nil
	}
	found, err := a.find(ctx, key)
	if err != nil || found == nil || found.UID != reference.UID {
		return nil, err
	}
	return found, nil
}
