// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/cloudveneto/caas/internal/httpserver"
	"github.com/cloudveneto/caas/internal/rewind"
	"github.com/cloudveneto/caas/internal/service"
	"github.com/cloudveneto/caas/internal/telemetry"
)

// serve wires the sidecar: interLink API → server → plugin → target cluster.
func serve(ctx context.Context, settings *file) error {
	registry, flush, err := service.Observe(ctx, "interlink-sidecar")
	if err != nil {
		return err
	}
	defer flush()

	target, err := reach(settings)
	if err != nil {
		return err
	}
	s := &sidecar{settings: settings, target: target, registry: registry}
	server, err := httpserver.New(httpserver.Config{
		Name: "plugin", Address: settings.Listen, TLS: settings.serverTLS(),
		MaxBody: max(settings.MaxCreateBytes, settings.MaxStatusBytes),
		Handler: telemetry.Handler(s, "plugin"),
	})
	if err != nil {
		return err
	}
	servers, err := service.WithOps(server, httpserver.OpsConfig{Address: settings.OpsListen, Ready: s.ready, Registry: registry})
	if err != nil {
		return err
	}
	return run(ctx, s, servers)
}

// run ends the plugin after the servers: requests in flight still need it.
func run(ctx context.Context, s *sidecar, servers []*httpserver.Server) error {
	lasting, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var following errgroup.Group
	following.Go(func() error {
		defer cancel()
		return s.work(ctx, lasting)
	})
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

func targetCluster(settings *file) (*rest.Config, error) {
	if settings.Kubeconfig == "" && settings.Context == "" {
		return rest.InClusterConfig()
	}
	return clientcmd.NewNonInteractiveDeferredLoadingClientConfig(
		&clientcmd.ClientConfigLoadingRules{ExplicitPath: settings.Kubeconfig},
		&clientcmd.ConfigOverrides{CurrentContext: settings.Context},
	).ClientConfig()
}
