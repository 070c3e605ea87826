// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"net"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/cloudveneto/caas/internal/cli"
	"github.com/cloudveneto/caas/internal/httpserver"
	"github.com/cloudveneto/caas/internal/logging"
	"github.com/cloudveneto/caas/internal/service"
	"github.com/cloudveneto/caas/internal/telemetry"
	"github.com/cloudveneto/caas/multitenancy/authz"
)

const (
	program     = "kube-mt-authz"
	dialTimeout = 5 * time.Second
)

// serve wires the webhook: API server → rules → index, and the API server again for what the index does not know.
func (o *options) serve(ctx context.Context, settings *file) error {
	registry, flush, err := service.Observe(ctx, program)
	if err != nil {
		return err
	}
	defer flush()
	index, authorizer, err := newAuthorizer(settings, registry)
	if err != nil {
		return err
	}
	servers, err := newServers(o, settings, index, authorizer, registry)
	if err != nil {
		return err
	}
	logging.From(ctx).InfoContext(ctx, "webhook starts", "address", settings.Listen, "version", cli.Version())
	return service.Run(ctx, servers, index.Run)
}

func newAuthorizer(settings *file, registry *prometheus.Registry) (*authz.Index, *authz.Authorizer, error) {
	config, err := clientcmd.BuildConfigFromFlags("", settings.Kubeconfig)
	if err != nil {
		return nil, nil, fmt.Errorf("cluster: %w", err)
	}
	config.QPS = -1 // lookups have limits of their own, per user
	config.UserAgent = program
	config.Wrap(telemetry.Transport)
	watching, err := metadata.NewForConfig(config)
	if err != nil {
		return nil, nil, fmt.Errorf("cluster: %w", err)
	}
	// A list of many objects must not hold up a lookup that a decision waits for. client-go shares the connections of
	// configurations that are equal; a dialer makes one differ.
	own := rest.CopyConfig(config)
	own.Dial = (&net.Dialer{Timeout: dialTimeout, KeepAlive: dialTimeout}).DialContext
	asking, err := metadata.NewForConfig(own)
	if err != nil {
		return nil, nil, fmt.Errorf("cluster: %w", err)
	}
	kinds, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		return nil, nil, fmt.Errorf("cluster: %w", err)
	}
	index, err := authz.NewIndex(authz.IndexConfig{Metadata: watching, Discovery: kinds, Wants: settings.rules.Wants})
	if err != nil {
		return nil, nil, err
	}
	if err := registry.Register(index.Collector()); err != nil {
		return nil, nil, fmt.Errorf("metrics: %w", err)
	}
	lookup, err := authz.NewLookup(authz.LookupConfig{
		Metadata: asking, Version: index.Version, Rate: settings.Lookups.PerSecond, Burst: settings.Lookups.Burst,
	})
	if err != nil {
		return nil, nil, err
	}
	authorizer, err := authz.New(authz.Config{Rules: settings.rules, Facts: index, Objects: lookup, Metrics: registry})
	return index, authorizer, err
}

func newServers(o *options, settings *file, index *authz.Index, authorizer *authz.Authorizer, registry *prometheus.Registry) ([]*httpserver.Server, error) {
	webhook, err := httpserver.New(httpserver.Config{
		Name: "webhook", Address: settings.Listen, ReusePort: settings.ReusePort, Ready: index.Check, MaxBody: authz.MaxBody,
		TLS:     settings.TLS.Server(),
		Handler: telemetry.Handler(authorizer.Handler(), "webhook"),
	})
	if err != nil {
		return nil, err
	}
	return service.WithOps(webhook, httpserver.OpsConfig{Address: o.opsListen, Ready: index.Check, Registry: registry, Pprof: o.pprof})
}
