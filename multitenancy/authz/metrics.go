// SPDX-License-Identifier: Apache-2.0

package authz

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// decisions are the metrics of decisions. Their labels are bounded: what a caller makes up counts as other.
type decisions struct {
	total   *prometheus.CounterVec
	seconds prometheus.Histogram
	lookups *prometheus.CounterVec
}

func newDecisions(registry *prometheus.Registry) (*decisions, error) {
	d := &decisions{
		total: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "mt_authz_decisions_total", Help: "Decisions by verb, resource, result and reason.",
		}, []string{"verb", "resource", "result", "reason"}),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "mt_authz_decision_seconds", Help: "Time from the review's header to the decision.",
			Buckets: []float64{.00001, .000025, .00005, .0001, .00025, .0005, .001, .0025, .005, .01, .05, .25, 1, 3},
		}),
		lookups: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "mt_authz_lookups_total", Help: "Objects that the index did not know, by what came out.",
		}, []string{"result"}),
	}
	if err := errors.Join(registry.Register(d.total), registry.Register(d.seconds), registry.Register(d.lookups)); err != nil {
		return nil, fmt.Errorf("authz metrics: %w", err)
	}
	return d, nil
}

// decided counts a decision; listed tells that the policy names the request's resource.
func (d *decisions) decided(request Request, listed bool, verdict Verdict, elapsed time.Duration) {
	verb, resource := "other", "other"
	if slices.Contains(verbs(), request.Verb) {
		verb = request.Verb
	}
	// Callers make names up, and some verdicts come before the kind is looked at.
	if listed {
		resource = request.Resource.String()
	}
	d.total.WithLabelValues(verb, resource, verdict.Outcome.String(), string(verdict.Reason)).Inc()
	d.seconds.Observe(elapsed.Seconds())
}

func (d *decisions) lookup(knowledge Knowledge) {
	result := map[Knowledge]string{Known: "found", Absent: "absent", Limited: "limited"}[knowledge]
	if result == "" {
		result = "unavailable"
	}
	d.lookups.WithLabelValues(result).Inc()
}

// Collector reports the size and age of an Index.
func (x *Index) Collector() prometheus.Collector { //nolint:ireturn // Register takes the interface
	labels := []string{"resource"}
	return &indexCollector{
		index:   x,
		objects: prometheus.NewDesc("mt_authz_index_objects", "Objects whose owners are known.", labels, nil),
		age:     prometheus.NewDesc("mt_authz_index_age_seconds", "Time since the API server was last heard of.", labels, nil),
		events:  prometheus.NewDesc("mt_authz_index_events_total", "Changes that came by the watch.", labels, nil),
		synced:  prometheus.NewDesc("mt_authz_index_synced", "Whether all objects were read once.", labels, nil),
	}
}

type indexCollector struct {
	index                        *Index
	objects, age, events, synced *prometheus.Desc
}

func (c *indexCollector) Describe(to chan<- *prometheus.Desc) {
	for _, desc := range []*prometheus.Desc{c.objects, c.age, c.events, c.synced} {
		to <- desc
	}
}

func (c *indexCollector) Collect(to chan<- prometheus.Metric) {
	for _, t := range c.index.tables() {
		resource, synced := t.resource.String(), 0.0
		if t.synced.Load() {
			synced = 1
		}
		to <- prometheus.MustNewConstMetric(c.objects, prometheus.GaugeValue, float64(t.size()), resource)
		to <- prometheus.MustNewConstMetric(c.age, prometheus.GaugeValue, t.age().Seconds(), resource)
		to <- prometheus.MustNewConstMetric(c.events, prometheus.CounterValue, float64(t.events.Load()), resource)
		to <- prometheus.MustNewConstMetric(c.synced, prometheus.GaugeValue, synced, resource)
	}
}
