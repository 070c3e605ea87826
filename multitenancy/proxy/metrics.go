// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"errors"
	"fmt"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
)

// How it was found out who a caller is.
const (
	callerKnown   = "known"   // it was remembered
	callerAsked   = "asked"   // the API server said so
	callerRefused = "refused" // the API server does not know the token
	callerFailed  = "failed"  // the API server gave no answer
)

type metrics struct {
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
	open     *prometheus.GaugeVec
	callers  *prometheus.CounterVec
	hidden   prometheus.Counter
}

func newMetrics(registry prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "caas_proxy_requests_total",
			Help: "Requests, by verb, status code, and what became of the selector.",
		}, []string{"verb", "code", "selector"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "caas_proxy_request_duration_seconds",
			Help:    "Time from a request's header to the end of its answer, of all but streams.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
		}, []string{"verb"}),
		open: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "caas_proxy_requests_in_flight",
			Help: "Requests being answered now; kind is stream or request.",
		}, []string{"kind"}),
		callers: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "caas_proxy_callers_total",
			Help: "How it was found out who a caller is.",
		}, []string{"result"}),
		hidden: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "caas_proxy_hidden_total",
			Help: "Refusals that were turned into not found.",
		}),
	}
	if registry == nil {
		return m, nil
	}
	if err := errors.Join(
		registry.Register(m.requests), registry.Register(m.duration), registry.Register(m.open),
		registry.Register(m.callers), registry.Register(m.hidden),
	); err != nil {
		return nil, fmt.Errorf("proxy metrics: %w", err)
	}
	return m, nil
}

// verbLabel is a verb of a fixed set: paths can make up others.
func verbLabel(verb string, resource bool) string {
	known := []string{"get", verbList, verbWatch, "create", "update", "patch", "delete", verbDeleteCollection}
	switch {
	case !resource:
		return "nonResource"
	case slices.Contains(known, verb):
		return verb
	default:
		return "other"
	}
}
