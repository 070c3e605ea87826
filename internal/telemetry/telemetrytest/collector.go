// SPDX-License-Identifier: Apache-2.0

// Package telemetrytest has a collector of traces for tests: a real server of OTLP, which keeps what it gets.
//
//	collector := telemetrytest.Start(t)
//	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://"+collector.Address())
package telemetrytest

import (
	"context"
	"net"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	trace "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
)

// Span is one span and who made it.
type Span struct {
	*trace.Span

	// Service is the program's name.
	Service string
}

// Attribute is the text of one of the span's attributes, or "".
func (s Span) Attribute(key string) string {
	for _, attribute := range s.GetAttributes() {
		if attribute.GetKey() == key {
			return attribute.GetValue().GetStringValue()
		}
	}
	return ""
}

// Collector takes spans until its test ends.
type Collector struct {
	collector.UnimplementedTraceServiceServer

	address string

	mu    sync.Mutex
	spans []Span
}

// Start starts a collector on loopback.
func Start(tb testing.TB) *Collector {
	tb.Helper()
	listener, err := (&net.ListenConfig{}).Listen(tb.Context(), "tcp", "127.0.0.1:0")
	require.NoError(tb, err)
	c := &Collector{address: listener.Addr().String()}
	server := grpc.NewServer()
	collector.RegisterTraceServiceServer(server, c)
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.Serve(listener) })
	tb.Cleanup(func() {
		server.Stop()
		serving.Wait()
	})
	return c
}

// Address is where it listens, as host:port.
func (c *Collector) Address() string { return c.address }

// Spans are those that have come.
func (c *Collector) Spans() []Span {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.spans)
}

// Export implements OTLP's service.
func (c *Collector) Export(_ context.Context, request *collector.ExportTraceServiceRequest) (*collector.ExportTraceServiceResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, resource := range request.GetResourceSpans() {
		service := ""
		for _, attribute := range resource.GetResource().GetAttributes() {
			if attribute.GetKey() == "service.name" {
				service = attribute.GetValue().GetStringValue()
			}
		}
		for _, scope := range resource.GetScopeSpans() {
			for _, span := range scope.GetSpans() {
				c.spans = append(c.spans, Span{Span: span, Service: service})
			}
		}
	}
	return &collector.ExportTraceServiceResponse{}, nil
}
