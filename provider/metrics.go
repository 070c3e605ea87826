// SPDX-License-Identifier: Apache-2.0

package provider

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/cloudveneto/caas/internal/interlink"
)

// metricPrefix is what the names of the metrics begin with.
const metricPrefix = "virtual_kubelet"

// metrics are the provider's figures, all named virtual_kubelet_….
type metrics struct {
	creates    prometheus.Histogram
	deletes    prometheus.Histogram
	updates    prometheus.Histogram
	statuses   prometheus.Histogram
	streams    prometheus.Gauge
	updated    *prometheus.CounterVec
	retries    prometheus.Counter
	reconnects prometheus.Counter
	orphans    prometheus.Counter
	inFlight   *prometheus.GaugeVec
	sessions   *prometheus.GaugeVec
	opened     *prometheus.CounterVec
}

func newMetrics(registry prometheus.Registerer, sizes []prometheus.Collector) (*metrics, error) {
	histogram := func(name, help string) prometheus.Histogram {
		return prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: metricPrefix, Name: name, Help: help, Buckets: prometheus.ExponentialBuckets(0.005, 2, 14),
		})
	}
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Namespace: metricPrefix, Name: name, Help: help})
	}
	m := &metrics{
		creates: histogram("create_seconds", "Time until the far end accepted a pod."),
		deletes: histogram("delete_seconds", "Time until the far end accepted the deletion of a pod."),
		updates: histogram("update_seconds", "Time until the far end had taken an update of a pod."),
		updated: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: metricPrefix, Name: "updates_total", Help: "Updates of pods sent to the far end, by outcome: done, refused, failed.",
		}, []string{"outcome"}),
		statuses: histogram("status_seconds", "Time from the far end's report of a change until the origin has it."),
		streams: prometheus.NewGauge(prometheus.GaugeOpts{
			Namespace: metricPrefix, Name: "status_streams", Help: "Status streams that are in step.",
		}),
		retries:    counter("retries_total", "Steps of pods that failed and were put back."),
		reconnects: counter("stream_ends_total", "Status streams that ended and were opened again."),
		orphans:    counter("orphans_total", "Pods deleted at the far end because the origin does not have them."),
		inFlight: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Namespace: metricPrefix, Name: "requests_in_flight", Help: "Requests to the far end under way.",
		}, []string{"operation"}),
		sessions: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Namespace: metricPrefix, Name: "sessions", Help: "Connections into pods that are open; for port-forward, callers.",
		}, []string{"kind"}),
		opened: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: metricPrefix, Name: "sessions_total", Help: "Connections into pods that were asked for.",
		}, []string{"kind"}),
	}
	if registry == nil {
		return m, nil
	}
	collectors := []prometheus.Collector{
		m.updates, m.updated, m.creates, m.deletes, m.statuses, m.streams, m.retries, m.reconnects, m.orphans, m.inFlight, m.sessions, m.opened,
	}
	for _, collector := range append(collectors, sizes...) {
		if err := registry.Register(collector); err != nil {
			return nil, fmt.Errorf("register metrics: %w", err)
		}
	}
	return m, nil
}

// track counts a request as under way until the returned function is called.
func (m *metrics) track(operation string) func() {
	gauge := m.inFlight.WithLabelValues(operation)
	gauge.Inc()
	return gauge.Dec
}

// session counts a connection into a pod as open until the returned function is called.
func (m *metrics) session(kind interlink.StreamKind) func() {
	m.opened.WithLabelValues(string(kind)).Inc()
	gauge := m.sessions.WithLabelValues(string(kind))
	gauge.Inc()
	return gauge.Dec
}

// sizes are the figures that are counted when somebody asks.
func (p *Provider) sizes() []prometheus.Collector {
	gauge := func(name, help string, labels prometheus.Labels, count func() int) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Namespace: metricPrefix, Name: name, Help: help, ConstLabels: labels,
		}, func() float64 { return float64(count()) })
	}
	const queued = "Pods that wait to be worked on (work), or to have their status written (status)."
	return []prometheus.Collector{
		gauge("pods", "Pods in the table, those being removed included.", nil, p.table.size),
		gauge("queue_length", queued, prometheus.Labels{"queue": "work"}, p.work.Len),
		gauge("queue_length", queued, prometheus.Labels{"queue": "status"}, p.dirty.Len),
		gauge("followed_objects", "ConfigMaps and Secrets of pods that are watched.", nil, func() int {
			if p.follower == nil {
				return 0
			}
			return p.follower.Watched()
		}),
	}
}
