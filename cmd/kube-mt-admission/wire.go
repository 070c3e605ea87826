// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/cloudveneto/caas/internal/cli"
	"github.com/cloudveneto/caas/internal/httpserver"
	"github.com/cloudveneto/caas/internal/logging"
	"github.com/cloudveneto/caas/internal/telemetry"
	"github.com/cloudveneto/caas/multitenancy/admission"
)

const (
	program = "kube-mt-admission"
	// maxReview has room for the largest object, before and after.
	maxReview = 8 << 20
)

// serve wires the webhook: API server → server → admitter → index ← watcher ← API server.
func serve(ctx context.Context, o *options, settings *file) error {
	logging.CaptureKlog(logging.From(ctx))
	shutdown, err := telemetry.Setup(ctx, program)
	if err != nil {
		return err
	}
	defer telemetry.Flush(ctx, shutdown)

	config, err := clusterConfig(o)
	if err != nil {
		return fmt.Errorf("cluster: %w", err)
	}
	registry, err := processMetrics()
	if err != nil {
		return err
	}
	index, nodes := admission.NewIndex(settings.Quarantine.Duration, time.Now), admission.NewNodes()
	watcher, err := admission.NewWatcher(config, settings.policy, index, nodes)
	if err != nil {
		return err
	}
	admitter, err := admission.New(admission.Config{
		Index: index, Nodes: nodes, Lookup: watcher, Policy: settings.policy, Rules: &settings.Rules,
		Ready: watcher.Ready, Metrics: registry,
	})
	if err != nil {
		return err
	}
	servers, err := newServers(settings, admitter, watcher, registry)
	if err != nil {
		return err
	}
	logging.From(ctx).InfoContext(ctx, "admission webhook starts", "address", settings.Listen, "version", cli.Version())
	serving, ctx := errgroup.WithContext(ctx)
	serving.Go(func() error { return watcher.Run(ctx) })
	for _, server := range servers {
		serving.Go(func() error { return server.Run(ctx) })
	}
	return serving.Wait()
}

// newServers makes the webhook's server and that for health and metrics.
func newServers(settings *file, admitter *admission.Admitter, watcher *admission.Watcher, registry *prometheus.Registry) ([]*httpserver.Server, error) {
	webhook, err := httpserver.New(httpserver.Config{
		Name: "webhook", Address: settings.Listen, Handler: telemetry.Handler(admitter.Router(), program),
		ReusePort: settings.ReusePort, Ready: func(context.Context) error { return watcher.Ready() },
		TLS: &httpserver.TLS{
			CertFile: settings.TLS.CertFile, KeyFile: settings.TLS.KeyFile,
			ClientCAFile: settings.TLS.ClientCAFile, RequireClientCert: true,
		},
		MaxBody: maxReview, BodyTimeout: 5 * time.Second, WriteTimeout: 5 * time.Second,
	})
	if err != nil {
		return nil, err
	}
	servers := []*httpserver.Server{webhook}
	if settings.OpsListen == "" {
		return servers, nil
	}
	ops, err := httpserver.NewOps(httpserver.OpsConfig{
		Address: settings.OpsListen, Registry: registry, Ready: func(context.Context) error { return watcher.Ready() },
	})
	if err != nil {
		return nil, errors.Join(err, webhook.Close())
	}
	return append(servers, ops), nil
}

func processMetrics() (*prometheus.Registry, error) {
	registry := prometheus.NewRegistry()
	err := errors.Join(
		registry.Register(collectors.NewGoCollector()),
		registry.Register(collectors.NewProcessCollector(collectors.ProcessCollectorOpts{})),
	)
	return registry, err
}

func clusterConfig(o *options) (*rest.Config, error) {
	config, err := clientcmd.BuildConfigFromFlags("", o.kubeconfig)
	if err != nil {
		return nil, err
	}
	config.QPS = -1 // live lookups are bounded by the watcher
	config.UserAgent = program
	config.Wrap(telemetry.Transport)
	return config, nil
}
