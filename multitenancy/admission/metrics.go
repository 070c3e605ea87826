// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics count decisions. Their labels come from fixed lists: no user can make new ones.
type metrics struct {
	decisions *prometheus.CounterVec
	duration  *prometheus.HistogramVec
	lookups   *prometheus.CounterVec
}

func newMetrics(registry *prometheus.Registry, index *Index) (*metrics, error) {
	m := &metrics{
		decisions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "caas_mt_admission_decisions_total", Help: "Answers by half of the webhook, operation, who asked and result.",
		}, []string{"webhook", "operation", "role", "result"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "caas_mt_admission_decision_seconds", Help: "Time from the decoded request to the decision.",
			Buckets: []float64{.00005, .0001, .00025, .0005, .001, .0025, .005, .01, .05, .25, 1},
		}, []string{"webhook"}),
		lookups: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "caas_mt_admission_live_lookups_total", Help: "Objects that the index did not have and the API server was asked for.",
		}, []string{"result"}),
	}
	objects := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "caas_mt_admission_index_objects", Help: "Objects whose owner is known.",
	}, func() float64 { objects, _ := index.Size(); return float64(objects) })
	graves := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "caas_mt_admission_quarantined_names", Help: "Names of deleted objects that only their last owner may use.",
	}, func() float64 { _, graves := index.Size(); return float64(graves) })
	var problems []error
	for _, collector := range []prometheus.Collector{m.decisions, m.duration, m.lookups, objects, graves} {
		problems = append(problems, registry.Register(collector))
	}
	if err := errors.Join(problems...); err != nil {
		return nil, fmt.Errorf("admission metrics: %w", err)
	}
	return m, nil
}

func (m *metrics) decided(webhook string, r *review, began time.Time) {
	m.decisions.WithLabelValues(webhook, string(r.Operation), r.actor.role.String(), r.result()).Inc()
	m.duration.WithLabelValues(webhook).Observe(time.Since(began).Seconds())
}
