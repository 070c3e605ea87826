// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"context"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// checkOwners wants every object in ownerReferences to exist under its UID in the same
// namespace and to have the same owner: references steer what is collected, and what
// controllers count as theirs. References that are stored already are left alone.
func (a *Admitter) checkOwners(ctx context.Context, r *review, owner string) {
	before := map[types.UID]metav1.OwnerReference{}
	for _, reference := range ownerReferences(r.old) {
		before[reference.UID] = reference
	}
	for _, reference := range ownerReferences(r.object) {
		if was, stored := before[reference.UID]; stored && was.Kind == reference.Kind && was.Name == reference.Name &&
			was.APIVersion == reference.APIVersion {
			continue
		}
		found, err := a.findOwner(ctx, r.Namespace, reference)
		switch {
		case err != nil:
			r.cannotTell(err)
		case found == nil || found.Owner.UserID != owner:
			r.refuse("metadata.ownerReferences: %s %q: %s", reference.Kind, reference.Name, notYours)
		}
	}
}
