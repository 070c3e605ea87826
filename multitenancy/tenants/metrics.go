// SPDX-License-Identifier: Apache-2.0

package tenants

import (
	"errors"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	resultDone   = "done"
	resultLater  = "later"
	resultFailed = "failed"
)

type metrics struct {
	reconciles *prometheus.CounterVec
	namespaces prometheus.Gauge
}

func newMetrics(registry prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		reconciles: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "caas_tenants_reconciles_total",
			Help: "Times that a project's namespaces were made complete (done), wait for one to be deleted (later), or failed.",
		}, []string{"result"}),
		namespaces: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "caas_tenants_namespaces",
			Help: "Namespaces of projects when they were last counted.",
		}),
	}
	if registry == nil {
		return m, nil
	}
	if err := errors.Join(registry.Register(m.reconciles), registry.Register(m.namespaces)); err != nil {
		return nil, fmt.Errorf("tenants metrics: %w", err)
	}
	return m, nil
}
