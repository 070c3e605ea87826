// SPDX-License-Identifier: Apache-2.0

package oidc

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/cloudveneto/caas/internal/logging"
	"github.com/cloudveneto/caas/multitenancy/tenant"
)

// Verifier verifies tokens of the configured providers. It is safe for concurrent use.
type Verifier struct {
	issuers map[string]*issuer
	now     func() time.Time
}

type issuer struct {
	Issuer

	keys    *keys
	checks  oidc.Config
	fetches *prometheus.CounterVec
}

// New checks the configuration. It asks no provider anything.
func New(cfg Config) (*Verifier, error) {
	if err := cfg.complete(); err != nil {
		return nil, fmt.Errorf("oidc: %w", err)
	}
	fetches := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "caas_authn_oidc_key_fetches_total",
		Help: "Times that an issuer was asked for its keys, by whether it gave them.",
	}, []string{"issuer", "result"})
	if cfg.Metrics != nil {
		if err := cfg.Metrics.Register(fetches); err != nil {
			return nil, fmt.Errorf("oidc metrics: %w", err)
		}
	}
	v := &Verifier{issuers: map[string]*issuer{}, now: cfg.Now}
	for _, one := range cfg.Issuers {
		known := &issuer{Issuer: one, fetches: fetches, checks: oidc.Config{
			// The audience is checked here, because there may be several.
			SkipClientIDCheck: true, SupportedSigningAlgs: one.Algorithms, Now: cfg.Now,
		}}
		known.keys = newKeys(&known.Issuer, cfg.Now, known.count)
		v.issuers[one.URL] = known
	}
	return v, nil
}

func (i *issuer) count(err error) {
	result := "ok"
	if err != nil {
		result = "failed"
	}
	i.fetches.WithLabelValues(i.URL, result).Inc()
}

// header is a token's, before it is verified.
type header struct {
	KeyID string `json:"kid"`
	Type  string `json:"typ"`
}

// Issuer is who a token says it is from, if that is one of the configured providers. It
// is not verified.
func (v *Verifier) Issuer(token string) (string, bool) {
	var said struct {
		Issuer string `json:"iss"`
	}
	if part(token, 1, &said) != nil {
		return "", false
	}
	_, known := v.issuers[said.Issuer]
	return said.Issuer, known
}

// Verify says whose token it is. A *tenant.RefusalError is the answer that it is nobody's who
// is accepted; any other error means that nobody could tell.
func (v *Verifier) Verify(ctx context.Context, token string) (tenant.Login, error) {
	name, known := v.Issuer(token)
	if !known {
		return tenant.Login{}, tenant.Refuse(ReasonIssuer, "the token is from no configured issuer")
	}
	from := v.issuers[name]
	var h header
	if part(token, 0, &h) != nil {
		return tenant.Login{}, tenant.Refuse(ReasonFormat, "the token's header is not readable")
	}
	set, err := from.keys.named(ctx, h.KeyID)
	if err != nil {
		return tenant.Login{}, err
	}
	if set == nil {
		return tenant.Login{}, tenant.Refuse(ReasonKey, "issuer %s has no such key", name)
	}
	verified, err := oidc.NewVerifier(name, set, &from.checks).Verify(ctx, token)
	if err != nil && h.KeyID == "" {
		// A provider that names no keys may have others by now.
		if newer := from.keys.newer(ctx, set); newer != nil {
			verified, err = oidc.NewVerifier(name, newer, &from.checks).Verify(ctx, token)
		}
	}
	if err != nil {
		// What the library says quotes claims that anybody may have written.
		return tenant.Login{}, tenant.Refuse(ReasonSignature, "the token is not genuine, or has expired")
	}
	c := claims{}
	if err := verified.Claims(&c); err != nil {
		return tenant.Login{}, tenant.Refuse(ReasonFormat, "the token's claims are not readable")
	}
	if err := from.admit(h, c, v.now()); err != nil {
		return tenant.Login{}, err
	}
	return from.login(c), nil
}

// part decodes one of a token's first two parts.
func part(token string, number int, into any) error {
	parts := strings.SplitN(token, ".", 4)
	if len(parts) != 3 {
		return tenant.Refuse(ReasonFormat, "not a signed JSON Web Token")
	}
	data, err := base64.RawURLEncoding.DecodeString(parts[number])
	if err != nil {
		return err
	}
	return json.Unmarshal(data, into)
}

// Run fetches keys before they are needed, until ctx is done.
func (v *Verifier) Run(ctx context.Context) error {
	var group errgroup.Group
	for _, one := range v.issuers {
		group.Go(func() error {
			one.follow(ctx)
			return nil
		})
	}
	return group.Wait()
}

// follow keeps the keys of one provider fresh, and asks a provider that does not answer
// more often.
func (i *issuer) follow(ctx context.Context) {
	failing := false
	for {
		_ = i.keys.refresh(ctx) // it fails only when ctx ends
		failure := i.keys.lastFailure()
		if failure != nil && !failing {
			logging.From(ctx).WarnContext(ctx, "issuer cannot be asked for its keys", "issuer", i.URL, "error", failure)
		}
		if failing && failure == nil {
			logging.From(ctx).InfoContext(ctx, "issuer gives its keys again", "issuer", i.URL)
		}
		failing = failure != nil
		pause := max(i.Refresh, i.MinRefresh)
		if failing {
			pause = i.MinRefresh
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
	}
}
