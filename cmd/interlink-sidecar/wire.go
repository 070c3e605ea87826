// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/cloudveneto/caas/internal/cli"
	"github.com/cloudveneto/caas/internal/hop"
	"github.com/cloudveneto/caas/internal/httpserver"
	"github.com/cloudveneto/caas/internal/logging"
	"github.com/cloudveneto/caas/internal/rewind"
	"github.com/cloudveneto/caas/internal/service"
	"github.com/cloudveneto/caas/internal/telemetry"
	"github.com/cloudveneto/caas/sidecar/clients"
)

// serve wires the sidecar: interLink API → server → client → plugin → target cluster.
func serve(ctx context.Context, settings *file, all []served) error {
	registry, flush, err := service.Observe(ctx, "interlink-sidecar")
	if err != nil {
		return err
	}
	defer flush()

	sidecars := make([]*sidecar, 0, len(all))
	for _, one := range all {
		s, err := newSidecar(settings, one, registry)
		if err != nil {
			return one.problem(err)
		}
		sidecars = append(sidecars, s)
	}
	front, err := settings.front(sidecars, registry)
	if err != nil {
		return err
	}
	server, err := httpserver.New(httpserver.Config{
		Name: "plugin", Address: settings.Listen, TLS: settings.serverTLS(),
		MaxBody: max(all[0].settings.MaxCreateBytes, all[0].settings.MaxStatusBytes),
		Handler: telemetry.Handler(front.Service, "plugin"),
	})
	if err != nil {
		return err
	}
	servers, err := service.WithOps(server, httpserver.OpsConfig{
		Address: settings.OpsListen, Ready: front.Ready, Partly: front.partly, Registry: registry, Pprof: settings.Pprof,
	})
	if err != nil {
		return err
	}
	logging.From(ctx).InfoContext(ctx, "interlink sidecar listens", "address", settings.Listen, "version", cli.Version())
	return run(ctx, sidecars, servers)
}

// front is what requests come to.
type front struct {
	clients.Service

	// partly tells what cannot be done though some of it can; nil where there is but one thing to do.
	partly func(context.Context) []string
}

// front tells clients apart, if the file does.
func (f *file) front(sidecars []*sidecar, registry prometheus.Registerer) (front, error) {
	if f.Clients == nil {
		return front{Service: sidecars[0]}, nil
	}
	services := make(map[string]clients.Service, len(sidecars))
	for _, s := range sidecars {
		services[s.served.name] = s
	}
	router, err := clients.New(clients.Config{Served: services, Registry: registry})
	if err != nil {
		return front{}, err
	}
	return front{Service: router, partly: router.Problems}, nil
}

// run ends the plugins after the servers: requests in flight still need them.
func run(ctx context.Context, sidecars []*sidecar, servers []*httpserver.Server) error {
	lasting, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var following errgroup.Group
	for _, s := range sidecars {
		following.Go(func() error {
			defer cancel()
			return s.served.problem(s.work(ctx, lasting))
		})
	}
	err := service.Run(ctx, servers)
	cancel()
	stop()
	return errors.Join(err, following.Wait())
}

// target is how the target cluster is reached.
type target struct {
	client, logs *kubernetes.Clientset
	// upgrades sends requests that take over their connection.
	upgrades http.RoundTripper
}

// reach makes one client for everything and one for logs. Logs use a connection
// each: in a shared one, a fast log would hold up creates and watches.
func reach(settings *file, as access, measured *hop.Hop) (*target, error) {
	config, err := targetCluster(as)
	if err != nil {
		return nil, fmt.Errorf("target cluster: %w", err)
	}
	config.QPS, config.Burst = settings.QPS, settings.Burst
	config.WarningHandlerWithContext = quietly{}
	config.UserAgent = "interlink-sidecar"
	config.Wrap(measured.Transport)
	upgrading := rest.CopyConfig(config)
	upgrading.NextProtos = []string{"http/1.1"}
	upgrading.Wrap(telemetry.Upgrade)
	config.Wrap(telemetry.Transport)
	own := rest.CopyConfig(config)
	own.NextProtos = []string{"http/1.1"}
	config.Wrap(rewind.Transport)
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

func targetCluster(as access) (*rest.Config, error) {
	config, err := clusterOf(as)
	if err != nil || as.Impersonate == nil {
		return config, err
	}
	config.Impersonate = rest.ImpersonationConfig{
		UserName: as.Impersonate.User, UID: as.Impersonate.UID, Groups: as.Impersonate.Groups, Extra: as.Impersonate.Extra,
	}
	return config, nil
}

func clusterOf(as access) (*rest.Config, error) {
	if as.Kubeconfig == "" && as.Context == "" {
		return rest.InClusterConfig()
	}
	return clientcmd.NewNonInteractiveDeferredLoadingClientConfig(
		&clientcmd.ClientConfigLoadingRules{ExplicitPath: as.Kubeconfig},
		&clientcmd.ConfigOverrides{CurrentContext: as.Context},
	).ClientConfig()
}
