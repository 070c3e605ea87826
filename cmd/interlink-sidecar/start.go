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
	"github.com/cloudveneto/caas/internal/hop"
	"github.com/cloudveneto/caas/internal/logging"
	"github.com/cloudveneto/caas/sidecar/plugin"
)

// What callers and probes are told before there is a plugin.
var (
	errUnknown    = errors.New("the target cluster has not said yet who the sidecar is")
	errRejected   = errors.New("the target cluster does not accept the sidecar's credentials; the sidecar's log says why")
	errNoDelegate = errors.New("the target cluster does not let the sidecar impersonate the user that its configuration names")
	errNoTarget   = errors.New("the sidecar's configuration for the target cluster cannot be used; its log says why")
)

// sidecar is the plugin behind servers that are there before it: who the sidecar is, and so what it may see, only the target
// cluster can say.
type sidecar struct {
	served   served
	reach    func() (*target, error)
	registry prometheus.Registerer

	working atomic.Pointer[working]
	// trouble is why there is no plugin, if it is anything but that the cluster has not answered.
	trouble atomic.Pointer[error]
}

// working is a plugin and its routes.
type working struct {
	plugin  *plugin.Plugin
	handler http.Handler
}

// newSidecar makes the sidecar of one client, or of all, for whom it is an error that the target cluster cannot be reached as
// the configuration says. A client's own trouble is tried again: it must not stop the others.
func newSidecar(settings *file, one served, registry prometheus.Registerer) (*sidecar, error) {
	if one.name != "" {
		registry = prometheus.WrapRegistererWith(prometheus.Labels{"client": one.name}, registry)
	}
	toTarget, err := hop.New(registry, "target", hop.Kubernetes)
	if err != nil {
		return nil, err
	}
	s := &sidecar{served: one, registry: registry, reach: func() (*target, error) { return reach(settings, one.access, toTarget) }}
	if one.name != "" {
		return s, nil
	}
	known, err := s.reach()
	s.reach = func() (*target, error) { return known, nil }
	return s, err
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
	if trouble := s.trouble.Load(); trouble != nil {
		return *trouble
	}
	return errUnknown
}

// troubled remembers what keeps the sidecar from its work; nil is that the cluster has not answered.
func (s *sidecar) troubled(err error) {
	if err == nil {
		s.trouble.Store(nil)
		return
	}
	s.trouble.Store(&err)
}

// settle finds out how the target cluster is reached, trying until it is known. An error is ctx's own.
func (s *sidecar) settle(ctx context.Context) (*target, error) {
	for {
		target, err := s.reach()
		if err == nil {
			s.troubled(nil)
			return target, nil
		}
		s.troubled(errNoTarget)
		logging.From(ctx).ErrorContext(ctx, "target cluster not configured, trying again", "error", err)
		if err := pause(ctx, reachAgain); err != nil {
			return nil, err
		}
	}
}

// work finds out who the sidecar is and runs the plugin. It ends with ctx before there is a plugin, and with lasting
// afterwards.
func (s *sidecar) work(ctx, lasting context.Context) error {
	if s.served.name != "" {
		logger := logging.From(ctx).With("client", s.served.name)
		ctx, lasting = logging.Into(ctx, logger), logging.Into(lasting, logger)
	}
	target, err := s.settle(ctx)
	if err != nil {
		return nil //nolint:nilerr // it is to end before it began
	}
	settings := s.served.settings
	failed := func(err error) {
		switch {
		case apierrors.IsUnauthorized(err):
			s.troubled(errRejected)
		case s.served.access.Impersonate != nil && apierrors.IsForbidden(err):
			s.troubled(errNoDelegate)
		default:
			s.troubled(nil)
		}
	}
	if becomeTenant(ctx, target.client, &settings, failed) != nil {
		return nil //nolint:nilerr // likewise
	}
	p, err := s.plug(target, settings)
	if err != nil {
		return err
	}
	s.working.Store(&working{plugin: p, handler: p.Handler()})
	logging.From(ctx).InfoContext(ctx, "interlink sidecar serves", "version", cli.Version())
	return p.Run(lasting)
}

// plug makes the plugin.
func (s *sidecar) plug(target *target, settings plugin.Settings) (*plugin.Plugin, error) {
	return plugin.New(plugin.Config{
		Client: target.client, LogClient: target.logs, Upgrades: target.upgrades, Settings: settings,
		Origins: s.served.origins, Registry: s.registry,
	})
}
