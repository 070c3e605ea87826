// SPDX-License-Identifier: Apache-2.0

package httpserver

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/gorilla/mux"
	"github.com/prometheus/client_golang/prometheus"
)

// Metrics counts and times requests, per route. Its label values are bounded:
// a caller cannot make new ones up.
type Metrics struct {
	duration *prometheus.HistogramVec
	inFlight *prometheus.GaugeVec
}

// NewMetrics registers the metrics of one server in registry. The same registry
// may serve several servers with different names.
func NewMetrics(registry prometheus.Registerer, server string) (*Metrics, error) {
	labels := prometheus.Labels{"server": server}
	m := &Metrics{
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:        "caas_http_request_duration_seconds",
			Help:        "Time from the request's header to the end of the answer.",
			ConstLabels: labels,
			Buckets:     []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 120},
		}, []string{"route", "method", "code"}),
		inFlight: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name:        "caas_http_requests_in_flight",
			Help:        "Requests being answered now.",
			ConstLabels: labels,
		}, []string{"route"}),
	}
	if err := errors.Join(registry.Register(m.duration), registry.Register(m.inFlight)); err != nil {
		return nil, fmt.Errorf("metrics of server %q: %w", server, err)
	}
	return m, nil
}

// Mux is a middleware for mux.Router.Use: the route is the matched path template.
func (m *Metrics) Mux(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		m.measure(w, r, routeOf(r), next)
	})
}

// Route measures handler under a fixed name.
func (m *Metrics) Route(name string, handler http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		m.measure(w, r, name, handler)
	})
}

func (m *Metrics) measure(w http.ResponseWriter, r *http.Request, route string, next http.Handler) {
	start := time.Now()
	answer := newWriter(w)
	inFlight := m.inFlight.WithLabelValues(route)
	inFlight.Inc()
	panicked := true
	defer func() {
		inFlight.Dec()
		if panicked && answer.code == 0 {
			answer.code = http.StatusInternalServerError // what the server is about to answer
		}
		m.duration.WithLabelValues(route, methodOf(r), codeOf(answer)).Observe(time.Since(start).Seconds())
	}()
	next.ServeHTTP(answer, r)
	panicked = false
}

func routeOf(r *http.Request) string {
	route := mux.CurrentRoute(r)
	if route == nil {
		return "unknown"
	}
	template, err := route.GetPathTemplate()
	if err != nil {
		return "unknown"
	}
	return template
}

func methodOf(r *http.Request) string {
	known := []string{
		http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut,
		http.MethodPatch, http.MethodDelete, http.MethodConnect, http.MethodOptions,
	}
	if slices.Contains(known, r.Method) {
		return r.Method
	}
	return "other"
}

// codeOf is the status code: 101 for a connection that was taken over, and 200
// for a handler that wrote nothing, as net/http does.
func codeOf(w *writer) string {
	switch {
	case w.taken:
		return strconv.Itoa(http.StatusSwitchingProtocols)
	case w.code == 0:
		return strconv.Itoa(http.StatusOK)
	default:
		return strconv.Itoa(w.code)
	}
}
