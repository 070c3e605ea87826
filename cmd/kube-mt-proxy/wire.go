// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"net/http"
	"net/url"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/cloudveneto/caas/internal/cli"
	"github.com/cloudveneto/caas/internal/httpserver"
	"github.com/cloudveneto/caas/internal/logging"
	"github.com/cloudveneto/caas/internal/service"
	"github.com/cloudveneto/caas/internal/telemetry"
	"github.com/cloudveneto/caas/multitenancy/proxy"
)

// serve wires the proxy: user → proxy → API server.
func (o *options) serve(ctx context.Context, settings *file) error {
	registry, flush, err := service.Observe(ctx, program)
	if err != nil {
		return err
	}
	defer flush()
	reach := proxy.NewTransport(settings.authorities)
	defer reach.CloseIdleConnections()
	transport := telemetry.Transport(reach)
	handler, err := proxy.New(proxy.Config{
		Server: settings.server, Transport: transport, Policy: settings.policy,
		ListProject: settings.ListMode == listProject, Sensitive: settings.Sensitive,
		Limits:  proxy.Limits{CallerTTL: settings.Callers.TTL.Duration, Callers: settings.Callers.Entries},
		Metrics: registry,
	})
	if err != nil {
		return err
	}
	servers, err := newServers(o, settings, handler, alive(settings.server, transport), registry)
	if err != nil {
		return err
	}
	logging.From(ctx).InfoContext(ctx, "proxy starts", "address", servers[0].Addr().String(), "server", settings.server.Host, "version", cli.Version())
	return service.Run(ctx, servers)
}

func newServers(o *options, settings *file, handler http.Handler, ready func(context.Context) error, registry *prometheus.Registry) ([]*httpserver.Server, error) {
	users, err := httpserver.New(httpserver.Config{
		Name: "proxy", Address: settings.Listen, ReusePort: settings.ReusePort,
		// The proxy limits bodies itself: what goes to pods has no limit.
		MaxBody: -1,
		TLS:     &httpserver.TLS{CertFile: settings.TLS.CertFile, KeyFile: settings.TLS.KeyFile},
		Handler: telemetry.Handler(handler, "proxy"),
	})
	if err != nil {
		return nil, err
	}
	ops := httpserver.OpsConfig{Address: settings.OpsListen, Ready: ready, Registry: registry, Pprof: o.pprof}
	if ops.Address == nowhere {
		ops.Address = ""
	}
	return service.WithOps(users, ops)
}

// alive tells that the API server answers, whatever it does.
func alive(server *url.URL, transport http.RoundTripper) func(context.Context) error {
	return func(ctx context.Context) error {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, server.JoinPath("/readyz").String(), http.NoBody)
		if err != nil {
			return err
		}
		answer, err := transport.RoundTrip(request)
		if err != nil {
			return fmt.Errorf("API server: %w", err)
		}
		defer func() { _ = answer.Body.Close() }() // not read
		if answer.StatusCode >= http.StatusInternalServerError {
			return fmt.Errorf("API server: %s", answer.Status)
		}
		return nil
	}
}
