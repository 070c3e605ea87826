// SPDX-License-Identifier: Apache-2.0

package service

import (
	"context"
	"errors"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"golang.org/x/sync/errgroup"

	"github.com/cloudveneto/caas/internal/httpserver"
	"github.com/cloudveneto/caas/internal/logging"
	"github.com/cloudveneto/caas/internal/telemetry"
)

// Observe makes a program tell what it does: Kubernetes' libraries log like itself, traces are exported if the environment
// asks for it, and the registry has the metrics of the process. Clients of clusters that are made afterwards soon notice a
// connection that is dead. The caller MUST call flush at the end.
func Observe(ctx context.Context, program string) (registry *prometheus.Registry, flush func(), err error) {
	logging.CaptureKlog(logging.From(ctx))
	if err := giveUpSoon(); err != nil {
		return nil, nil, err
	}
	registry = prometheus.NewRegistry()
	if err := errors.Join(
		registry.Register(collectors.NewGoCollector()),
		registry.Register(collectors.NewProcessCollector(collectors.ProcessCollectorOpts{})),
	); err != nil {
		return nil, nil, fmt.Errorf("metrics: %w", err)
	}
	shutdown, err := telemetry.Setup(ctx, program)
	if err != nil {
		return nil, nil, err
	}
	return registry, func() { telemetry.Flush(ctx, shutdown) }, nil
}

// WithOps returns a server and one for operations, which there is none of without an address. If that cannot be, main is
// closed.
func WithOps(main *httpserver.Server, ops httpserver.OpsConfig) ([]*httpserver.Server, error) {
	if ops.Address == "" {
		return []*httpserver.Server{main}, nil
	}
	server, err := httpserver.NewOps(ops)
	if err != nil {
		return nil, errors.Join(err, main.Close())
	}
	return []*httpserver.Server{main, server}, nil
}

// Run runs servers and tasks until ctx is done or one of them fails, which ends the others, and returns when all have ended.
func Run(ctx context.Context, servers []*httpserver.Server, tasks ...func(context.Context) error) error {
	running, ctx := errgroup.WithContext(ctx)
	for _, server := range servers {
		running.Go(func() error { return server.Run(ctx) })
	}
	for _, task := range tasks {
		running.Go(func() error { return task(ctx) })
	}
	return running.Wait()
}
