// SPDX-License-Identifier: Apache-2.0

// Package telemetry owns tracing: where spans go, and how a trace follows a
// request from hop to hop (W3C trace context).
//
// Spans are exported by OTLP over gRPC, and only when the environment says where
// to: OTEL_EXPORTER_OTLP_ENDPOINT (or …_TRACES_ENDPOINT) with the other OTEL_*
// variables, or upstream interLink's ENABLE_TRACING=1 with TELEMETRY_ENDPOINT.
// Otherwise nothing is wrapped and tracing costs nothing.
package telemetry

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"time"

	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/cloudveneto/caas/internal/logging"
)

// Enabled reports whether the environment asks for tracing.
func Enabled() bool {
	for _, name := range []string{"OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "TELEMETRY_ENDPOINT"} {
		if os.Getenv(name) != "" {
			return true
		}
	}
	return os.Getenv("ENABLE_TRACING") == "1"
}

// Setup starts the export of spans under the service's name when the environment
// asks for it. The collector need not be reachable: spans are dropped until it
// is. shutdown sends what is left and is never nil.
func Setup(ctx context.Context, service string) (shutdown func(context.Context) error, err error) {
	if !Enabled() {
		return nothing, nil
	}
	options, err := exporterOptions()
	if err != nil {
		return nothing, fmt.Errorf("tracing: %w", err)
	}
	exporter, err := otlptracegrpc.New(ctx, options...)
	if err != nil {
		return nothing, fmt.Errorf("tracing: %w", err)
	}
	attributes := []attribute.KeyValue{attribute.String("service.name", service)}
	if id := os.Getenv("TELEMETRY_UNIQUE_ID"); id != "" {
		attributes = append(attributes, attribute.String("service.instance.id", id))
	}
	described, err := resource.New(ctx, resource.WithAttributes(attributes...), resource.WithHost(), resource.WithFromEnv())
	if err != nil {
		return nothing, errors.Join(fmt.Errorf("tracing: %w", err), exporter.Shutdown(ctx))
	}
	provider := sdktrace.NewTracerProvider(sdktrace.WithBatcher(exporter), sdktrace.WithResource(described))
	otel.SetTracerProvider(provider)
	otel.SetTextMapPropagator(propagator())
	logger := logging.From(ctx)
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) {
		logger.WarnContext(ctx, "tracing has trouble", "error", err)
	}))
	return provider.Shutdown, nil
}

func nothing(context.Context) error { return nil }

func propagator() propagation.TextMapPropagator { //nolint:ireturn // OpenTelemetry takes the interface
	return propagation.NewCompositeTextMapPropagator(propagation.TraceContext{}, propagation.Baggage{})
}

// Handler makes a span of every request that handler answers, as a child of the
// caller's when the request names one. Without tracing it returns handler itself.
func Handler(handler http.Handler, server string) http.Handler {
	if !Enabled() {
		return handler
	}
	return otelhttp.NewHandler(handler, server,
		otelhttp.WithMeterProvider(noop.NewMeterProvider()),
		otelhttp.WithPropagators(propagator()),
		otelhttp.WithSpanNameFormatter(func(_ string, r *http.Request) string { return server + " " + r.URL.Path }))
}

// Transport makes a span of every request that next sends, and tells the far end
// of it. Without tracing it returns next itself.
func Transport(next http.RoundTripper) http.RoundTripper {
	if !Enabled() {
		return next
	}
	return traced{below: next, RoundTripper: otelhttp.NewTransport(next,
		otelhttp.WithMeterProvider(noop.NewMeterProvider()),
		otelhttp.WithPropagators(propagator()))}
}

// traced traces requests of the transport below.
type traced struct {
	http.RoundTripper

	below http.RoundTripper
}

// CloseIdleConnections lets http.Client reach the transport below.
func (t traced) CloseIdleConnections() {
	if closer, ok := t.below.(interface{ CloseIdleConnections() }); ok {
		closer.CloseIdleConnections()
	}
}

// Flush calls shutdown with a deadline of its own, for use when ctx is done.
func Flush(ctx context.Context, shutdown func(context.Context) error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if err := shutdown(ctx); err != nil {
		logging.From(ctx).WarnContext(ctx, "last spans were lost", "error", err)
	}
}
