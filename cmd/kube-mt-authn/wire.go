// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"net/http"
	"os"
	"os/signal"
	"syscall"

	"github.com/gorilla/mux"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/cloudveneto/caas/internal/cli"
	"github.com/cloudveneto/caas/internal/httpserver"
	"github.com/cloudveneto/caas/internal/logging"
	"github.com/cloudveneto/caas/internal/service"
	"github.com/cloudveneto/caas/internal/telemetry"
	"github.com/cloudveneto/caas/multitenancy/authn"
	"github.com/cloudveneto/caas/multitenancy/keystone"
	"github.com/cloudveneto/caas/multitenancy/oidc"
	"github.com/cloudveneto/caas/multitenancy/tenants"
)

// webhookPath is where the API server's kubeconfig has to point.
const webhookPath = "/authenticate"

// largestReview is more than the longest token needs.
const largestReview = 1 << 20

// serve wires the webhook: API server → handler → Keystone and OpenID providers, and on the way who logs in → namespaces.
func (o *options) serve(ctx context.Context, settings *file) error {
	registry, flush, err := service.Observe(ctx, program)
	if err != nil {
		return err
	}
	defer flush()
	providers, err := newProviders(settings, registry)
	if err != nil {
		return err
	}
	namespaces, err := providers.newTenants(settings, registry)
	if err != nil {
		return err
	}
	handler, err := providers.handler(settings, namespaces, registry)
	if err != nil {
		return err
	}
	webhook, err := newServer(settings, handler)
	if err != nil {
		return err
	}
	// An identity provider that is down makes it not ready for nobody: those of the others still log in.
	servers, err := service.WithOps(webhook, httpserver.OpsConfig{Address: o.opsListen, Registry: registry, Pprof: o.pprof})
	if err != nil {
		return err
	}
	logging.From(ctx).InfoContext(ctx, "authentication webhook serves",
		"address", webhook.Addr().String(), "keystone", settings.keystone.AuthURL, "issuers", len(settings.OIDC), "version", cli.Version())
	return service.Run(ctx, servers, providers.run, runTenants(namespaces))
}

func newServer(settings *file, handler http.Handler) (*httpserver.Server, error) {
	router := mux.NewRouter()
	router.Handle(webhookPath, handler).Methods(http.MethodPost)
	return httpserver.New(httpserver.Config{
		Name: "authn", Address: settings.Listen, ReusePort: settings.ReusePort, MaxBody: largestReview,
		Handler: telemetry.Handler(router, program),
		TLS:     settings.TLS.Server(),
	})
}

// providers are who is asked about tokens. Either is nil if it is not configured.
type providers struct {
	keystone *keystone.Verifier
	oidc     *oidc.Verifier
}

func newProviders(settings *file, registry *prometheus.Registry) (providers, error) {
	var p providers
	var err error
	if settings.Keystone != nil {
		config := settings.keystone
		config.Metrics = registry
		if p.keystone, err = keystone.New(config); err != nil {
			return providers{}, err
		}
	}
	if len(settings.OIDC) > 0 {
		config := settings.issuers
		config.Metrics = registry
		if p.oidc, err = oidc.New(config); err != nil {
			return providers{}, err
		}
	}
	return p, nil
}

func (p providers) handler(settings *file, namespaces *tenants.Controller, registry *prometheus.Registry) (*authn.Handler, error) {
	config := authn.Config{Audiences: settings.Audiences, Metrics: registry}
	if namespaces != nil {
		config.Seen = namespaces.Seen
	}
	// A nil pointer in an interface would look like a provider.
	if p.keystone != nil {
		config.Keystone = p.keystone
		for _, format := range settings.Keystone.Formats {
			config.KeystoneJWS = config.KeystoneJWS || format == formatJWS
			config.KeystoneUUID = config.KeystoneUUID || format == formatUUID
		}
	}
	if p.oidc != nil {
		config.OIDC = p.oidc
	}
	return authn.New(config)
}

// run keeps the providers' keys fresh, and forgets Keystone's answers when told to.
func (p providers) run(ctx context.Context) error {
	working, ctx := errgroup.WithContext(ctx)
	if p.oidc != nil {
		working.Go(func() error { return p.oidc.Run(ctx) })
	}
	working.Go(func() error {
		p.purge(ctx)
		return nil
	})
	return working.Wait()
}

func (p providers) purge(ctx context.Context) {
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, syscall.SIGHUP)
	defer signal.Stop(asked)
	for {
		select {
		case <-ctx.Done():
			return
		case <-asked:
			if p.keystone != nil {
				p.keystone.Purge()
			}
			logging.From(ctx).InfoContext(ctx, "remembered answers are forgotten")
		}
	}
}
