// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"math/big"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	osnodev1 "github.com/cloudveneto/caas/osnode/api/v1"
)

const (
	// labelUID, labelNamespace and labelName are on token Secrets and say whose they are.
	labelUID       = "osn.infn.it/uid"
	labelNamespace = "osn.infn.it/namespace"
	labelName      = "osn.infn.it/name"

	tokenPrefix  = "bootstrap-token-"
	tokenGroup   = "system:bootstrappers:osn"
	idLength     = 6
	secretLength = 16
	tokenProbes  = 16
	alphabet     = "0123456789abcdefghijklmnopqrstuvwxyz"

	// Keys of a bootstrap token's Secret.
	keyTokenID     = "token-id"
	keyTokenSecret = "token-secret"
	keyExpiration  = "expiration"
)

// TokenID is the public part of the bootstrap token of an object, if the probes before
// are in use by others. It follows from the UID, so that a crash cannot mint two.
func TokenID(uid types.UID, probe int) string {
	text := string(uid)
	if probe > 0 {
		text = fmt.Sprintf("%s/%d", uid, probe)
	}
	sum := sha256.Sum256([]byte(text))
	number, base := new(big.Int).SetBytes(sum[:]), big.NewInt(int64(len(alphabet)))
	id := make([]byte, idLength)
	for i := range id {
		digit := new(big.Int)
		number.DivMod(number, base, digit)
		id[i] = alphabet[digit.Int64()]
	}
	return string(id)
}

// token makes the Secret that lets the machine join, and names it on the object.
func (r *Reconciler) token(ctx context.Context, p *pass) (flow, error) {
	secret, err := r.tokenSecret(ctx, p)
	if err != nil {
		return stop, err
	}
	if err := r.patch(ctx, p, func(osn *osnodev1.OpenStackNode) {
		if osn.Labels == nil {
			osn.Labels = map[string]string{}
		}
		osn.Labels[osnodev1.LabelSecret] = secret.Name
	}); err != nil {
		return stop, err
	}
	r.fill(&p.osn.Spec, p.settings)
	if err := r.extend(ctx, p); err != nil {
		return stop, err
	}
	p.set(osnodev1.ConditionBootstrapTokenRevoked, metav1.ConditionFalse, osnodev1.ReasonTokenValid,
		"The virtual machine has a token to join with")
	return goOn, nil
}

func (r *Reconciler) tokenSecret(ctx context.Context, p *pass) (*corev1.Secret, error) {
	for probe := range tokenProbes {
		id := TokenID(p.osn.UID, probe)
		secret := &corev1.Secret{}
		err := r.Reader.Get(ctx, tokenKey(tokenPrefix+id), secret)
		if apierrors.IsNotFound(err) {
			secret, err = r.mint(ctx, p, id)
		}
		if err != nil {
			return nil, fmt.Errorf("bootstrap token Secret: %w", err)
		}
		if secret.Labels[labelUID] == string(p.osn.UID) {
			return secret, nil
		}
	}
	return nil, fmt.Errorf("bootstrap token Secret: %d names are in use by others", tokenProbes)
}

func tokenKey(name string) types.NamespacedName {
	return types.NamespacedName{Namespace: metav1.NamespaceSystem, Name: name}
}

// mint makes the Secret. The token authenticates, and may do nothing but ask for a
// certificate; it signs no cluster-info.
func (r *Reconciler) mint(ctx context.Context, p *pass, id string) (*corev1.Secret, error) {
	until := r.tokenUntil()
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: metav1.NamespaceSystem, Name: tokenPrefix + id,
			Labels: map[string]string{
				labelUID: string(p.osn.UID), labelNamespace: p.osn.Namespace, labelName: p.osn.Name,
			},
		},
		Type: corev1.SecretTypeBootstrapToken,
		StringData: map[string]string{
			keyTokenID:                       id,
			keyTokenSecret:                   randomText(secretLength),
			keyExpiration:                    until.UTC().Format(time.RFC3339),
			"usage-bootstrap-authentication": "true",
			"auth-extra-groups":              tokenGroup + "," + tokenGroup + ":" + string(p.osn.UID),
			"description":                    fmt.Sprintf("OpenStackNode %s/%s", p.osn.Namespace, p.osn.Name),
		},
	}
	if err := r.Client.Create(ctx, secret); err != nil {
		return nil, err
	}
	r.remember(p.osn.UID, func(m *memory) { m.tokenUntil = until })
	return secret, nil
}

func (r *Reconciler) tokenUntil() time.Time {
	return r.Clock().Add(r.Timers.Create + r.Timers.Join + r.Timers.TokenMargin)
}

// randomText has about 5 bits a character from the system's source of randomness.
func randomText(length int) string {
	var text strings.Builder
	for text.Len() < length {
		text.WriteString(strings.ToLower(rand.Text()))
	}
	return text.String()[:length]
}

// bootstrapToken reads the token, for the user data and for nothing else.
func (r *Reconciler) bootstrapToken(ctx context.Context, p *pass) (string, error) {
	secret := &corev1.Secret{}
	if err := r.Reader.Get(ctx, tokenKey(p.osn.Labels[osnodev1.LabelSecret]), secret); err != nil {
		return "", fmt.Errorf("bootstrap token: %w", err)
	}
	return string(secret.Data[keyTokenID]) + "." + string(secret.Data[keyTokenSecret]), nil
}

// extend keeps the token valid for as long as the machine may yet join: one that boots
// slowly must not find it expired.
func (r *Reconciler) extend(ctx context.Context, p *pass) error {
	name, until := p.osn.Labels[osnodev1.LabelSecret], r.remember(p.osn.UID, nil).tokenUntil
	if name == "" || until.Sub(p.now) > r.Timers.Join {
		return nil
	}
	secret := &corev1.Secret{}
	if err := r.Reader.Get(ctx, tokenKey(name), secret); err != nil {
		return client.IgnoreNotFound(err)
	}
	if secret.Labels[labelUID] != string(p.osn.UID) {
		return nil
	}
	written, err := time.Parse(time.RFC3339, string(secret.Data[keyExpiration]))
	if err != nil || written.Sub(p.now) <= r.Timers.Join {
		written = r.tokenUntil()
		before := secret.DeepCopy()
		secret.Data[keyExpiration] = []byte(written.UTC().Format(time.RFC3339))
		if err := r.Client.Patch(ctx, secret, client.MergeFrom(before)); client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("extend bootstrap token: %w", err)
		}
	}
	r.remember(p.osn.UID, func(m *memory) { m.tokenUntil = written })
	return nil
}

// revoke deletes the token's Secret. The label stays, so that people see what it was.
func (r *Reconciler) revoke(ctx context.Context, p *pass) error {
	if isTrue(p.osn, osnodev1.ConditionBootstrapTokenRevoked) {
		return nil
	}
	name := p.osn.Labels[osnodev1.LabelSecret]
	if name == "" {
		name = tokenPrefix + TokenID(p.osn.UID, 0) // a pass may have ended before the label was written
	}
	if strings.HasPrefix(name, tokenPrefix) {
		secret := &corev1.Secret{}
		err := r.Reader.Get(ctx, tokenKey(name), secret)
		if err == nil && secret.Labels[labelUID] == string(p.osn.UID) {
			err = r.Client.Delete(ctx, secret)
		}
		if client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("revoke bootstrap token: %w", err)
		}
	}
	r.remember(p.osn.UID, func(m *memory) { m.tokenUntil = time.Time{} })
	p.set(osnodev1.ConditionBootstrapTokenRevoked, metav1.ConditionTrue, osnodev1.ReasonTokenRevoked,
		"The token to join with is no longer valid")
	return nil
}
