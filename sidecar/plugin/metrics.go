// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"errors"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"

	"github.com/cloudveneto/caas/internal/httpserver"
	"github.com/cloudveneto/caas/sidecar/plugin/events"
	"github.com/cloudveneto/caas/sidecar/plugin/table"
)

// Outcomes of requests about pods, as a metric's label.
const (
	outcomeUpdated = "updated"
	outcomeCreated = "created"
	outcomeKnown   = "known"
	outcomeRefused = "refused"
	outcomeDeleted = "deleted"
	outcomeFailed  = "failed"
	outcomeShare   = "share"
)

type metrics struct {
	http    *httpserver.Metrics
	creates *prometheus.CounterVec
	deletes *prometheus.CounterVec
	updates *prometheus.CounterVec
	written prometheus.Counter
	streams prometheus.Gauge
	events  prometheus.Counter
	open    *prometheus.GaugeVec
	opened  *prometheus.CounterVec
}

func newMetrics(registry prometheus.Registerer, pods *table.Table, happened *events.Log, share corev1.ResourceList) (*metrics, error) {
	requests, err := httpserver.NewMetrics(registry, "plugin")
	if err != nil {
		return nil, err
	}
	m := &metrics{
		http: requests,
		creates: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "caas_sidecar_creates_total", Help: "Requests to create a pod, by outcome.",
		}, []string{"outcome"}),
		deletes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "caas_sidecar_deletes_total", Help: "Requests to delete a pod, by outcome.",
		}, []string{"outcome"}),
		updates: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "caas_sidecar_updates_total", Help: "Requests to update a pod, by outcome.",
		}, []string{"outcome"}),
		written: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "caas_sidecar_objects_updated_total", Help: "ConfigMaps and Secrets of pods that were written because of updates.",
		}),
		streams: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "caas_sidecar_status_streams", Help: "Open status streams.",
		}),
		events: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "caas_sidecar_status_events_total", Help: "Events written to status streams.",
		}),
		open: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "caas_sidecar_sessions", Help: "Upgraded connections into pods that are open.",
		}, []string{"kind"}),
		opened: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "caas_sidecar_sessions_total", Help: "Upgraded connections into pods that were opened.",
		}, []string{"kind"}),
	}
	size := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "caas_sidecar_pods", Help: "Created pods that the target cluster holds.",
	}, func() float64 { return float64(pods.Len()) })
	told := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "caas_sidecar_pod_events", Help: "Events about created pods that are kept for readers.",
	}, func() float64 { return float64(happened.Len()) })
	var problems []error
	for _, collector := range []prometheus.Collector{m.creates, m.deletes, m.updates, m.written, m.streams, m.events, m.open, m.opened, size, told, newShares(pods, share)} {
		problems = append(problems, registry.Register(collector))
	}
	if err := errors.Join(problems...); err != nil {
		return nil, fmt.Errorf("sidecar metrics: %w", err)
	}
	return m, nil
}
