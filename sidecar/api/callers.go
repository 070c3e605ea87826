// SPDX-License-Identifier: Apache-2.0

package api

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	// maxShown is how many callers have a name in metrics. An issuer of tokens may know thousands, and each would be a
	// dozen series for ever.
	maxShown = 100
	// others is the name of the rest.
	others = "*"
)

// callers shows who asks how much. Its zero value shows nothing.
type callers struct {
	turns         *turns
	asked         *prometheus.CounterVec
	open, waiting *prometheus.Desc

	mu    sync.Mutex
	known map[string]bool
}

func newCallers(turns *turns) *callers {
	labels := []string{"client", "kind"}
	return &callers{
		turns: turns,
		asked: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "caas_interlink_client_requests_total", Help: "Requests of a client that is known to be who it is.",
		}, labels),
		open:    prometheus.NewDesc("caas_interlink_client_requests_in_flight", "Requests of a client that are being answered.", labels, nil),
		waiting: prometheus.NewDesc("caas_interlink_client_requests_waiting", "Requests of a client that wait, because it has as many open as it may.", labels, nil),
		known:   map[string]bool{},
	}
}

// ask counts a request.
func (c *callers) ask(client string, kind kind) {
	c.asked.WithLabelValues(c.shown(client), kind.String()).Inc()
}

// shown is a caller's name in metrics.
func (c *callers) shown(client string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.known[client] && len(c.known) < maxShown {
		c.known[client] = true
	}
	if c.known[client] {
		return client
	}
	return others
}

// Describe implements prometheus.Collector.
func (c *callers) Describe(to chan<- *prometheus.Desc) {
	c.asked.Describe(to)
	to <- c.open
	to <- c.waiting
}

// Collect implements prometheus.Collector.
func (c *callers) Collect(to chan<- prometheus.Metric) {
	c.asked.Collect(to)
	open, waiting := map[lane]int{}, map[lane]int{}
	for lane, now := range c.turns.now() {
		lane.client = c.shown(lane.client)
		open[lane] += now.open
		waiting[lane] += now.waiting
	}
	for what, counts := range map[*prometheus.Desc]map[lane]int{c.open: open, c.waiting: waiting} {
		for lane, count := range counts {
			metric, err := prometheus.NewConstMetric(what, prometheus.GaugeValue, float64(count), lane.client, lane.kind.String())
			if err != nil {
				metric = prometheus.NewInvalidMetric(what, err)
			}
			to <- metric
		}
	}
}
