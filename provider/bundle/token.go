// SPDX-License-Identifier: Apache-2.0

package bundle

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const kindServiceAccount = "ServiceAccount"

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
		return &MissingError{Kind: kindServiceAccount, Namespace: b.origin.Namespace, Name: account}
	}
	if err != nil {
		return fmt.Errorf("request token of ServiceAccount %s/%s: %w", b.origin.Namespace, account, err)
	}
	content[source.Path] = []byte(answer.Status.Token)
	if at := refreshTime(answer); !at.IsZero() && (b.refreshAt.IsZero() || at.Before(b.refreshAt)) {
		b.refreshAt = at
	}
	return nil
}

const (
	// refreshLatest is the part of a token's life after which it is replaced at the
	// latest; refreshSpread is how much sooner, at most, so that the tokens of pods that
	// were created together are not replaced together.
	refreshLatest = 0.8
	refreshSpread = 0.1
	// refreshDaily is how long a token is used at most, as with a kubelet.
	refreshDaily = 24 * time.Hour
)

// refreshTime is when a token has to be replaced; zero when the answer does not say.
func refreshTime(answer *authenticationv1.TokenRequest) time.Time {
	expires := answer.Status.ExpirationTimestamp.Time
	if expires.IsZero() || answer.Spec.ExpirationSeconds == nil {
		return time.Time{}
	}
	life := time.Duration(*answer.Spec.ExpirationSeconds) * time.Second
	issued := expires.Add(-life)
	part := refreshLatest - refreshSpread*rand.Float64() //nolint:gosec // jitter is no secret
	return issued.Add(min(time.Duration(part*float64(life)), time.Duration(part/refreshLatest*float64(refreshDaily))))
}
