// SPDX-License-Identifier: Apache-2.0

package telemetry_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	trace "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"

	"github.com/cloudveneto/caas/internal/telemetry"
)

// These tests set environment variables and OpenTelemetry's process-wide
// provider, so they are not parallel.

func clearEnvironment(t *testing.T) {
	t.Helper()
	for _, name := range []string{
		"OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "ENABLE_TRACING", "TELEMETRY_ENDPOINT",
		"TELEMETRY_CA_CRT_FILEPATH", "TELEMETRY_CLIENT_CRT_FILEPATH", "TELEMETRY_CLIENT_KEY_FILEPATH", "TELEMETRY_UNIQUE_ID",
	} {
		t.Setenv(name, "")
	}
}

func TestNothingIsWrappedUnlessAskedFor(t *testing.T) {
	clearEnvironment(t)
	require.False(t, telemetry.Enabled())
	shutdown, err := telemetry.Setup(t.Context(), "test")
	require.NoError(t, err)
	telemetry.Flush(t.Context(), shutdown)
	transport := &http.Transport{}
	assert.Same(t, transport, telemetry.Transport(transport))
	assert.Same(t, transport, telemetry.Upgrade(transport))
	mux := http.NewServeMux()
	assert.Same(t, mux, telemetry.Handler(mux, "test"))
}

func TestBadSettingsAreNamed(t *testing.T) {
	clearEnvironment(t)
	t.Setenv("TELEMETRY_ENDPOINT", "127.0.0.1:1")
	t.Setenv("TELEMETRY_CA_CRT_FILEPATH", "/nope")
	shutdown, err := telemetry.Setup(t.Context(), "test")
	require.ErrorContains(t, err, "TELEMETRY_CA_CRT_FILEPATH: open /nope")
	require.NoError(t, shutdown(t.Context()))
}

// traces is a collector that keeps what it gets.
type traces struct {
	collector.UnimplementedTraceServiceServer

	mu    sync.Mutex
	spans []*trace.Span
}

func (c *traces) Export(_ context.Context, request *collector.ExportTraceServiceRequest) (*collector.ExportTraceServiceResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, resource := range request.GetResourceSpans() {
		for _, scope := range resource.GetScopeSpans() {
			c.spans = append(c.spans, scope.GetSpans()...)
		}
	}
	return &collector.ExportTraceServiceResponse{}, nil
}

// TestTraceFollowsARequest runs a client and a server with a real collector.
func TestTraceFollowsARequest(t *testing.T) {
	clearEnvironment(t)
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	kept := &traces{}
	server := grpc.NewServer()
	collector.RegisterTraceServiceServer(server, kept)
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	t.Setenv("ENABLE_TRACING", "1")
	t.Setenv("TELEMETRY_ENDPOINT", listener.Addr().String())
	t.Setenv("TELEMETRY_UNIQUE_ID", "one")

	shutdown, err := telemetry.Setup(t.Context(), "test")
	require.NoError(t, err)
	flushed := false
	api := httptest.NewServer(telemetry.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		assert.NotEmpty(t, r.Header.Get("Traceparent"))
		flushed = http.NewResponseController(w).Flush() == nil
		_, _ = io.WriteString(w, "ok")
	}), "api"))
	t.Cleanup(api.Close)
	client := &http.Client{Transport: telemetry.Transport(&http.Transport{DisableKeepAlives: true})}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, api.URL+"/create", nil)
	require.NoError(t, err)
	answer, err := client.Do(request)
	require.NoError(t, err)
	_, _ = io.Copy(io.Discard, answer.Body)
	require.NoError(t, answer.Body.Close())
	assert.True(t, flushed, "streams need the flusher")
	upgrade := telemetry.Upgrade(&http.Transport{DisableKeepAlives: true})
	request, err = http.NewRequestWithContext(t.Context(), http.MethodPost, api.URL+"/exec?command=secret", nil)
	require.NoError(t, err)
	answer, err = upgrade.RoundTrip(request)
	require.NoError(t, err)
	_, _ = io.Copy(io.Discard, answer.Body)
	require.NoError(t, answer.Body.Close())
	api.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	require.NoError(t, shutdown(ctx))

	kept.mu.Lock()
	defer kept.mu.Unlock()
	require.Len(t, kept.spans, 4)
	assert.Equal(t, kept.spans[0].GetTraceId(), kept.spans[1].GetTraceId(), "one trace over both ends")
	names := []string{kept.spans[0].GetName(), kept.spans[1].GetName()}
	assert.Contains(t, names, "api /create")
	assert.Equal(t, kept.spans[2].GetTraceId(), kept.spans[3].GetTraceId(), "upgrades, too")
	for _, span := range kept.spans {
		assert.NotContains(t, span.String(), "secret", "a command is nobody's business")
	}
}
