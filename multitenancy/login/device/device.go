// SPDX-License-Identifier: Apache-2.0

// Package device logs people in at an OpenID provider whose page they open in any browser, on
// this machine or another (RFC 8628), and renews what they get.
package device

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"golang.org/x/oauth2"

	"github.com/cloudveneto/caas/multitenancy/login/identity"
)

const (
	longestAnswer  = 1 << 20
	defaultTimeout = 15 * time.Second
)

// Config says which provider.
type Config struct {
	Issuer, ClientID string
	Scopes           []string
	// CA are PEM certificates of who may vouch for it, beside the system's.
	CA []byte
	// Timeout bounds each request; 15 s if it is 0.
	Timeout time.Duration
	// Now is time.Now if it is nil.
	Now func() time.Time
}

// Provider is an OpenID provider that has said where its pages are.
type Provider struct {
	cfg    Config
	oauth  oauth2.Config
	client *http.Client
	revoke string
	// proof tells that it knows PKCE.
	proof bool
}

// Tokens are what a login gives.
type Tokens struct {
	// ID is for the platform, Refresh to get the next one. Refresh may be empty.
	ID, Refresh identity.Secret
	// Subject is who it is, for the provider, and Name for people.
	Subject, Name string
	// Issued and Expires are the ID token's by this machine's clock.
	Issued, Expires time.Time
}

// Prompt is what a person has to do.
type Prompt struct {
	// URL is the page and Code what to enter there. Complete, when it is not empty, is a page that has the code.
	URL, Complete, Code string
	Expires             time.Time
}

// Discover asks a provider where its pages are.
func Discover(ctx context.Context, cfg Config) (*Provider, error) {
	if cfg.Timeout == 0 {
		cfg.Timeout = defaultTimeout
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	transport, err := identity.Transport(cfg.CA)
	if err != nil {
		return nil, &identity.Error{Kind: identity.Usage, Message: err.Error()}
	}
	p := &Provider{cfg: cfg, client: &http.Client{Transport: transport, Timeout: cfg.Timeout}}
	issuer := strings.TrimSuffix(cfg.Issuer, "/")
	if parsed, err := url.Parse(issuer); err != nil || parsed.Scheme != "https" && !loopback(parsed) || parsed.Host == "" {
		return nil, trouble(identity.Usage, "%q is no issuer; want https://…", cfg.Issuer)
	}
	var said struct {
		Issuer   string   `json:"issuer"`
		Token    string   `json:"token_endpoint"`
		Device   string   `json:"device_authorization_endpoint"`
		Revoke   string   `json:"revocation_endpoint"`
		PKCE     []string `json:"code_challenge_methods_supported"`
		AuthPage string   `json:"authorization_endpoint"`
	}
	if err := p.fetch(ctx, issuer+"/.well-known/openid-configuration", &said); err != nil {
		return nil, err
	}
	if strings.TrimSuffix(said.Issuer, "/") != issuer {
		return nil, trouble(identity.Network, "the provider at %s calls itself %s; use that as -issuer if it is right", cfg.Issuer, said.Issuer)
	}
	if said.Device == "" || said.Token == "" {
		return nil, trouble(identity.Network, "the provider %s offers no device login; ask the operator for another way", cfg.Issuer)
	}
	p.revoke, p.proof = said.Revoke, slices.Contains(said.PKCE, "S256")
	p.oauth = oauth2.Config{
		ClientID: cfg.ClientID, Scopes: cfg.Scopes,
		Endpoint: oauth2.Endpoint{AuthURL: said.AuthPage, TokenURL: said.Token, DeviceAuthURL: said.Device, AuthStyle: oauth2.AuthStyleInParams},
	}
	return p, nil
}

func loopback(address *url.URL) bool {
	return address.Scheme == "http" && slices.Contains([]string{"localhost", "127.0.0.1", "::1"}, address.Hostname())
}

func trouble(kind identity.Kind, format string, args ...any) error {
	return &identity.Error{Kind: kind, Message: fmt.Sprintf(format, args...)}
}

func (p *Provider) fetch(ctx context.Context, address string, into any) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, http.NoBody)
	if err != nil {
		return fmt.Errorf("make request: %w", err)
	}
	answer, err := p.client.Do(request)
	if err != nil {
		return identity.Unreachable("the OpenID provider", p.cfg.Issuer, err, p.cfg.Now())
	}
	defer func() { _ = answer.Body.Close() }()
	data, err := io.ReadAll(io.LimitReader(answer.Body, longestAnswer))
	if err != nil {
		return identity.Unreachable("the OpenID provider", p.cfg.Issuer, err, p.cfg.Now())
	}
	if answer.StatusCode != http.StatusOK || json.Unmarshal(data, into) != nil {
		return trouble(identity.Network, "%s is no OpenID provider (status %d); check the issuer", p.cfg.Issuer, answer.StatusCode)
	}
	return nil
}

func (p *Provider) context(ctx context.Context) context.Context {
	return context.WithValue(ctx, oauth2.HTTPClient, p.client)
}

// Login asks the provider for a code, shows it to the person, and waits until he has entered it.
func (p *Provider) Login(ctx context.Context, show func(Prompt)) (Tokens, error) {
	ctx = p.context(ctx)
	var begin, end []oauth2.AuthCodeOption
	if p.proof {
		verifier := oauth2.GenerateVerifier()
		begin = append(begin, oauth2.S256ChallengeOption(verifier))
		end = append(end, oauth2.VerifierOption(verifier))
	}
	asked, err := p.oauth.DeviceAuth(ctx, begin...)
	if err != nil {
		return Tokens{}, p.explain(ctx, "begin the login", err)
	}
	show(Prompt{URL: asked.VerificationURI, Complete: asked.VerificationURIComplete, Code: asked.UserCode, Expires: asked.Expiry})
	given, err := p.oauth.DeviceAccessToken(ctx, asked, end...)
	if err != nil && !asked.Expiry.IsZero() && !time.Now().Before(asked.Expiry) {
		return Tokens{}, late()
	}
	if err != nil {
		return Tokens{}, p.explain(ctx, "log in", err)
	}
	return p.tokens(given, "")
}

// Refresh gets the next tokens. The refresh token may be another one afterwards.
func (p *Provider) Refresh(ctx context.Context, refresh identity.Secret) (Tokens, error) {
	old := &oauth2.Token{RefreshToken: string(refresh), Expiry: time.Unix(1, 0)}
	given, err := p.oauth.TokenSource(p.context(ctx), old).Token()
	if err != nil {
		return Tokens{}, p.explain(ctx, "renew the token", err)
	}
	return p.tokens(given, refresh)
}

// Revoke ends a refresh token. A provider that cannot is no error: there is nothing to be done.
func (p *Provider) Revoke(ctx context.Context, refresh identity.Secret) error {
	if p.revoke == "" || refresh == "" {
		return nil
	}
	form := url.Values{"token": {string(refresh)}, "token_type_hint": {"refresh_token"}, "client_id": {p.cfg.ClientID}}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, p.revoke, strings.NewReader(form.Encode()))
	if err != nil {
		return fmt.Errorf("make request: %w", err)
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	answer, err := p.client.Do(request)
	if err != nil {
		return identity.Unreachable("the OpenID provider", p.cfg.Issuer, err, p.cfg.Now())
	}
	_ = answer.Body.Close()
	if answer.StatusCode/100 != 2 {
		return trouble(identity.Network, "the OpenID provider %s did not revoke the login (status %d)", p.cfg.Issuer, answer.StatusCode)
	}
	return nil
}

// tokens are what a provider has given.
func (p *Provider) tokens(given *oauth2.Token, refresh identity.Secret) (Tokens, error) {
	raw, _ := given.Extra("id_token").(string)
	if raw == "" {
		return Tokens{}, trouble(identity.Network, "the OpenID provider %s gave no ID token; does the client have the scope openid?", p.cfg.Issuer)
	}
	// The token comes from the provider itself, by TLS; whoever accepts it verifies its signature.
	parts := strings.Split(raw, ".")
	var claims struct {
		Subject  string `json:"sub"`
		Name     string `json:"preferred_username"`
		Mail     string `json:"email"`
		Expires  int64  `json:"exp"`
		IssuedAt int64  `json:"iat"`
	}
	if len(parts) != 3 || decode(parts[1], &claims) != nil || claims.Subject == "" || claims.Expires <= claims.IssuedAt {
		return Tokens{}, trouble(identity.Network, "the OpenID provider %s gave an ID token that cannot be read", p.cfg.Issuer)
	}
	if given.RefreshToken != "" {
		refresh = identity.Secret(given.RefreshToken)
	}
	now := p.cfg.Now()
	tokens := Tokens{
		ID: identity.Secret(raw), Refresh: refresh, Subject: claims.Subject, Name: claims.Subject,
		Issued: now, Expires: now.Add(time.Duration(claims.Expires-claims.IssuedAt) * time.Second),
	}
	for _, name := range []string{claims.Mail, claims.Name} {
		if name != "" {
			tokens.Name = name
		}
	}
	return tokens, nil
}

func decode(part string, into any) error {
	data, err := base64.RawURLEncoding.DecodeString(part)
	if err != nil {
		return err
	}
	return json.Unmarshal(data, into)
}

// late is that a code has expired.
func late() error {
	return trouble(identity.Unauthorized, "nobody has entered the code in time; log in again")
}

// explain says what a provider's refusal means. A context that has ended by its deadline is a code that nobody entered; a
// request's own time that was over is a provider that is slow, which says nothing about the login.
func (p *Provider) explain(ctx context.Context, doing string, err error) error {
	refusal, ok := errors.AsType[*oauth2.RetrieveError](err)
	if !ok {
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return late()
		}
		return identity.Unreachable("the OpenID provider", p.cfg.Issuer, err, p.cfg.Now())
	}
	switch refusal.ErrorCode {
	case "invalid_grant":
		return trouble(identity.Unauthorized, "the OpenID provider does not renew the login any more; log in again: kubectl openstack -oidc")
	case "access_denied":
		return trouble(identity.Unauthorized, "the login was refused in the browser")
	case "expired_token":
		return late()
	case "invalid_client", "unauthorized_client":
		return trouble(identity.Usage, "the OpenID provider %s does not know the client %q, or not for device logins", p.cfg.Issuer, p.cfg.ClientID)
	case "":
		return trouble(identity.Unavailable, "%s: the OpenID provider %s answered with status %d", doing, p.cfg.Issuer, refusal.Response.StatusCode)
	default:
		return trouble(identity.Network, "%s: the OpenID provider %s says %s", doing, p.cfg.Issuer, refusal.ErrorCode)
	}
}
