// SPDX-License-Identifier: Apache-2.0

package authz

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/gorilla/mux"
	"github.com/prometheus/client_golang/prometheus"
	authorizationv1 "k8s.io/api/authorization/v1"

	"github.com/cloudveneto/caas/internal/httpserver"
	"github.com/cloudveneto/caas/internal/logging"
)

const (
	// Path is where reviews are answered.
	Path = "/authorize"
	// MaxReview is the size of the largest review that is read. A label selector is the only large part of one. What is
	// larger is denied.
	MaxReview = 1 << 20
	// MaxBody is larger than anything that the API server makes of a request.
	MaxBody = 32 << 20
	// maxQuestions is how many objects one decision may have to ask for: the namespace, the ServiceAccount who asks,
	// and the object.
	maxQuestions = 3
	// decisionTimeout bounds all of them together, so that the API server hears what is the matter.
	decisionTimeout = webhookTimeout - time.Second
)

// Objects asks for objects that the index does not know. Its answers are never Unknown. It MUST return soon after ctx is
// done, and may be called from many goroutines.
type Objects interface {
	Object(ctx context.Context, user string, key Key) (Object, Knowledge)
}

// Config are the parts of an Authorizer; all are required.
type Config struct {
	Rules   *Rules
	Facts   Facts
	Objects Objects
	Metrics *prometheus.Registry
}

// Authorizer decides reviews.
type Authorizer struct {
	cfg     Config
	metrics *decisions
}

// New makes an Authorizer and registers its metrics.
func New(cfg Config) (*Authorizer, error) {
	if cfg.Rules == nil || cfg.Facts == nil || cfg.Objects == nil || cfg.Metrics == nil {
		return nil, errors.New("authz: rules, facts, objects and metrics are required")
	}
	metrics, err := newDecisions(cfg.Metrics)
	if err != nil {
		return nil, err
	}
	return &Authorizer{cfg: cfg, metrics: metrics}, nil
}

// Decide decides a request, asking for what the facts do not tell.
func (a *Authorizer) Decide(ctx context.Context, request Request) Verdict {
	facts := a.cfg.Facts
	verdict := a.cfg.Rules.Decide(request, facts)
	if verdict.Outcome != Ask {
		return verdict
	}
	ctx, cancel := context.WithTimeout(ctx, decisionTimeout)
	defer cancel()
	answers := map[Key]answer{}
	for range maxQuestions {
		object, knowledge := a.cfg.Objects.Object(ctx, verdict.User, verdict.Key)
		a.metrics.lookup(knowledge)
		answers[verdict.Key] = answer{object, knowledge}
		verdict = a.cfg.Rules.Decide(request, asked{facts, answers})
		if verdict.Outcome != Ask {
			return verdict
		}
	}
	return deny(ReasonUnavailable, "cannot tell whose this is; try again")
}

// Handler serves SubjectAccessReviews at Path. A review that can be read is answered with 200 whatever comes out: the API
// server would repeat other answers, and take them for failures.
func (a *Authorizer) Handler() http.Handler {
	router := mux.NewRouter()
	router.HandleFunc(Path, a.serve).Methods(http.MethodPost)
	return router
}

func (a *Authorizer) serve(w http.ResponseWriter, r *http.Request) {
	start := time.Now()
	review := authorizationv1.SubjectAccessReview{}
	err := json.NewDecoder(http.MaxBytesReader(nil, r.Body, MaxReview)).Decode(&review)
	if _, large := errors.AsType[*http.MaxBytesError](err); large && drained(r.Body) {
		verdict := deny(ReasonMalformed, "the request is too large; use a shorter selector")
		a.metrics.decided(Request{}, false, verdict, time.Since(start))
		write(r.Context(), w, verdict)
		return
	}
	if err != nil {
		code, text := httpserver.BodyError(err)
		http.Error(w, text, code)
		return
	}
	if err := readable(&review); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	request := RequestOf(&review.Spec)
	verdict := a.Decide(r.Context(), request)
	a.metrics.decided(request, a.cfg.Rules.lists(request.Resource), verdict, time.Since(start))
	log(r.Context(), request, verdict)
	write(r.Context(), w, verdict)
}

// drained reads what is left of a body, so that who sends it gets to read the answer.
func drained(body io.Reader) bool {
	_, err := io.Copy(io.Discard, io.LimitReader(body, MaxBody))
	return err == nil
}

func readable(review *authorizationv1.SubjectAccessReview) error {
	if review.APIVersion != authorizationv1.SchemeGroupVersion.String() || review.Kind != "SubjectAccessReview" {
		return fmt.Errorf("want a SubjectAccessReview of %s", authorizationv1.SchemeGroupVersion)
	}
	if (review.Spec.ResourceAttributes == nil) == (review.Spec.NonResourceAttributes == nil) {
		return errors.New("want either resourceAttributes or nonResourceAttributes")
	}
	return nil
}

func write(ctx context.Context, w http.ResponseWriter, verdict Verdict) {
	answer := authorizationv1.SubjectAccessReview{Status: authorizationv1.SubjectAccessReviewStatus{
		Denied: verdict.Outcome != NoOpinion, Reason: verdict.Text,
	}}
	answer.APIVersion, answer.Kind = authorizationv1.SchemeGroupVersion.String(), "SubjectAccessReview"
	w.Header().Set("Content-Type", "application/json")
	// Half an answer is an error to the API server, which denies then.
	if err := json.NewEncoder(w).Encode(answer); err != nil {
		logging.From(ctx).DebugContext(ctx, "answer did not get through", "error", err)
	}
}

// log tells of denials, which somebody may wonder about. What was asked for is not secret; who asks is told by his name.
func log(ctx context.Context, request Request, verdict Verdict) {
	if verdict.Outcome == NoOpinion {
		return
	}
	logging.From(ctx).DebugContext(ctx, "request denied", "user", request.User.Name, "verb", request.Verb,
		"resource", request.Resource.String(), "subresource", request.Subresource,
		"namespace", request.Namespace, "name", request.Name, "reason", string(verdict.Reason))
}
