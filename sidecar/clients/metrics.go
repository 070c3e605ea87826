// SPDX-License-Identifier: Apache-2.0

package clients

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"
)

// readiness shows for which clients something can be done. It asks when it is asked:
// services keep their answers for a few seconds.
type readiness struct{ router *Router }

func (r readiness) what() *prometheus.Desc {
	return prometheus.NewDesc("caas_sidecar_client_ready", "1 when pods can be created for the client, else 0.", []string{"client"}, nil)
}

// Describe implements prometheus.Collector.
func (r readiness) Describe(to chan<- *prometheus.Desc) { to <- r.what() }

// Collect implements prometheus.Collector.
func (r readiness) Collect(to chan<- prometheus.Metric) {
	what := r.what()
	for name, err := range r.router.ask(context.Background()) {
		value := 1.0
		if err != nil {
			value = 0
		}
		metric, err := prometheus.NewConstMetric(what, prometheus.GaugeValue, value, name)
		if err != nil {
			metric = prometheus.NewInvalidMetric(what, err)
		}
		to <- metric
	}
}
