// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"net/http"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/cloudveneto/caas/internal/cli"
	"github.com/cloudveneto/caas/internal/logging"
	"github.com/cloudveneto/caas/sidecar/plugin"
)

// What callers and probes are told before there is a plugin.
var (
	errUnknown    = errors.New("the target cluster has not said yet who the sidecar is")
	errNoDelegate = errors.New("the target cluster does not let the sidecar impersonate the user that its configuration names")
)

// sidecar is the plugin behind servers that are there before it: who the sidecar is, and so what it may see, only the target
// cluster can say.
type sidecar struct {
	served   served
	target   *target
	registry prometheus.Registerer

	working atomic.Pointer[working]
	// forbidden is true while the target cluster does not take the sidecar for whom it is to be.
	forbidden atomic.Bool
}

// working is a plugin and its routes.
type working struct {
	plugin  *plugin.Plugin
	handler http.Handler
}

// newSidecar makes the sidecar of one client, or of all.
func newSidecar(settings *file, one served, registry prometheus.Registerer) (*sidecar, error) {
	target, err := reach(settings, one.access)
	if err != nil {
		return nil, err
	}
	if one.name != "" {
		registry = prometheus.WrapRegistererWith(prometheus.Labels{"client": one.name}, registry)
	}
	return &sidecar{served: one, target: target, registry: registry}, nil
}

// ServeHTTP implements http.Handler. Before there is a plugin every request is to come again.
func (s *sidecar) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	now := s.working.Load()
	if now == nil {
		http.Error(w, s.why().Error(), http.StatusServiceUnavailable)
		return
	}
	now.handler.ServeHTTP(w, r)
}

// Ready tells why the sidecar cannot do its work now.
func (s *sidecar) Ready(ctx context.Context) error {
	now := s.working.Load()
	if now == nil {
		return s.why()
	}
	return now.plugin.Ready(ctx)
}

// why there is no plugin yet.
func (s *sidecar) why() error {
	if s.forbidden.Load() {
		return errNoDelegate
	}
	return errUnknown
}

// work finds out who the sidecar is and runs the plugin. It ends with ctx before there is a plugin, and with lasting
// afterwards.
func (s *sidecar) work(ctx, lasting context.Context) error {
	if s.served.name != "" {
		logger := logging.From(ctx).With("client", s.served.name)
		ctx, lasting = logging.Into(ctx, logger), logging.Into(lasting, logger)
	}
	settings := s.served.settings
	failed := func(err error) { s.forbidden.Store(s.served.access.Impersonate != nil && apierrors.IsForbidden(err)) }
	if becomeTenant(ctx, s.target.client, &settings, failed) != nil {
		return nil //nolint:nilerr // it is to end before it began
	}
	p, err := plugin.New(plugin.Config{
		Client: s.target.client, LogClient: s.target.logs, Upgrades: s.target.upgrades, Settings: settings,
		Origins: s.served.origins, Registry: s.registry,
	})
	if err != nil {
		return err
	}
	s.working.Store(&working{plugin: p, handler: p.Handler()})
	logging.From(ctx).InfoContext(ctx, "interlink sidecar serves", "version", cli.Version())
	return p.Run(lasting)
}
