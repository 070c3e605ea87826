// SPDX-License-Identifier: Apache-2.0

package keystone

import (
	"errors"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics count what Keystone is asked.
type metrics struct {
	requests *prometheus.CounterVec
	duration prometheus.Histogram
	cache    *prometheus.CounterVec
}

func newMetrics(registry prometheus.Registerer, v *Verifier) (*metrics, error) {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "caas_authn_keystone_requests_total",
			Help: "Tokens that Keystone was asked about, by what came of it: accepted, refused, failed or skipped.",
		}, []string{"result"}),
		duration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "caas_authn_keystone_duration_seconds",
			Help:    "Time that Keystone took to tell about a token, with all tries.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2, 4},
		}),
		cache: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "caas_authn_keystone_cache_total",
			Help: "Tokens that were looked up in the cache, by what was found: accepted, refused or nothing.",
		}, []string{"found"}),
	}
	if registry == nil {
		return m, nil
	}
	err := errors.Join(
		registry.Register(m.requests), registry.Register(m.duration), registry.Register(m.cache),
		registry.Register(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "caas_authn_keystone_cache_entries", Help: "Answers that are remembered.",
		}, func() float64 { return float64(v.answers.size()) })),
		registry.Register(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "caas_authn_keystone_broken", Help: "1 while Keystone is not asked because it did not answer.",
		}, func() float64 {
			if v.breaker.open() {
				return 1
			}
			return 0
		})),
	)
	if err != nil {
		return nil, fmt.Errorf("keystone metrics: %w", err)
	}
	return m, nil
}
