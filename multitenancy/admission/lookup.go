// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"context"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Lookup asks the API server for the metadata of one object.
func (w *Watcher) Lookup(ctx context.Context, key Key) (*Object, error) {
	w.mu.RLock()
	resource, known := w.resources[key.Resource]
	w.mu.RUnlock()
	if !known {
		return nil, nil // of such a kind users own nothing
	}
	select {
	case w.slots <- struct{}{}:
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for a turn: %w", ctx.Err())
	}
	defer func() { <-w.slots }()
	found, err := w.metadata.Resource(resource).Namespace(key.Namespace).Get(ctx, key.Name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err), apierrors.IsInvalid(err), apierrors.IsBadRequest(err):
		return nil, nil
	case err != nil:
		return nil, err
	}
	return newEntry(key.Resource, found).object, nil
}
