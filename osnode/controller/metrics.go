// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"sigs.k8s.io/controller-runtime/pkg/client"

	osnodev1 "github.com/cloudveneto/caas/osnode/api/v1"
)

// scrapeTimeout bounds the reading of the cache for a scrape.
const scrapeTimeout = 5 * time.Second

type metrics struct {
	timeToReady, overhead, queued prometheus.Histogram
	refusals                      *prometheus.CounterVec
	servers                       *prometheus.CounterVec
	orphans                       *prometheus.CounterVec
}

func newMetrics(reader client.Reader, registerer prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		timeToReady: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "osn_time_to_ready_seconds",
			Help:    "From the making of an OpenStackNode until it was first Running.",
			Buckets: []float64{15, 30, 45, 60, 90, 120, 180, 240, 300, 420, 600, 900, 1800},
		}),
		overhead: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "osn_controller_overhead_seconds",
			Help:    "The part of the time to Ready in which the controller could have acted, or have asked OpenStack, and had not yet; without osn_turn_wait_seconds.",
			Buckets: []float64{0.1, 0.25, 0.5, 0.75, 1, 1.5, 2, 2.5, 3, 3.5, 4, 4.5, 5, 6, 7.5, 10, 15, 30, 60},
		}),
		queued: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "osn_turn_wait_seconds",
			Help:    "The part of the time to Ready in which others had their turn to ask OpenStack for a machine: at most ten are being asked for at a time.",
			Buckets: []float64{0.1, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300, 600},
		}),
		refusals: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "osn_reconcile_errors_total", Help: "Refusals and failures of OpenStack, by class.",
		}, []string{"class"}),
		servers: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "osn_servers_total", Help: "Virtual machines that were created, adopted, reaped, deleted or abandoned.",
		}, []string{"action"}),
		orphans: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "osn_orphans_collected_total", Help: "Servers, Nodes and token Secrets without an OpenStackNode that were deleted.",
		}, []string{"kind"}),
	}
	if registerer == nil {
		return m, nil
	}
	var errs []error
	for _, collector := range []prometheus.Collector{
		m.timeToReady, m.overhead, m.queued, m.refusals, m.servers, m.orphans, newPhases(reader),
	} {
		errs = append(errs, registerer.Register(collector))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("register metrics: %w", err)
	}
	return m, nil
}

// phases counts the objects in the cache when it is asked, so it cannot be wrong for long.
type phases struct {
	reader client.Reader
	nodes  *prometheus.Desc
}

func newPhases(reader client.Reader) *phases {
	return &phases{reader, prometheus.NewDesc("osn_nodes", "OpenStackNodes by project and phase.", []string{"project", "phase"}, nil)}
}

// Describe implements prometheus.Collector.
func (c *phases) Describe(out chan<- *prometheus.Desc) { out <- c.nodes }

// Collect implements prometheus.Collector.
func (c *phases) Collect(out chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), scrapeTimeout)
	defer cancel()
	list := &osnodev1.OpenStackNodeList{}
	if err := c.reader.List(ctx, list); err != nil {
		out <- prometheus.NewInvalidMetric(c.nodes, err)
		return
	}
	type key struct{ project, phase string }
	counts := map[key]int{}
	for i := range list.Items {
		osn := &list.Items[i]
		counts[key{osn.Labels[osnodev1.LabelProjectName], string(osn.Status.Phase)}]++
	}
	for of, count := range counts {
		out <- prometheus.MustNewConstMetric(c.nodes, prometheus.GaugeValue, float64(count), of.project, of.phase)
	}
}
