// SPDX-License-Identifier: Apache-2.0

package telemetry

import (
	"net/http"
	"strconv"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

// Upgrade is Transport for requests that take over the connection: the span is
// that of opening it. The query is left out, because a command can hold secrets.
// Without tracing it returns next itself.
func Upgrade(next http.RoundTripper) http.RoundTripper {
	if !Enabled() {
		return next
	}
	return upgrade{next}
}

type upgrade struct{ next http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (u upgrade) RoundTrip(r *http.Request) (*http.Response, error) {
	ctx, span := otel.Tracer(tracerName).Start(r.Context(), "open "+r.URL.Path,
		trace.WithSpanKind(trace.SpanKindClient),
		trace.WithAttributes(attribute.String("http.request.method", r.Method), attribute.String("server.address", r.URL.Host)))
	defer span.End()
	request := r.Clone(ctx)
	propagator().Inject(ctx, propagation.HeaderCarrier(request.Header))
	answer, err := u.next.RoundTrip(request)
	if err != nil {
		span.SetStatus(codes.Error, "not opened")
		return nil, err
	}
	span.SetAttributes(attribute.String("http.response.status_code", strconv.Itoa(answer.StatusCode)))
	return answer, nil
}

// WrappedRoundTripper lets client-go find what is below.
func (u upgrade) WrappedRoundTripper() http.RoundTripper { return u.next }
