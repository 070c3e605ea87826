// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"net"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/cloudveneto/caas/internal/httpserver"
	"github.com/cloudveneto/caas/internal/logging"
	"github.com/cloudveneto/caas/internal/service"
	"github.com/cloudveneto/caas/internal/telemetry"
	"github.com/cloudveneto/caas/sidecar/api"
)

// serve runs the API server and its operations port until ctx is done.
func serve(ctx context.Context, settings *api.Settings, o *options) error {
	registry, flush, err := service.Observe(ctx, "interlink-api")
	if err != nil {
		return err
	}
	defer flush()
	gatewayConfig, err := settings.Config()
	if err != nil {
		return err
	}
	gateway, handler, err := newGateway(gatewayConfig, registry)
	if err != nil {
		return err
	}
	defer gateway.Close()
	if gatewayConfig.Authenticate == nil {
		logging.From(ctx).WarnContext(ctx, "callers are not authenticated", "insecureNoAuth", o.insecureNoAuth)
	}
	serverConfig, err := settings.Server()
	if err != nil {
		return err
	}
	serverConfig.Handler = telemetry.Handler(handler, "interlink-api")
	servers, err := listen(settings, serverConfig, httpserver.OpsConfig{Ready: gateway.Ready, Registry: registry, Pprof: o.pprof})
	if err != nil {
		return err
	}
	return service.Run(ctx, servers)
}

// newGateway makes what answers virtual kubelets, and its routes.
func newGateway(config api.Config, registry prometheus.Registerer) (*api.Gateway, http.Handler, error) {
	config.WrapTransport, config.WrapUpgrade, config.Registry = telemetry.Transport, telemetry.Upgrade, registry
	gateway, err := api.New(config)
	if err != nil {
		return nil, nil, err
	}
	metrics, err := httpserver.NewMetrics(registry, "api")
	if err != nil {
		return nil, nil, err
	}
	return gateway, gateway.Handler(metrics.Mux), nil
}

// listen opens all ports, or none.
func listen(settings *api.Settings, main httpserver.Config, ops httpserver.OpsConfig) (servers []*httpserver.Server, err error) {
	defer func() {
		if err != nil {
			for _, server := range servers {
				_ = server.Close()
			}
		}
	}()
	server, err := httpserver.New(main)
	if err != nil {
		return servers, err
	}
	servers = append(servers, server)
	if settings.OpsAddress != "none" {
		ops.Address = settings.OpsAddress
		if server, err = httpserver.NewOps(ops); err != nil {
			return servers, err
		}
		servers = append(servers, server)
	}
	if settings.Pprof.Enabled {
		address := net.JoinHostPort(settings.Pprof.Address, settings.Pprof.Port)
		if server, err = httpserver.NewOps(httpserver.OpsConfig{Address: address, Pprof: true}); err != nil {
			return servers, err
		}
		servers = append(servers, server)
	}
	return servers, nil
}
