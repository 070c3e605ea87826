// SPDX-License-Identifier: Apache-2.0

package authn

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cloudveneto/caas/internal/httpserver"
	"github.com/cloudveneto/caas/internal/logging"
	"github.com/cloudveneto/caas/multitenancy/tenant"
)

// Verifier knows the tokens of one kind of identity provider.
type Verifier interface {
	// Verify says whose token it is. A *tenant.RefusalError is the answer no; any other error
	// means that nobody could tell. It MUST end soon after ctx.
	Verify(ctx context.Context, token string) (tenant.Login, error)
}

// Issuers are OpenID providers.
type Issuers interface {
	Verifier

	// Issuer says whether the token claims to be from one of them. It asks nobody.
	Issuer(token string) (string, bool)
}

// Config says who is asked. At least one of Keystone and OIDC is required.
type Config struct {
	Keystone Verifier
	OIDC     Issuers
	// KeystoneJWS and KeystoneUUID let Keystone's tokens have these formats too.
	KeystoneJWS, KeystoneUUID bool
	// Audiences are those of the API server that answers name when they are asked for.
	Audiences []string
	// Timeout is how long one review may take; 8 s when zero.
	Timeout time.Duration
	// Seen, when not nil, is told of each project that an accepted login is good for. It MUST NOT wait.
	Seen func(project tenant.Project)
	// Metrics, when not nil, registers what is counted.
	Metrics prometheus.Registerer
}

// Handler answers TokenReviews. It is safe for concurrent use.
type Handler struct {
	cfg     Config
	metrics *metrics
}

// New checks the configuration.
func New(cfg Config) (*Handler, error) {
	if cfg.Keystone == nil && cfg.OIDC == nil {
		return nil, errors.New("authn: neither keystone nor an OpenID provider is configured")
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = 8 * time.Second
	}
	counted, err := newMetrics(cfg.Metrics)
	if err != nil {
		return nil, err
	}
	return &Handler{cfg: cfg, metrics: counted}, nil
}

// longestReview has room for the longest token and many audiences.
const longestReview = 64 << 10

// ServeHTTP answers one TokenReview. Anything but a well-formed one is refused with 400.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	began := time.Now()
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, longestReview))
	if err != nil {
		code, why := httpserver.BodyError(err)
		http.Error(w, why, code)
		return
	}
	asked, err := decode(body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	status, result := h.review(r.Context(), asked.Spec)
	h.metrics.observe(result, time.Since(began))
	h.answer(w, r, asked.TypeMeta, status)
}

func (h *Handler) answer(w http.ResponseWriter, r *http.Request, of metav1.TypeMeta, status authenticationv1.TokenReviewStatus) {
	body, err := json.Marshal(reply{TypeMeta: of, Status: status})
	if err != nil {
		logging.From(r.Context()).ErrorContext(r.Context(), "review cannot be answered", "error", err)
		http.Error(w, "internal error", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write(body) // the API server has gone, and nothing else can be told
}

// review decides about a token.
func (h *Handler) review(ctx context.Context, spec authenticationv1.TokenReviewSpec) (authenticationv1.TokenReviewStatus, outcome) {
	ctx, cancel := context.WithTimeout(ctx, h.cfg.Timeout)
	defer cancel()
	login, provider, err := h.verify(ctx, spec.Token)
	var user tenant.User
	if err == nil {
		user, err = login.User()
	}
	refusal, isRefusal := tenant.Refused(err)
	switch {
	case isRefusal:
		// Anybody can cause this as often as he likes.
		logging.From(ctx).DebugContext(ctx, "token refused", "provider", provider, "reason", refusal.Reason, "detail", refusal.Detail)
		return refused(), outcome{provider: provider, result: resultRefused, reason: refusal.Reason}
	case err != nil:
		logging.From(ctx).WarnContext(ctx, "token cannot be verified", "provider", provider, "error", err)
		return unknown(), outcome{provider: provider, result: resultFailed}
	default:
		h.seen(login)
		logging.From(ctx).DebugContext(ctx, "token accepted", "provider", provider, "user", user.Name, "uid", user.UID, "token", login.TokenID)
		return accepted(user, common(spec.Audiences, h.cfg.Audiences)), outcome{provider: provider, result: resultAccepted}
	}
}

func (h *Handler) seen(login tenant.Login) {
	if h.cfg.Seen == nil {
		return
	}
	for _, member := range login.Memberships {
		h.cfg.Seen(member.Project)
	}
}

// Reasons of refusals that need no provider.
const (
	reasonShape    = "shape"
	reasonIssuer   = "issuer"
	reasonDisabled = "disabled"
)

// verify asks the one who can know. Tokens that nobody can know, such as expired ones of
// ServiceAccounts, of which there are many, end here.
func (h *Handler) verify(ctx context.Context, token string) (login tenant.Login, provider string, err error) {
	switch h.shapeOf(token) {
	case shapeKeystone:
		if h.cfg.Keystone == nil {
			return tenant.Login{}, providerNone, tenant.Refuse(reasonDisabled, "keystone's tokens are not accepted here")
		}
		login, err = h.cfg.Keystone.Verify(ctx, token)
		return login, tenant.AuthKeystone, wrap(tenant.AuthKeystone, err)
	case shapeJWT:
		if h.cfg.OIDC == nil {
			return tenant.Login{}, providerNone, tenant.Refuse(reasonDisabled, "no OpenID provider's tokens are accepted here")
		}
		if _, known := h.cfg.OIDC.Issuer(token); !known {
			return tenant.Login{}, providerNone, tenant.Refuse(reasonIssuer, "the token is from no configured issuer")
		}
		login, err = h.cfg.OIDC.Verify(ctx, token)
		return login, tenant.AuthOIDC, wrap(tenant.AuthOIDC, err)
	case shapeNone:
	}
	return tenant.Login{}, providerNone, tenant.Refuse(reasonShape, "no token of a known kind")
}

func wrap(provider string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", provider, err)
}
