// SPDX-License-Identifier: Apache-2.0

package authn

import (
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	resultAccepted = "accepted"
	resultRefused  = "refused"
	resultFailed   = "failed"

	providerNone = "none"
)

// outcome is what became of a review. All its words are of a fixed set.
type outcome struct{ provider, result, reason string }

type metrics struct {
	reviews  *prometheus.CounterVec
	duration *prometheus.HistogramVec
}

func newMetrics(registry prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		reviews: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "caas_authn_reviews_total",
			Help: "TokenReviews, by provider (none if nobody had to be asked), result and, if it was refused, reason.",
		}, []string{"provider", "result", "reason"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "caas_authn_review_duration_seconds",
			Help:    "Time to answer a TokenReview.",
			Buckets: []float64{.00002, .00005, .0001, .0005, .001, .005, .01, .025, .05, .1, .25, .5, 1, 2, 4, 8},
		}, []string{"provider", "result"}),
	}
	if registry == nil {
		return m, nil
	}
	if err := errors.Join(registry.Register(m.reviews), registry.Register(m.duration)); err != nil {
		return nil, fmt.Errorf("authn metrics: %w", err)
	}
	return m, nil
}

func (m *metrics) observe(o outcome, took time.Duration) {
	m.reviews.WithLabelValues(o.provider, o.result, o.reason).Inc()
	m.duration.WithLabelValues(o.provider, o.result).Observe(took.Seconds())
}
