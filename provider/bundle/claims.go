// SPDX-License-Identifier: Apache-2.0

package bundle

import (
	"context"
	"errors"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/cloudveneto/caas/internal/interlink"
)

const kindClaim = "PersistentVolumeClaim"

// Claims says what is told of the claims that a pod uses.
type Claims int

const (
	// ClaimsNot tells nothing.
	ClaimsNot Claims = iota
	// ClaimsWanted tells what the far end may need to know.
	ClaimsWanted
	// ClaimsIfAllowed does so as far as this program may read claims.
	ClaimsIfAllowed
)

func newClaims(client kubernetes.Interface) *cache[corev1.PersistentVolumeClaim] {
	return &cache[corev1.PersistentVolumeClaim]{
		kind:    kindClaim,
		version: func(object *corev1.PersistentVolumeClaim) string { return object.ResourceVersion },
		kept:    map[string]keptObject[corev1.PersistentVolumeClaim]{},
		read: func(ctx context.Context, namespace, name string) (*corev1.PersistentVolumeClaim, error) {
			object, err := client.CoreV1().PersistentVolumeClaims(namespace).Get(ctx, name, metav1.GetOptions{})
			if object != nil {
				object.ManagedFields = nil
			}
			return object, err
		},
	}
}

// claims adds what the origin knows of the pod's claims. One that does not exist is
// left out: the far end decides whether the pod can do without.
func (b *build) claims(ctx context.Context) error {
	if b.options.Claims == ClaimsNot {
		return nil
	}
	for i := range b.request.Pod.Spec.Volumes {
		source := b.request.Pod.Spec.Volumes[i].PersistentVolumeClaim
		if source == nil || b.seen[kindClaim+"/"+source.ClaimName] {
			continue
		}
		b.seen[kindClaim+"/"+source.ClaimName] = true
		claim, err := b.collector.claims.get(ctx, b.origin.Namespace, source.ClaimName, "")
		var missing *MissingError
		switch {
		case err == nil:
			b.request.Claims = append(b.request.Claims, facts(claim))
		case errors.As(err, &missing):
		case b.options.Claims == ClaimsIfAllowed && apierrors.IsForbidden(err):
		default:
			return err
		}
	}
	return nil
}

func facts(claim *corev1.PersistentVolumeClaim) interlink.Claim {
	told := interlink.Claim{Name: claim.Name, AccessModes: claim.Spec.AccessModes}
	if claim.Spec.StorageClassName != nil {
		told.StorageClass = *claim.Spec.StorageClassName
	}
	if claim.Spec.VolumeMode != nil {
		told.VolumeMode = *claim.Spec.VolumeMode
	}
	if size, found := claim.Spec.Resources.Requests[corev1.ResourceStorage]; found {
		told.Size = &size
	}
	return told
}
