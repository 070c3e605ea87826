// SPDX-License-Identifier: Apache-2.0

package apply

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/cloudveneto/caas/internal/logging"
	"github.com/cloudveneto/caas/sidecar/plugin/translate"
)

// claims makes the claims that the pod uses, or takes those that were made for another
// pod that uses the same claim at the origin. The pod exists already and its label
// names them, so whoever looks for claims without pods finds it: see package claims.
func (a *Applier) claims(ctx context.Context, namespace string, wanted []*corev1.PersistentVolumeClaim) error {
	for _, claim := range wanted {
		claim = claim.DeepCopy()
		claim.Namespace = namespace
		err := a.claim(ctx, claim)
		for attempt := 1; attempt < maxConflicts && conflicting(err); attempt++ {
			rest(ctx, time.Duration(attempt)*conflictPause)
			err = a.claim(ctx, claim)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// conflicting tells that somebody else changed an object between its read and its change.
func conflicting(err error) bool {
	var failure *ClusterError
	return errors.As(err, &failure) && apierrors.IsConflict(failure.Err)
}

func (a *Applier) claim(ctx context.Context, wanted *corev1.PersistentVolumeClaim) error {
	client := a.config.Client.CoreV1().PersistentVolumeClaims(wanted.Namespace)
	operation := "create " + quoted("persistentvolumeclaim", wanted.Namespace, wanted.Name)
	existing, err := client.Get(ctx, wanted.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		existing, err = client.Create(ctx, wanted, metav1.CreateOptions{})
		if err == nil {
			a.config.ClaimCreated()
			logging.From(ctx).InfoContext(ctx, "claim created", "namespace", wanted.Namespace, "claim", wanted.Name,
				"originClaim", wanted.Annotations[translate.AnnotationNamespace]+"/"+wanted.Annotations[translate.AnnotationName],
				"retention", wanted.Labels[translate.LabelRetention])
			return nil
		}
	}
	if apierrors.IsAlreadyExists(err) {
		existing, err = client.Get(ctx, wanted.Name, metav1.GetOptions{})
	}
	if err != nil {
		return failure(operation, err)
	}
	if !sameClaim(existing, wanted) {
		return &ClusterError{
			Final:    true,
			Sentence: operation + ": the name is taken by a claim that the sidecar did not make for this one of the origin; it is left as it is",
		}
	}
	if existing.DeletionTimestamp != nil {
		return &ClusterError{Sentence: operation + ": the claim of that name is being deleted, and is made anew when it has gone"}
	}
	return a.keepClaim(ctx, existing, wanted)
}

// sameClaim tells whether a claim was made for the same one of the same origin.
func sameClaim(existing, wanted *corev1.PersistentVolumeClaim) bool {
	for _, key := range []string{translate.LabelManagedBy, translate.LabelOrigin, translate.LabelClaim} {
		if existing.Labels[key] != wanted.Labels[key] {
			return false
		}
	}
	return true
}

// keepClaim takes away the mark that no pod uses the claim, and has it kept as the policy
// says now. Its version goes along, and changes by that: a deletion for want of pods
// that was decided before this pod came into being fails.
func (a *Applier) keepClaim(ctx context.Context, existing, wanted *corev1.PersistentVolumeClaim) error {
	_, marked := existing.Annotations[translate.AnnotationUnusedSince]
	retention, grace := wanted.Labels[translate.LabelRetention], wanted.Annotations[translate.AnnotationGrace]
	if !marked && existing.Labels[translate.LabelRetention] == retention && existing.Annotations[translate.AnnotationGrace] == grace {
		return nil
	}
	annotations := map[string]any{translate.AnnotationUnusedSince: nil, translate.AnnotationGrace: nil}
	if grace != "" {
		annotations[translate.AnnotationGrace] = grace
	}
	operation := "keep " + quoted("persistentvolumeclaim", existing.Namespace, existing.Name)
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{
		"uid": existing.UID, "resourceVersion": existing.ResourceVersion,
		"labels": map[string]any{translate.LabelRetention: retention}, "annotations": annotations,
	}})
	if err != nil {
		return fmt.Errorf("%s: encode: %w", operation, err)
	}
	_, err = a.config.Client.CoreV1().PersistentVolumeClaims(existing.Namespace).
		Patch(ctx, existing.Name, types.MergePatchType, patch, metav1.PatchOptions{})
	return failure(operation, err)
}
