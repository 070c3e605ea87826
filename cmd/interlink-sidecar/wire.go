// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/cloudveneto/caas/internal/cli"
	"github.com/cloudveneto/caas/internal/httpserver"
	"github.com/cloudveneto/caas/internal/logging"
	"github.com/cloudveneto/caas/internal/telemetry"
	"github.com/cloudveneto/caas/sidecar/plugin"
)

// serve wires the sidecar: interLink API → server → plugin → target cluster.
func serve(ctx context.Context, settings *file) error {
	logging.CaptureKlog(logging.From(ctx))
	shutdown, err := telemetry.Setup(ctx, "interlink-sidecar")
	if err != nil {
		return err
	}
	defer telemetry.Flush(ctx, shutdown)

	target, err := reach(settings)
	if err != nil {
		return err
	}
	registry, err := processMetrics()
	if err != nil {
		return err
	}
	if err := becomeTenant(ctx, target.client, settings); err != nil {
		return nil // it is to end before it began
	}
	p, err := plugin.New(plugin.Config{
		Client: target.client, LogClient: target.logs, Upgrades: target.upgrades, Settings: settings.Settings, Registry: registry,
	})
	if err != nil {
		return err
	}
	server, err := httpserver.New(httpserver.Config{
		Name: "plugin", Address: settings.Listen, TLS: settings.serverTLS(),
		MaxBody: max(settings.MaxCreateBytes, settings.MaxStatusBytes),
		Handler: telemetry.Handler(p.Handler(), "plugin"),
	})
	if err != nil {
		return err
	}
	servers := []*httpserver.Server{server}
	if settings.OpsListen != "" {
		ops, err := httpserver.NewOps(httpserver.OpsConfig{Address: settings.OpsListen, Ready: p.Ready, Registry: registry})
		if err != nil {
			return errors.Join(err, server.Close())
		}
		servers = append(servers, ops)
	}
	logging.From(ctx).InfoContext(ctx, "interlink sidecar serves", "address", settings.Listen, "version", cli.Version())
	return run(ctx, p, servers)
}

// run ends the plugin after the servers: requests in flight still need it.
func run(ctx context.Context, p *plugin.Plugin, servers []*httpserver.Server) error {
	working, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var following errgroup.Group
	following.Go(func() error {
		defer cancel()
		return p.Run(working)
	})
	serving, ctx := errgroup.WithContext(ctx)
	for _, server := range servers {
		serving.Go(func() error { return server.Run(ctx) })
	}
	err := serving.Wait()
	stop()
	return errors.Join(err, following.Wait())
}

func processMetrics() (*prometheus.Registry, error) {
	registry := prometheus.NewRegistry()
	err := errors.Join(
		registry.Register(collectors.NewGoCollector()),
		registry.Register(collectors.NewProcessCollector(collectors.ProcessCollectorOpts{})),
	)
	return registry, err
}

// target is how the target cluster is reached.
type target struct {
	client, logs *kubernetes.Clientset
	// upgrades sends requests that take over their connection.
	upgrades http.RoundTripper
}

// reach makes one client for everything and one for logs. Logs use a connection
// each: in a shared one, a fast log would hold up creates and watches.
func reach(settings *file) (*target, error) {
	config, err := targetCluster(settings)
	if err != nil {
		return nil, fmt.Errorf("target cluster: %w", err)
	}
	config.QPS, config.Burst = settings.QPS, settings.Burst
	config.WarningHandlerWithContext = quietly{}
	config.UserAgent = "interlink-sidecar"
	upgrading := rest.CopyConfig(config)
	upgrading.NextProtos = []string{"http/1.1"}
	upgrading.Wrap(telemetry.Upgrade)
	config.Wrap(telemetry.Transport)
	own := rest.CopyConfig(config)
	own.NextProtos = []string{"http/1.1"}
	config.ContentType = runtime.ContentTypeProtobuf
	config.AcceptContentTypes = runtime.ContentTypeProtobuf + "," + runtime.ContentTypeJSON
	client, clientErr := newClient(config)
	logs, logsErr := newClient(own)
	upgrades, upgradesErr := rest.TransportFor(upgrading)
	if err := errors.Join(clientErr, logsErr, upgradesErr); err != nil {
		return nil, fmt.Errorf("target cluster: %w", err)
	}
	return &target{client: client, logs: logs, upgrades: again{upgrades}}, nil
}

// newClient makes a client that stands the end of its token.
func newClient(config *rest.Config) (*kubernetes.Clientset, error) {
	transport, err := rest.HTTPClientFor(config)
	if err != nil {
		return nil, err
	}
	transport.Transport = again{transport.Transport}
	return kubernetes.NewForConfigAndClient(config, transport)
}

func targetCluster(settings *file) (*rest.Config, error) {
	if settings.Kubeconfig == "" && settings.Context == "" {
		return rest.InClusterConfig()
	}
	return clientcmd.NewNonInteractiveDeferredLoadingClientConfig(
		&clientcmd.ClientConfigLoadingRules{ExplicitPath: settings.Kubeconfig},
		&clientcmd.ConfigOverrides{CurrentContext: settings.Context},
	).ClientConfig()
}
