// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
)

// Issuer is an OpenID Connect provider whose tokens are accepted.
type Issuer struct {
	// URL is the provider's issuer URL, exactly as in its tokens.
	URL string
	// Audience MUST be among a token's audiences.
	Audience string
	// UsernameClaim holds the caller's name; default "sub".
	UsernameClaim string
	// UsernamePrefix is put before the name.
	UsernamePrefix string
	// RequiredClaims MUST be in a token with these values.
	RequiredClaims map[string]string
	// Groups, when not empty: a token MUST name at least one of them in
	// GroupsClaim, which defaults to "groups".
	Groups      []string
	GroupsClaim string
	// Client reaches the provider; it MUST have a timeout.
	Client *http.Client
	// RetryInterval bounds how often an unreachable provider is tried, and how often
	// tokens with unknown keys can make this program fetch the keys; default 10 s.
	RetryInterval time.Duration
}

// keysAge is how long keys are used without being fetched again.
const keysAge = time.Hour

// OIDC authenticates by bearer tokens of OpenID Connect providers. Providers are
// discovered when first needed, so that one that is down does not stop a start.
type OIDC struct{ issuers []*issuer }

type issuer struct {
	Issuer

	keys     keySource
	verifier *oidc.IDTokenVerifier
}

// NewOIDC checks the issuers' settings; it contacts none of them.
func NewOIDC(settings []Issuer) (*OIDC, error) {
	o := &OIDC{}
	for _, setting := range settings {
		if setting.URL == "" || setting.Audience == "" {
			return nil, errors.New("oidc: issuer and audience are required")
		}
		if setting.Client == nil || setting.Client.Timeout == 0 {
			return nil, fmt.Errorf("oidc: issuer %s: a client with a timeout is required", setting.URL)
		}
		setting.UsernameClaim = orDefault(setting.UsernameClaim, "sub")
		setting.GroupsClaim = orDefault(setting.GroupsClaim, "groups")
		known := &issuer{Issuer: setting, keys: keySource{
			issuer: setting.URL, client: setting.Client, retry: orDefault(setting.RetryInterval, 10*time.Second),
		}}
		known.verifier = oidc.NewVerifier(setting.URL, &known.keys, &oidc.Config{
			ClientID: setting.Audience,
			SupportedSigningAlgs: []string{
				oidc.RS256, oidc.RS384, oidc.RS512, oidc.PS256, oidc.PS384, oidc.PS512,
				oidc.ES256, oidc.ES384, oidc.ES512, oidc.EdDSA,
			},
		})
		o.issuers = append(o.issuers, known)
	}
	return o, nil
}

// Authenticate is an Authenticator.
func (o *OIDC) Authenticate(r *http.Request) (string, error) {
	token, err := bearer(r)
	if err != nil {
		return "", err
	}
	claimed := issuerOf(token)
	for _, known := range o.issuers {
		if known.URL == claimed {
			return known.authenticate(r.Context(), token)
		}
	}
	return "", fmt.Errorf("%w: no token of a known OpenID Connect issuer", ErrUnauthenticated)
}

// issuerOf reads who a token says it is from; the verifier checks that later.
func issuerOf(token string) string {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return ""
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return ""
	}
	var claims struct {
		Issuer string `json:"iss"`
	}
	if json.Unmarshal(payload, &claims) != nil {
		return ""
	}
	return claims.Issuer
}

func (i *issuer) authenticate(ctx context.Context, text string) (string, error) {
	// Asked first because the verifier does not tell "no keys" from "wrong key".
	if _, _, err := i.keys.current(ctx, keysAge); err != nil {
		return "", err
	}
	token, err := i.verifier.Verify(ctx, text)
	if err != nil {
		return "", fmt.Errorf("%w: issuer %s: %w", ErrUnauthenticated, i.URL, err)
	}
	claims := map[string]any{}
	if err := token.Claims(&claims); err != nil {
		return "", fmt.Errorf("%w: issuer %s: claims are not readable", ErrUnauthenticated, i.URL)
	}
	if err := i.admit(claims); err != nil {
		return "", fmt.Errorf("%w: issuer %s: %w", ErrUnauthenticated, i.URL, err)
	}
	name, _ := claims[i.UsernameClaim].(string)
	return i.UsernamePrefix + name, nil
}

// admit says why a genuine token is not accepted.
func (i *issuer) admit(claims map[string]any) error {
	for claim, want := range i.RequiredClaims {
		if got, _ := claims[claim].(string); got != want {
			return fmt.Errorf("claim %q has not the required value", claim)
		}
	}
	allowed := func(group string) bool { return slices.Contains(i.Groups, group) }
	if len(i.Groups) > 0 && !slices.ContainsFunc(texts(claims[i.GroupsClaim]), allowed) {
		return errors.New("the token is for none of the allowed groups")
	}
	if name, _ := claims[i.UsernameClaim].(string); name == "" {
		return fmt.Errorf("claim %q holds no name", i.UsernameClaim)
	}
	// An unverified address could be anybody's.
	if verified, told := claims["email_verified"].(bool); i.UsernameClaim == "email" && told && !verified {
		return errors.New("the e-mail address is not verified")
	}
	return nil
}

// texts reads a claim that is one text or a list of texts.
func texts(claim any) []string {
	if one, ok := claim.(string); ok {
		return []string{one}
	}
	list, _ := claim.([]any)
	found := make([]string, 0, len(list))
	for _, element := range list {
		if text, ok := element.(string); ok {
			found = append(found, text)
		}
	}
	return found
}

// keySource holds a provider's keys. It implements oidc.KeySet. Tokens with
// unknown keys are free to make, so they can cause one fetch per retry interval.
type keySource struct {
	issuer string
	client *http.Client
	retry  time.Duration

	fetching sync.Mutex // held while fetching, so that one caller does it for all

	mu      sync.Mutex
	keys    *oidc.StaticKeySet
	fetched time.Time
	tried   time.Time
	failure error
}

// VerifySignature checks a token's signature and returns its payload.
func (s *keySource) VerifySignature(ctx context.Context, token string) ([]byte, error) {
	keys, fetched, err := s.current(ctx, keysAge)
	if err != nil {
		return nil, err
	}
	payload, mismatch := keys.VerifySignature(ctx, token)
	if mismatch == nil {
		return payload, nil
	}
	// The provider may have new keys.
	newer, again, err := s.current(ctx, s.retry)
	if err != nil || again.Equal(fetched) {
		return nil, mismatch
	}
	return newer.VerifySignature(ctx, token)
}

// current returns keys fetched at most age ago, older ones when the provider
// cannot be asked, and an error only when there are none at all.
func (s *keySource) current(ctx context.Context, age time.Duration) (*oidc.StaticKeySet, time.Time, error) {
	if s.settled(age) {
		return s.result()
	}
	s.fetching.Lock()
	defer s.fetching.Unlock()
	if s.settled(age) {
		return s.result() // another request has fetched them meanwhile
	}
	// Everybody waits for this result, so the first caller must not cancel it.
	keys, err := s.fetch(context.WithoutCancel(ctx))
	s.mu.Lock()
	s.tried, s.failure = time.Now(), err
	if err == nil {
		s.keys, s.fetched = keys, s.tried
	}
	s.mu.Unlock()
	return s.result()
}

// settled reports whether there is nothing to fetch now.
func (s *keySource) settled(age time.Duration) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return (s.keys != nil && time.Since(s.fetched) < age) || time.Since(s.tried) < s.retry
}

func (s *keySource) result() (*oidc.StaticKeySet, time.Time, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.keys == nil {
		return nil, time.Time{}, fmt.Errorf("issuer %s cannot be asked for its keys: %w", s.issuer, s.failure)
	}
	return s.keys, s.fetched, nil
}
