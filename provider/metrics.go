// SPDX-License-Identifier: Apache-2.0

package provider

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/cloudveneto/caas/internal/interlink"
	"github.com/cloudveneto/caas/provider/follow"
)

// metrics are the provider's figures, all named virtual_kubelet_….
type metrics struct {
	creates    prometheus.Histogram
	deletes    prometheus.Histogram
	updates    prometheus.Histogram
	updated    *prometheus.CounterVec
	retries    prometheus.Counter
	reconnects prometheus.Counter
	orphans    prometheus.Counter
	inFlight   *prometheus.GaugeVec
	sessions   *prometheus.GaugeVec
	opened     *prometheus.CounterVec
}

func newMetrics(registry prometheus.Registerer, pods *table, follower *follow.Follower) (*metrics, error) {
	const namespace = "virtual_kubelet"
	histogram := func(name, help string) prometheus.Histogram {
		return prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: namespace, Name: name, Help: help, Buckets: prometheus.ExponentialBuckets(0.005, 2, 14),
		})
	}
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Namespace: namespace, Name: name, Help: help})
	}
	m := &metrics{
		creates: histogram("create_seconds", "Time until the far end accepted a pod."),
		deletes: histogram("delete_seconds", "Time until the far end accepted the deletion of a pod."),
		updates: histogram("update_seconds", "Time until the far end had taken an update of a pod."),
		updated: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: namespace, Name: "updates_total", Help: "Updates of pods sent to the far end, by outcome: done, refused, failed.",
		}, []string{"outcome"}),
		retries:    counter("retries_total", "Steps of pods that failed and were put back."),
		reconnects: counter("stream_ends_total", "Status streams that ended and were opened again."),
		orphans:    counter("orphans_total", "Pods deleted at the far end because the origin does not have them."),
		inFlight: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Namespace: namespace, Name: "requests_in_flight", Help: "Requests to the far end under way.",
		}, []string{"operation"}),
		sessions: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Namespace: namespace, Name: "sessions", Help: "Connections into pods that are open; for port-forward, callers.",
		}, []string{"kind"}),
		opened: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: namespace, Name: "sessions_total", Help: "Connections into pods that were asked for.",
		}, []string{"kind"}),
	}
	if registry == nil {
		return m, nil
	}
	size := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Namespace: namespace, Name: "pods", Help: "Pods in the table, those being removed included.",
	}, func() float64 { return float64(pods.size()) })
	followed := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Namespace: namespace, Name: "followed_objects", Help: "ConfigMaps and Secrets of pods that are watched.",
	}, func() float64 {
		if follower == nil {
			return 0
		}
		return float64(follower.Watched())
	})
	for _, collector := range []prometheus.Collector{m.updates, m.updated, followed, m.creates, m.deletes, m.retries, m.reconnects, m.orphans, m.inFlight, m.sessions, m.opened, size} {
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
