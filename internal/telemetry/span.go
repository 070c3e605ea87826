// SPDX-License-Identifier: Apache-2.0

package telemetry

import (
	"context"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
)

// tracerName is who makes the spans that are not otelhttp's.
const tracerName = "github.com/cloudveneto/caas/internal/telemetry"

// Start begins a span of work that sends several requests, which become its children. end MUST be called, with what
// became of the work; the error's text stays here, since it may repeat what users wrote. Without tracing it does nothing.
func Start(ctx context.Context, name string, about ...attribute.KeyValue) (spanning context.Context, end func(error)) {
	if !Enabled() {
		return ctx, func(error) {}
	}
	spanning, span := otel.Tracer(tracerName).Start(ctx, name, trace.WithAttributes(about...))
	return spanning, func(err error) {
		if err != nil {
			span.SetStatus(codes.Error, "not done")
		}
		span.End()
	}
}
