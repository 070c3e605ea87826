// SPDX-License-Identifier: Apache-2.0

package openstack

import (
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are what the calls to OpenStack cost.
type metrics struct {
	calls   *prometheus.CounterVec
	seconds *prometheus.HistogramVec
	lists   *prometheus.CounterVec
}

func newMetrics() *metrics {
	return &metrics{
		calls: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "osn_openstack_requests_total",
			Help: "Requests to OpenStack, by what came of them: a class of status codes, or error.",
		}, []string{"provider", "service", "method", "result"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "osn_openstack_request_duration_seconds",
			Help:    "Time until OpenStack's answer began.",
			Buckets: []float64{.01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
		}, []string{"provider", "service", "method"}),
		lists: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "osn_openstack_server_lists_total",
			Help: "Lists of a project's servers that were asked for; what all its nodes share counts once.",
		}, []string{"provider"}),
	}
}

func (m *metrics) register(registerer prometheus.Registerer) error {
	if registerer == nil {
		return nil
	}
	return errors.Join(registerer.Register(m.calls), registerer.Register(m.seconds), registerer.Register(m.lists))
}

// metered counts the requests of one provider.
type metered struct {
	next     http.RoundTripper
	metrics  *metrics
	provider string
	service  func(address string) string
}

func (t *metered) RoundTrip(request *http.Request) (*http.Response, error) {
	start := time.Now()
	answer, err := t.next.RoundTrip(request)
	service := t.service(request.URL.String())
	t.metrics.seconds.WithLabelValues(t.provider, service, request.Method).Observe(time.Since(start).Seconds())
	t.metrics.calls.WithLabelValues(t.provider, service, request.Method, result(answer, err)).Inc()
	return answer, err
}

// result keeps apart the codes that tell of different troubles.
func result(answer *http.Response, err error) string {
	switch {
	case err != nil:
		return "error"
	case answer.StatusCode < http.StatusBadRequest:
		return strconv.Itoa(answer.StatusCode/100) + "xx"
	case answer.StatusCode == http.StatusInternalServerError || answer.StatusCode > http.StatusServiceUnavailable:
		return "5xx"
	default:
		return strconv.Itoa(answer.StatusCode)
	}
}
