// SPDX-License-Identifier: Apache-2.0

package oidc

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
	"net/url"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/go-jose/go-jose/v4"
)

const (
	// maxAge is how long keys are used of a provider that cannot be asked for newer ones,
	// as the WLCG profile has it.
	maxAge = 4 * 24 * time.Hour
	// retryFirst is how soon a provider is asked again that has never answered.
	retryFirst      = 10 * time.Second
	fetchTimeout    = 5 * time.Second
	longestDocument = 1 << 20
	mostKeys        = 100
	mostRedirects   = 3
)

// keys are those of a provider.
type keys struct {
	issuer   *Issuer
	client   *http.Client
	now      func() time.Time
	observed func(error)

	// fetching lets one fetch for all. Whoever waits for it has a deadline.
	fetching chan struct{}

	mu      sync.Mutex
	known   *keyring
	fetched time.Time // of known
	tried   time.Time
	failure error // of the last try
}

// keyring is what a provider's document says.
type keyring struct {
	all   oidc.StaticKeySet
	named map[string]oidc.StaticKeySet
}

func newKeys(issuer *Issuer, now func() time.Time, observed func(error)) *keys {
	k := &keys{issuer: issuer, now: now, observed: observed, fetching: make(chan struct{}, 1)}
	k.client = &http.Client{Transport: issuer.Transport, Timeout: fetchTimeout, CheckRedirect: k.checkRedirect}
	return k
}

func (k *keys) checkRedirect(request *http.Request, before []*http.Request) error {
	if len(before) > mostRedirects || !k.secure(request.URL) {
		return errors.New("the provider redirects too often, or to where there is no TLS")
	}
	return nil
}

func (k *keys) secure(address *url.URL) bool {
	return address.Scheme == "https" || address.Scheme == "http" && k.issuer.InsecureHTTP
}

// named finds the key of a token by its name, or all keys for a token that names none.
// It fetches them if there is none of that name, but not often. None is an answer; an
// error is that the provider cannot be asked.
func (k *keys) named(ctx context.Context, name string) (*oidc.StaticKeySet, error) {
	ring, age := k.current()
	if set := ring.find(name); set != nil && age < maxAge {
		return set, nil
	}
	if err := k.refresh(ctx); err != nil {
		return nil, err
	}
	ring, age = k.current()
	if ring == nil || age >= maxAge {
		return nil, fmt.Errorf("issuer %s cannot be asked for its keys: %w", k.issuer.URL, k.lastFailure())
	}
	set := ring.find(name)
	if failure := k.lastFailure(); set == nil && failure != nil {
		return nil, fmt.Errorf("issuer %s cannot be asked for newer keys: %w", k.issuer.URL, failure)
	}
	return set, nil
}

// newer are all keys, if they are others than those that did not fit.
func (k *keys) newer(ctx context.Context, old *oidc.StaticKeySet) *oidc.StaticKeySet {
	if k.refresh(ctx) != nil {
		return nil
	}
	ring, age := k.current()
	if set := ring.find(""); age < maxAge && set != old {
		return set
	}
	return nil
}

func (r *keyring) find(name string) *oidc.StaticKeySet {
	switch {
	case r == nil:
		return nil
	case name == "":
		return &r.all
	default:
		if set, found := r.named[name]; found {
			return &set
		}
		return nil
	}
}

func (k *keys) current() (*keyring, time.Duration) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.known, k.now().Sub(k.fetched)
}

func (k *keys) lastFailure() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.failure
}

// due tells that the provider may be asked again.
func (k *keys) due() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	pause := k.issuer.MinRefresh
	if k.known == nil {
		pause = min(pause, retryFirst)
	}
	return k.tried.IsZero() || k.now().Sub(k.tried) >= pause
}

// refresh fetches the keys if that is due. It fails only with its context: what became of
// the fetch is remembered.
func (k *keys) refresh(ctx context.Context) error {
	if !k.due() {
		return nil
	}
	select {
	case k.fetching <- struct{}{}:
		defer func() { <-k.fetching }()
	case <-ctx.Done():
		return fmt.Errorf("wait for keys of issuer %s: %w", k.issuer.URL, ctx.Err())
	}
	if !k.due() {
		return nil // another has fetched them meanwhile
	}
	// Others wait for the result too, so the one who asked first must not cancel it.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*fetchTimeout)
	defer cancel()
	ring, err := k.fetch(ctx)
	k.observed(err)
	k.mu.Lock()
	defer k.mu.Unlock()
	k.tried, k.failure = k.now(), err
	if err == nil {
		k.known, k.fetched = ring, k.tried
	}
	return nil
}

// fetch discovers the provider, which may have moved its keys, and reads them.
func (k *keys) fetch(ctx context.Context) (*keyring, error) {
	provider, err := oidc.NewProvider(oidc.ClientContext(ctx, k.client), k.issuer.URL)
	if err != nil {
		return nil, fmt.Errorf("discovery: %w", err)
	}
	var document struct {
		Keys string `json:"jwks_uri"`
	}
	if err := provider.Claims(&document); err != nil {
		return nil, fmt.Errorf("discovery: %w", err)
	}
	address, err := url.Parse(document.Keys)
	if err != nil || !k.secure(address) {
		return nil, fmt.Errorf("discovery: jwks_uri %q is not usable", document.Keys)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address.String(), http.NoBody)
	if err != nil {
		return nil, fmt.Errorf("keys: %w", err)
	}
	answer, err := k.client.Do(request)
	if err != nil {
		return nil, fmt.Errorf("keys: %w", err)
	}
	defer func() { _ = answer.Body.Close() }()
	if answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("keys: the provider answers %s", answer.Status)
	}
	body, err := io.ReadAll(io.LimitReader(answer.Body, longestDocument+1))
	if err != nil || len(body) > longestDocument {
		return nil, errors.Join(errors.New("keys: the document is cut or too long"), err)
	}
	return readKeys(body)
}

func readKeys(body []byte) (*keyring, error) {
	var document struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(body, &document); err != nil {
		return nil, fmt.Errorf("keys: %w", err)
	}
	if len(document.Keys) > mostKeys {
		return nil, fmt.Errorf("keys: %d are too many", len(document.Keys))
	}
	ring := &keyring{named: map[string]oidc.StaticKeySet{}}
	for _, raw := range document.Keys {
		var key jose.JSONWebKey
		// One of a kind that is not known here must not hide the others.
		if json.Unmarshal(raw, &key) != nil || !usable(&key) {
			continue
		}
		ring.all.PublicKeys = append(ring.all.PublicKeys, crypto.PublicKey(key.Key))
		if key.KeyID != "" {
			set := ring.named[key.KeyID]
			set.PublicKeys = append(set.PublicKeys, crypto.PublicKey(key.Key))
			ring.named[key.KeyID] = set
		}
	}
	if len(ring.all.PublicKeys) == 0 {
		return nil, errors.New("keys: the provider names no key for signatures")
	}
	return ring, nil
}

// usable leaves out shared secrets, keys for encryption and what is too weak.
func usable(key *jose.JSONWebKey) bool {
	if !key.Valid() || !key.IsPublic() || key.Use != "" && key.Use != "sig" {
		return false
	}
	switch public := key.Key.(type) {
	case *rsa.PublicKey:
		return public.N.BitLen() >= 2048
	case *ecdsa.PublicKey, ed25519.PublicKey:
		return true
	default:
		return false
	}
}
