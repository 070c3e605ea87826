// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"net/http"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/cloudveneto/caas/internal/cli"
	"github.com/cloudveneto/caas/internal/logging"
	"github.com/cloudveneto/caas/sidecar/plugin"
)

// errUnknown is what callers and probes are told before there is a plugin.
var errUnknown = errors.New("the target cluster has not said yet who the sidecar is")

// sidecar is the plugin behind servers that are there before it: who the sidecar is, and so what it may see, only the target
// cluster can say.
type sidecar struct {
	settings *file
	target   *target
	registry *prometheus.Registry

	working atomic.Pointer[working]
}

// working is a plugin and its routes.
type working struct {
	plugin  *plugin.Plugin
	handler http.Handler
}

// ServeHTTP implements http.Handler. Before there is a plugin every request is to come again.
func (s *sidecar) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	now := s.working.Load()
	if now == nil {
		http.Error(w, errUnknown.Error(), http.StatusServiceUnavailable)
		return
	}
	now.handler.ServeHTTP(w, r)
}

// ready tells why the sidecar cannot do its work now.
func (s *sidecar) ready(ctx context.Context) error {
	now := s.working.Load()
	if now == nil {
		return errUnknown
	}
	return now.plugin.Ready(ctx)
}

// work finds out who the sidecar is and runs the plugin. It ends with ctx before there is a plugin, and with lasting
// afterwards.
func (s *sidecar) work(ctx, lasting context.Context) error {
	if becomeTenant(ctx, s.target.client, s.settings) != nil {
		return nil //nolint:nilerr // it is to end before it began
	}
	p, err := plugin.New(plugin.Config{
		Client: s.target.client, LogClient: s.target.logs, Upgrades: s.target.upgrades, Settings: s.settings.Settings, Registry: s.registry,
	})
	if err != nil {
		return err
	}
	s.working.Store(&working{plugin: p, handler: p.Handler()})
	logging.From(ctx).InfoContext(ctx, "interlink sidecar serves", "address", s.settings.Listen, "version", cli.Version())
	return p.Run(lasting)
}
