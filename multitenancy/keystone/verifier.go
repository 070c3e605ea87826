// SPDX-License-Identifier: Apache-2.0

package keystone

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"time"

	"golang.org/x/sync/singleflight"
	"golang.org/x/time/rate"

	"github.com/cloudveneto/caas/internal/logging"
	"github.com/cloudveneto/caas/multitenancy/tenant"
)

const (
	// sessions is how many first logins are remembered for Rules.MaxSession.
	sessions = 100_000
	// sessionMemory is for how long at least.
	sessionMemory = 30 * 24 * time.Hour
)

// Verifier verifies tokens of one Keystone. It is safe for concurrent use.
type Verifier struct {
	cfg     Config
	client  *http.Client
	service *service // nil without a service user

	secret   [32]byte
	answers  *cache[key, answer]
	sessions *cache[string, time.Time]
	flights  singleflight.Group
	slots    chan struct{}
	limiter  *rate.Limiter
	breaker  *breaker
	metrics  *metrics
	// forbidden thins out what is said of such answers.
	forbidden rate.Sometimes
}

// answer is what is remembered of a token: a login or why there is none.
type answer struct {
	login   tenant.Login
	refusal *tenant.RefusalError
}

// New checks the configuration. It does not ask Keystone anything.
func New(cfg Config) (*Verifier, error) {
	if err := cfg.complete(); err != nil {
		return nil, fmt.Errorf("keystone: %w", err)
	}
	v := &Verifier{
		cfg: cfg,
		client: &http.Client{
			Transport: cfg.Transport,
			// A redirection would take the token elsewhere.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
			Timeout:       cfg.Limits.Timeout,
		},
		answers:   newCache[key, answer](cfg.Limits.Entries, cfg.Now),
		sessions:  newCache[string, time.Time](sessions, cfg.Now),
		slots:     make(chan struct{}, cfg.Limits.InFlight),
		limiter:   rate.NewLimiter(rate.Limit(cfg.Limits.Rate), int(2*cfg.Limits.Rate)+1),
		breaker:   &breaker{after: cfg.Limits.BreakAfter, pause: cfg.Limits.BreakFor, now: cfg.Now},
		forbidden: rate.Sometimes{First: 1, Interval: time.Minute},
	}
	if _, err := rand.Read(v.secret[:]); err != nil {
		return nil, fmt.Errorf("keystone: %w", err)
	}
	if cfg.Service != nil {
		v.service = newService(&v.cfg, v.client)
	}
	var err error
	v.metrics, err = newMetrics(cfg.Metrics, v)
	return v, err
}

// Verify says whose token it is. A *tenant.RefusalError is the answer that it is nobody's who
// is accepted; any other error means that nobody could tell.
func (v *Verifier) Verify(ctx context.Context, token string) (tenant.Login, error) {
	at := v.key(token)
	if known, found := v.answers.find(at); found {
		v.metrics.cache.WithLabelValues(known.result()).Inc()
		return known.unpack()
	}
	v.metrics.cache.WithLabelValues("nothing").Inc()
	// All who ask about the same token wait for one answer, which none of them can cancel.
	flight := v.flights.DoChan(string(at[:]), func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*v.cfg.Limits.Timeout+time.Second)
		defer cancel()
		return v.fetch(ctx, at, token)
	})
	select {
	case landed := <-flight:
		if landed.Err != nil {
			return tenant.Login{}, landed.Err
		}
		told, _ := landed.Val.(answer)
		return told.unpack()
	case <-ctx.Done():
		return tenant.Login{}, fmt.Errorf("ask keystone: %w", ctx.Err())
	}
}

// Purge forgets all answers.
func (v *Verifier) Purge() { v.answers.purge() }

// Available says why Keystone is not asked at the moment.
func (v *Verifier) Available() error {
	if v.breaker.open() {
		return errRetry
	}
	return nil
}

func (v *Verifier) key(token string) key {
	mac := hmac.New(sha256.New, v.secret[:])
	_, _ = mac.Write([]byte(token)) // a hash's Write has no errors
	return key(mac.Sum(nil))
}

// fetch asks Keystone and remembers what it says.
func (v *Verifier) fetch(ctx context.Context, at key, subject string) (answer, error) {
	// Somebody may have asked between the look into the cache and the flight.
	if known, found := v.answers.find(at); found {
		return known, nil
	}
	began := time.Now()
	login, err := v.admitted(ctx, subject)
	if errors.Is(err, errSkipped) {
		v.metrics.requests.WithLabelValues("skipped").Inc()
		return answer{}, err
	}
	v.metrics.duration.Observe(time.Since(began).Seconds())
	refusal, refused := tenant.Refused(err)
	told := answer{login: login, refusal: refusal}
	switch {
	case refused:
		v.metrics.requests.WithLabelValues(told.result()).Inc()
		v.report(ctx, refusal)
		v.answers.keep(at, told, v.cfg.Now().Add(*v.cfg.Limits.NegativeTTL))
	case err != nil:
		v.metrics.requests.WithLabelValues("failed").Inc()
		return answer{}, err
	default:
		v.metrics.requests.WithLabelValues(told.result()).Inc()
		expires := v.cfg.Now().Add(*v.cfg.Limits.PositiveTTL)
		if login.Expires.Before(expires) {
			expires = login.Expires
		}
		v.answers.keep(at, told, expires)
	}
	return told, nil
}

// report makes a policy known that may refuse everybody. Tokens of trusts and of EC2
// credentials are always forbidden.
func (v *Verifier) report(ctx context.Context, refusal *tenant.RefusalError) {
	if refusal.Reason != ReasonForbidden {
		return
	}
	v.forbidden.Do(func() {
		logging.From(ctx).WarnContext(ctx, "keystone forbids self-validation of a token", "keystone", v.cfg.AuthURL)
	})
}

// errSkipped marks questions that were not asked.
var errSkipped = errors.New("keystone is not asked")

// admitted asks within the limits, and applies the rules.
func (v *Verifier) admitted(ctx context.Context, subject string) (tenant.Login, error) {
	select {
	case v.slots <- struct{}{}:
		defer func() { <-v.slots }()
	case <-ctx.Done():
		return tenant.Login{}, fmt.Errorf("%w: too many questions at a time", errSkipped)
	}
	if !v.limiter.Allow() {
		return tenant.Login{}, fmt.Errorf("%w: too many questions per second", errSkipped)
	}
	if !v.breaker.allow() {
		return tenant.Login{}, fmt.Errorf("%w: it did not answer just now", errSkipped)
	}
	found, err := v.ask(ctx, subject)
	v.breaker.done(answered(err))
	if err != nil {
		return tenant.Login{}, err
	}
	now := v.cfg.Now()
	if err := v.cfg.Rules.admit(&found, now); err != nil {
		return tenant.Login{}, err
	}
	if err := v.admitSession(&found, now); err != nil {
		return tenant.Login{}, err
	}
	return v.cfg.Rules.login(&found), nil
}

// admitSession refuses tokens that were made, over however many others, from a login too long ago.
func (v *Verifier) admitSession(t *token, now time.Time) error {
	limit := v.cfg.Rules.MaxSession
	if limit == 0 {
		return nil
	}
	began := t.Issued.Time
	if first, known := v.sessions.find(t.origin()); known && first.Before(began) {
		began = first
	}
	v.sessions.keep(t.origin(), began, now.Add(max(2*limit, sessionMemory)))
	if now.Sub(began) > limit {
		return tenant.Refuse(ReasonSession, "the first login was more than %s ago; log in again", limit)
	}
	return nil
}

func (a answer) unpack() (tenant.Login, error) {
	if a.refusal != nil {
		return tenant.Login{}, a.refusal
	}
	return a.login, nil
}

func (a answer) result() string {
	if a.refusal != nil {
		return "refused"
	}
	return "accepted"
}
