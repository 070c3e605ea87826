// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/virtual-kubelet/virtual-kubelet/node/api"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/tools/record"

	"github.com/cloudveneto/caas/internal/cli"
	"github.com/cloudveneto/caas/internal/httpserver"
	"github.com/cloudveneto/caas/internal/interlink"
	"github.com/cloudveneto/caas/internal/logging"
	"github.com/cloudveneto/caas/internal/service"
	"github.com/cloudveneto/caas/provider"
	"github.com/cloudveneto/caas/provider/bundle"
	"github.com/cloudveneto/caas/provider/figures"
	"github.com/cloudveneto/caas/provider/kubeletport"
	"github.com/cloudveneto/caas/provider/settings"
	"github.com/cloudveneto/caas/provider/virtualnode"
)

// run wires the parts together and runs them until ctx is done.
func run(ctx context.Context, o *options, s *settings.Settings) error {
	registry, flush, err := service.Observe(ctx, "virtual-kubelet")
	if err != nil {
		return err
	}
	defer flush()
	hops, err := newHops(registry)
	if err != nil {
		return err
	}
	origin, config, err := originClient(o.kubeconfig, s, hops)
	if err != nil {
		return err
	}
	if s.ClusterID == "" {
		if s.ClusterID, err = clusterID(ctx, origin, config); err != nil {
			return err
		}
	}
	far, err := farEnd(&s.FarEnd, hops)
	if err != nil {
		return err
	}
	events := record.NewBroadcaster(record.WithContext(ctx))
	events.StartRecordingToSink(&corev1client.EventSinkImpl{Interface: origin.CoreV1().Events("")})
	defer events.Shutdown()
	recorder := events.NewRecorder(scheme.Scheme, corev1.EventSource{Component: "virtual-kubelet", Host: s.Node.Name})
	objects, err := metadata.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("this cluster's client: %w", err)
	}
	node, pods, err := core(s, origin, objects, far, recorder, registry)
	if err != nil {
		return err
	}
	measured, err := figures.New(figures.Config{
		Source: far, Offered: pods.OffersStats, Pods: pods.GetPods, Cluster: s.ClusterID, Node: s.Node.Name,
	})
	if err != nil {
		return err
	}
	port, err := kubeletPort(ctx, s, origin, pods, measured)
	if err != nil {
		return err
	}
	logging.From(ctx).Info("virtual kubelet starts", "node", s.Node.Name, "clusterId", s.ClusterID,
		"farEnd", s.FarEnd.BaseURL, "version", cli.Version())
	group, ctx := errgroup.WithContext(ctx)
	if s.OpsAddress != "" {
		ops, err := httpserver.NewOps(httpserver.OpsConfig{
			Address: s.OpsAddress, Registry: registry, Pprof: s.Pprof, Ready: readiness(s, node, pods),
		})
		if err != nil {
			return err
		}
		group.Go(func() error { return ops.Run(ctx) })
	}
	group.Go(func() error {
		return lead(ctx, origin, s.Leader, func(ctx context.Context) error {
			leading, ctx := errgroup.WithContext(ctx)
			leading.Go(func() error { return node.Run(ctx) })
			leading.Go(func() error { return pods.Run(ctx) })
			leading.Go(func() error { return port.Run(ctx) })
			return leading.Wait()
		})
	})
	return group.Wait()
}

// kubeletVersion is what the Node object shows; Kubernetes' tools expect a
// semantic version there, which a build from a work tree has not.
func kubeletVersion(version string) string {
	if !strings.HasPrefix(version, "v") {
		return "v0.0.0-devel"
	}
	return strings.ReplaceAll(version, " ", "+")
}

// core makes the node and the pods on it, who tell each other what the far end says.
func core(s *settings.Settings, origin kubernetes.Interface, objects metadata.Interface, far *interlink.Client, recorder record.EventRecorder,
	registry prometheus.Registerer,
) (*virtualnode.Node, *provider.Provider, error) {
	var pods *provider.Provider
	node, err := virtualnode.New(virtualnode.Config{
		Client:       origin,
		Far:          far,
		Name:         s.Node.Name,
		Address:      s.Node.Address,
		Port:         s.Node.Port,
		Labels:       s.Node.Labels,
		Taints:       s.Node.Taints,
		Capacity:     s.Node.Capacity,
		PodCIDR:      s.Node.PodCIDR,
		Version:      kubeletVersion(cli.Version()),
		PingInterval: s.PingInterval,
		PingFailures: s.PingFailures,
		Metrics:      registry,
		OnPing:       func(answer interlink.PingResponse) { pods.Offer(answer) },
	})
	if err != nil {
		return nil, nil, err
	}
	collector, err := bundle.New(bundle.Config{
		Client:       origin,
		Recorder:     recorder,
		APIServer:    bundle.APIServer{Address: s.APIServer.Address, Port: s.APIServer.Port, CA: s.APIServer.CA},
		NoProjected:  s.NoProjected,
		JobScriptURL: s.JobScriptURL,
		Allocatable:  node.Allocatable,
	})
	if err != nil {
		return nil, nil, err
	}
	pods, err = provider.New(provider.Config{
		NodeName:       s.Node.Name,
		ClusterID:      s.ClusterID,
		Client:         origin,
		Metadata:       objects,
		FarEnd:         far,
		Sessions:       far,
		Debugger:       far,
		Bundler:        collector,
		Recorder:       recorder,
		Metrics:        registry,
		OnNode:         node.Offer,
		Workers:        s.Workers,
		StatusInterval: s.StatusInterval,
	})
	return node, pods, err
}

func kubeletPort(ctx context.Context, s *settings.Settings, origin kubernetes.Interface, pods *provider.Provider, measured *figures.Figures) (*kubeletport.Server, error) {
	authorities, err := clientAuthorities(ctx, origin, s.Kubelet.ClientCAFile)
	if err != nil {
		return nil, err
	}
	return kubeletport.New(ctx, kubeletport.Config{
		Address:     s.Kubelet.Address,
		NodeName:    s.Node.Name,
		NodeAddress: s.Node.Address,
		Client:      origin,
		Certificate: kubeletport.Certificate{
			CertFile:   s.Kubelet.CertFile,
			KeyFile:    s.Kubelet.KeyFile,
			SelfSigned: s.Kubelet.SelfSigned,
			SignerName: s.Kubelet.SignerName,
			Dir:        s.Kubelet.CertDir,
		},
		ClientCA:  s.Kubelet.ClientCAFile,
		ClientCAs: authorities,
		Routes: api.PodHandlerConfig{
			GetContainerLogs:      pods.GetContainerLogs,
			GetPods:               pods.GetPods,
			GetPodsFromKubernetes: pods.GetPods,
			GetStatsSummary:       measured.Summary,
			GetMetricsResource:    measured.Resource,
		},
		Streams:    streams{pods},
		MaxStreams: s.MaxSessions,
		Log:        provider.LibraryLogger(logging.From(ctx)),
	})
}

// readiness says why this process cannot do its work. A process that waits to
// become the leader is as ready as it can be.
func readiness(s *settings.Settings, node *virtualnode.Node, pods *provider.Provider) func(context.Context) error {
	return func(context.Context) error {
		switch {
		case s.Leader.Enabled && !pods.Ready():
			return nil
		case !pods.Ready():
			return errors.New("the pods of the node are not known yet")
		case !node.Registered():
			return errors.New("the node is not registered yet")
		}
		return nil
	}
}
