// SPDX-License-Identifier: Apache-2.0

package telemetry_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"

	"github.com/cloudveneto/caas/internal/telemetry"
	"github.com/cloudveneto/caas/internal/telemetry/telemetrytest"
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

// TestTraceFollowsARequest runs a client and a server with a real collector.
func TestTraceFollowsARequest(t *testing.T) {
	clearEnvironment(t)
	kept := telemetrytest.Start(t)
	t.Setenv("ENABLE_TRACING", "1")
	t.Setenv("TELEMETRY_ENDPOINT", kept.Address())
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
	working, end := telemetry.Start(t.Context(), "work", attribute.String("pod", "p"))
	request, err = http.NewRequestWithContext(working, http.MethodPost, api.URL+"/exec?command=secret", nil)
	require.NoError(t, err)
	answer, err = upgrade.RoundTrip(request)
	require.NoError(t, err)
	_, _ = io.Copy(io.Discard, answer.Body)
	require.NoError(t, answer.Body.Close())
	end(errors.New("secret"))
	api.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	require.NoError(t, shutdown(ctx))

	spans := kept.Spans()
	require.Len(t, spans, 5)
	byName := map[string]telemetrytest.Span{}
	for _, span := range spans {
		byName[span.GetName()] = span
	}
	called, work, opened := byName["api /create"], byName["work"], byName["open /exec"]
	assert.Equal(t, byName["HTTP POST"].GetTraceId(), called.GetTraceId(), "one trace over both ends")
	assert.Equal(t, byName["HTTP POST"].GetSpanId(), called.GetParentSpanId())
	assert.Equal(t, opened.GetSpanId(), byName["api /exec"].GetParentSpanId(), "upgrades, too")
	assert.Equal(t, work.GetSpanId(), opened.GetParentSpanId(), "what was asked for in the course of work is part of it")
	assert.Equal(t, "p", work.Attribute("pod"))
	for _, span := range spans {
		assert.NotContains(t, span.String(), "secret", "a command is nobody's business")
		assert.Equal(t, "test", span.Service)
	}
}
