// SPDX-License-Identifier: Apache-2.0

// Package hop measures the requests that a program sends to the next one, so that of a chain of programs it can be told
// which hop is slow. All programs use the same two metrics, told apart by the label "to".
//
//	target, err := hop.New(registry, "target", hop.Kubernetes)
//	config.Wrap(target.Transport)
//
// Put it nearest to the network: then each try is measured, and nothing but the network and the far side.
//
// It imports nothing of this repository.
package hop

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Naming tells what a request does, in few words of which there are few: they are a label's values. It MUST NOT repeat
// what users have named.
type Naming func(*http.Request) string

// Hop counts and times the requests to one other program.
type Hop struct {
	naming   Naming
	duration *prometheus.HistogramVec
	inFlight *prometheus.GaugeVec
}

// New registers the metrics of requests to a program in registry, which may have those to others too.
func New(registry prometheus.Registerer, to string, naming Naming) (*Hop, error) {
	labels := prometheus.Labels{"to": to}
	h := &Hop{
		naming: naming,
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:        "caas_hop_duration_seconds",
			Help:        "Time from sending a request until its answer begins, each try by itself; code 0 means that there was none.",
			ConstLabels: labels,
			Buckets:     []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 120},
		}, []string{"operation", "code"}),
		inFlight: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name:        "caas_hop_requests_in_flight",
			Help:        "Requests that were sent and whose answer has not begun.",
			ConstLabels: labels,
		}, []string{"operation"}),
	}
	if err := errors.Join(registry.Register(h.duration), registry.Register(h.inFlight)); err != nil {
		return nil, fmt.Errorf("metrics of requests to %q: %w", to, err)
	}
	return h, nil
}

// Transport measures what next sends. Answers that take over their connection are none of its business once they have
// begun.
func (h *Hop) Transport(next http.RoundTripper) http.RoundTripper { return transport{h, next} }

type transport struct {
	hop  *Hop
	next http.RoundTripper
}

// RoundTrip implements http.RoundTripper.
func (t transport) RoundTrip(r *http.Request) (*http.Response, error) {
	operation := t.hop.naming(r)
	inFlight := t.hop.inFlight.WithLabelValues(operation)
	inFlight.Inc()
	defer inFlight.Dec()
	start, code := time.Now(), 0
	answer, err := t.next.RoundTrip(r)
	if err == nil {
		code = answer.StatusCode
	}
	t.hop.duration.WithLabelValues(operation, strconv.Itoa(code)).Observe(time.Since(start).Seconds())
	return answer, err
}

// CloseIdleConnections lets http.Client reach the transport below.
func (t transport) CloseIdleConnections() {
	if closer, ok := t.next.(interface{ CloseIdleConnections() }); ok {
		closer.CloseIdleConnections()
	}
}

// WrappedRoundTripper lets client-go find what is below.
func (t transport) WrappedRoundTripper() http.RoundTripper { return t.next }
