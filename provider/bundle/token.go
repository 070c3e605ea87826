// SPDX-License-Identifier: Apache-2.0

package bundle

import (
	"context"
	"errors"
	"fmt"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// about is the kind of object that an API error is about. A token request also
// answers "not found" while the API server's own cache has not seen the pod yet,
// which passes.
func about(err error) string {
	var status apierrors.APIStatus
	if !errors.As(err, &status) || status.Status().Details == nil {
		return ""
	}
	return status.Status().Details.Kind
}

// token requests a token of the pod's ServiceAccount, as the volume asks for it.
// It is bound to the pod: it dies with the pod's object at the origin.
func (b *build) token(ctx context.Context, content files, source *corev1.ServiceAccountTokenProjection) error {
	account := b.origin.Spec.ServiceAccountName
	if account == "" {
		account = "default"
	}
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{
		ExpirationSeconds: source.ExpirationSeconds,
		BoundObjectRef: &authenticationv1.BoundObjectReference{
			APIVersion: "v1", Kind: "Pod", Name: b.origin.Name, UID: b.origin.UID,
		},
	}}
	if source.Audience != "" {
		request.Spec.Audiences = []string{source.Audience}
	}
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	answer, err := b.collector.cfg.Client.CoreV1().ServiceAccounts(b.origin.Namespace).
		CreateToken(ctx, account, request, metav1.CreateOptions{})
	if apierrors.IsNotFound(err) && about(err) == "serviceaccounts" {
		return &MissingError{Kind: "ServiceAccount", Namespace: b.origin.Namespace, Name: account}
	}
	if err != nil {
		return fmt.Errorf("request token of ServiceAccount %s/%s: %w", b.origin.Namespace, account, err)
	}
	content[source.Path] = []byte(answer.Status.Token)
	return nil
}
