// SPDX-License-Identifier: Apache-2.0

package api

import (
	"errors"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/cloudveneto/caas/internal/hop"
	"github.com/cloudveneto/caas/internal/interlink"
)

// register adds the gateway's metrics to registry; without one it does nothing.
func (g *Gateway) register(registry prometheus.Registerer) error {
	g.open = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "caas_interlink_sessions", Help: "Upgraded connections into pods that are open.",
	}, []string{"kind"})
	g.opened = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "caas_interlink_sessions_total", Help: "Upgraded connections into pods that were opened.",
	}, []string{"kind"})
	g.callers = newCallers(g.turns)
	if registry == nil {
		return nil
	}
	toPlugin, err := hop.New(registry, "plugin", interlink.Operation)
	if err != nil {
		return err
	}
	g.plugin.http.Transport = toPlugin.Transport(g.plugin.http.Transport)
	g.plugin.upgrades = toPlugin.Transport(g.plugin.upgrades)
	err = errors.Join(
		registry.Register(g.open),
		registry.Register(g.opened),
		registry.Register(g.callers),
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
