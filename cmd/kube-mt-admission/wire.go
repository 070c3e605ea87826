// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/cloudveneto/caas/internal/cli"
	"github.com/cloudveneto/caas/internal/httpserver"
	"github.com/cloudveneto/caas/internal/logging"
	"github.com/cloudveneto/caas/internal/service"
	"github.com/cloudveneto/caas/internal/telemetry"
	"github.com/cloudveneto/caas/multitenancy/admission"
)

const (
	program = "kube-mt-admission"
	// maxReview has room for the largest object, before and after.
	maxReview = 8 << 20
)

// serve wires the webhook: API server → server → admitter → index ← watcher ← API server.
func (o *options) serve(ctx context.Context, settings *file) error {
	registry, flush, err := service.Observe(ctx, program)
	if err != nil {
		return err
	}
	defer flush()
	config, err := clusterConfig(o)
	if err != nil {
		return fmt.Errorf("cluster: %w", err)
	}
	index, nodes := admission.NewIndex(settings.Quarantine.Duration, time.Now), admission.NewNodes()
	watcher, err := admission.NewWatcher(config, settings.policy, index, nodes)
	if err != nil {
		return err
	}
	admitter, err := admission.New(admission.Config{
		Index: index, Nodes: nodes, Lookup: watcher, Policy: settings.policy, Rules: &settings.Rules,
		Ready: watcher.ReadyFor, Metrics: registry,
	})
	if err != nil {
		return err
	}
	servers, err := newServers(settings, admitter, watcher, registry)
	if err != nil {
		return err
	}
	logging.From(ctx).InfoContext(ctx, "admission webhook starts", "address", settings.Listen, "version", cli.Version())
	return service.Run(ctx, servers, watcher.Run)
}

// newServers makes the webhook's server and that for health and metrics.
func newServers(settings *file, admitter *admission.Admitter, watcher *admission.Watcher, registry *prometheus.Registry) ([]*httpserver.Server, error) {
	ready := func(context.Context) error { return watcher.Ready() }
	webhook, err := httpserver.New(httpserver.Config{
		Name: "webhook", Address: settings.Listen, Handler: telemetry.Handler(admitter.Router(), program),
		ReusePort: settings.ReusePort, Ready: ready,
		TLS:     settings.TLS.Server(),
		MaxBody: maxReview, BodyTimeout: 5 * time.Second, WriteTimeout: 5 * time.Second,
	})
	if err != nil {
		return nil, err
	}
	return service.WithOps(webhook, httpserver.OpsConfig{Address: settings.OpsListen, Registry: registry, Ready: ready})
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
