// SPDX-License-Identifier: Apache-2.0

package api

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/cloudveneto/caas/internal/interlink"
)

// measured is the plugin's transport with a histogram around it, so that a slow
// plugin can be told from a slow gateway.
type measured struct {
	next     http.RoundTripper
	duration *prometheus.HistogramVec
}

// register adds the gateway's metrics to registry; without one it does nothing.
func (g *Gateway) register(registry *prometheus.Registry) error {
	g.open = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "caas_interlink_sessions", Help: "Upgraded connections into pods that are open.",
	}, []string{"kind"})
	g.opened = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "caas_interlink_sessions_total", Help: "Upgraded connections into pods that were opened.",
	}, []string{"kind"})
	if registry == nil {
		return nil
	}
	duration := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "caas_interlink_plugin_answer_seconds",
		Help:    "Time until the plugin's answer begins; code 0 means that there was none.",
		Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 120},
	}, []string{"route", "code"})
	g.plugin.http.Transport = &measured{next: g.plugin.http.Transport, duration: duration}
	err := errors.Join(
		registry.Register(duration),
		registry.Register(g.open),
		registry.Register(g.opened),
		registry.Register(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "caas_interlink_status_cache_pods", Help: "Pods in the status cache.",
		}, func() float64 { pods, _ := g.cache.size(); return float64(pods) })),
		registry.Register(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "caas_interlink_status_cache_bytes", Help: "Bytes in the status cache.",
		}, func() float64 { _, bytes := g.cache.size(); return float64(bytes) })),
	)
	if err != nil {
		return fmt.Errorf("gateway metrics: %w", err)
	}
	return nil
}

// RoundTrip implements http.RoundTripper.
func (m *measured) RoundTrip(r *http.Request) (*http.Response, error) {
	start, code := time.Now(), 0
	answer, err := m.next.RoundTrip(r)
	if err == nil {
		code = answer.StatusCode
	}
	m.duration.WithLabelValues(pluginRoute(r.URL.Path), strconv.Itoa(code)).Observe(time.Since(start).Seconds())
	return answer, err
}

// CloseIdleConnections lets http.Client reach the transport below.
func (m *measured) CloseIdleConnections() {
	if closer, ok := m.next.(interface{ CloseIdleConnections() }); ok {
		closer.CloseIdleConnections()
	}
}

// pluginRoute keeps paths that callers choose out of the label.
func pluginRoute(path string) string {
	switch path {
	case interlink.PathCreate, interlink.PathStatus, interlink.PathDelete, interlink.PathLogs, interlink.PathWatch:
		return path
	}
	if _, kind, ok := interlink.ParsePodStreamPath(path); ok {
		return extensionPrefix + "pods/{uid}/" + string(kind)
	}
	return extensionPrefix
}
