// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/go-jose/go-jose/v4"
)

// maxKeys bounds a provider's key document.
const maxKeys = 1 << 20

// fetch discovers the provider and reads its keys.
func (s *keySource) fetch(ctx context.Context) (*oidc.StaticKeySet, error) {
	provider, err := oidc.NewProvider(oidc.ClientContext(ctx, s.client), s.issuer)
	if err != nil {
		return nil, fmt.Errorf("discovery: %w", err)
	}
	var document struct {
		Keys string `json:"jwks_uri"`
	}
	if err := provider.Claims(&document); err != nil {
		return nil, fmt.Errorf("discovery: %w", err)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, document.Keys, http.NoBody)
	if err != nil {
		return nil, fmt.Errorf("keys: %w", err)
	}
	answer, err := s.client.Do(request)
	if err != nil {
		return nil, fmt.Errorf("keys: %w", err)
	}
	defer func() { _ = answer.Body.Close() }()
	if answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("keys: provider answered %s", answer.Status)
	}
	body, err := io.ReadAll(io.LimitReader(answer.Body, maxKeys))
	if err != nil {
		return nil, fmt.Errorf("keys: %w", err)
	}
	return signingKeys(body)
}

func signingKeys(document []byte) (*oidc.StaticKeySet, error) {
	var set jose.JSONWebKeySet
	if err := json.Unmarshal(document, &set); err != nil {
		return nil, fmt.Errorf("keys: %w", err)
	}
	var keys []crypto.PublicKey
	for _, key := range set.Keys {
		if key.Use == "enc" || !key.Valid() {
			continue
		}
		// Anything else, such as a shared secret, verifies nothing.
		switch key.Key.(type) {
		case *rsa.PublicKey, *ecdsa.PublicKey, ed25519.PublicKey:
			keys = append(keys, key.Key)
		}
	}
	if len(keys) == 0 {
		return nil, errors.New("keys: the provider names no signing key")
	}
	return &oidc.StaticKeySet{PublicKeys: keys}, nil
}
