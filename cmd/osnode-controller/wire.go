// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/metrics"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/cloudveneto/caas/internal/cli"
	"github.com/cloudveneto/caas/internal/httpserver"
	"github.com/cloudveneto/caas/internal/logging"
	"github.com/cloudveneto/caas/internal/telemetry"
	osnodev1 "github.com/cloudveneto/caas/osnode/api/v1"
	"github.com/cloudveneto/caas/osnode/bootstrap"
	"github.com/cloudveneto/caas/osnode/cloud"
	"github.com/cloudveneto/caas/osnode/controller"
	"github.com/cloudveneto/caas/osnode/csr"
	"github.com/cloudveneto/caas/osnode/openstack"
	"github.com/cloudveneto/caas/osnode/pool"
	"github.com/cloudveneto/caas/osnode/usage"
)

const (
	program = "osnode-controller"
	leaseID = program
)

// serve wires the controllers: cluster → reconcilers → OpenStack.
func (o *options) serve(ctx context.Context, settings *file) error {
	logger := logging.From(ctx)
	logging.CaptureKlog(logger)
	ctrl.SetLogger(logging.Logr(logger))
	shutdown, err := telemetry.Setup(ctx, program)
	if err != nil {
		return err
	}
	defer telemetry.Flush(ctx, shutdown)

	config, err := clusterConfig(o, settings)
	if err != nil {
		return fmt.Errorf("cluster: %w", err)
	}
	mgr, err := newManager(ctx, config, o)
	if err != nil {
		return err
	}
	stack, err := openstack.New(openstack.Config{Cluster: settings.Cluster, Providers: settings.Providers, Metrics: metrics.Registry})
	if err != nil {
		return err
	}
	defer stack.Close()
	if err := addControllers(ctx, mgr, stack, o, settings); err != nil {
		return err
	}
	logger.InfoContext(ctx, "osnode controller starts", "cluster", settings.Cluster, "version", cli.Version())
	return run(ctx, mgr, o)
}

// newManager makes the manager, which serves nothing itself: health and metrics are the ops server's.
func newManager(ctx context.Context, config *rest.Config, o *options) (manager.Manager, error) { //nolint:ireturn // controller-runtime has no other
	scheme := runtime.NewScheme()
	if err := errors.Join(clientgoscheme.AddToScheme(scheme), osnodev1.AddToScheme(scheme)); err != nil {
		return nil, err
	}
	mgr, err := ctrl.NewManager(config, ctrl.Options{
		Scheme: scheme,
		// Who changed which field is never asked for and is half of what objects weigh.
		Cache:   cache.Options{DefaultTransform: cache.TransformStripManagedFields()},
		Metrics: metricsserver.Options{BindAddress: "0"},
		// What runs beside the controllers gets no context but this, and would log nothing.
		BaseContext:    func() context.Context { return context.WithoutCancel(ctx) },
		LeaderElection: o.leaderElect, LeaderElectionID: leaseID, LeaderElectionNamespace: o.namespace,
		// A process that ends in good order does no more: the next may begin at once.
		LeaderElectionReleaseOnCancel: true,
	})
	if err != nil {
		return nil, fmt.Errorf("cluster: %w", err)
	}
	return mgr, nil
}

// addControllers adds nodes, certificates, pools and usage to the manager.
func addControllers(ctx context.Context, mgr manager.Manager, stack *openstack.Cloud, o *options, settings *file) error {
	client, reader, recorder := mgr.GetClient(), mgr.GetAPIReader(), mgr.GetEventRecorder(program)
	timers := settings.timers
	timers.Request = stack.LongestRequest()
	nodes, err := controller.New(controller.Config{
		Client: client, Reader: reader, Recorder: recorder, Cloud: stack, UserData: userData(settings.Bootstrap.Settings),
		Cluster: settings.Cluster, Namespace: o.namespace, DefaultProvider: settings.DefaultProvider,
		Timers: timers, Workers: settings.Workers, Metrics: metrics.Registry,
	})
	if err != nil {
		return err
	}
	certificates, err := csr.New(csr.Config{
		Client: client, Reader: reader, Recorder: recorder, Limits: csr.Limits{Patience: nodes.Timers.Join}, Metrics: metrics.Registry,
	})
	if err != nil {
		return err
	}
	pools, err := pool.New(pool.Config{
		Client: client, Reader: reader, Recorder: recorder, Cloud: stack, DefaultProvider: settings.DefaultProvider,
	})
	if err != nil {
		return err
	}
	meter, err := usage.New(usage.Config{
		Client: client, Reader: reader, Namespace: o.namespace, StoppedCounts: settings.Usage.StoppedCounts, Metrics: metrics.Registry,
	})
	if err != nil {
		return err
	}
	return errors.Join(
		nodes.SetupWithManager(mgr), certificates.SetupWithManager(ctx, mgr), pools.SetupWithManager(ctx, mgr), mgr.Add(meter),
	)
}

// userData writes what a machine boots with.
func userData(settings bootstrap.Settings) func(osn *osnodev1.OpenStackNode, token string) ([]byte, error) {
	return func(osn *osnodev1.OpenStackNode, token string) ([]byte, error) {
		node := bootstrap.Node{NodeID: osn.Status.NodeID, Token: token}
		if osn.Spec.UserData != nil {
			node.UserData = *osn.Spec.UserData
		}
		data, err := bootstrap.UserData(settings, node)
		if err == nil {
			err = bootstrap.CheckSize(data)
		}
		return data, explain(err)
	}
}

// explain says whose fault it is that there is no user data.
func explain(err error) error {
	var tooLarge *bootstrap.TooLargeError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &tooLarge):
		return &cloud.Error{Class: cloud.UserDataTooLarge, Message: err.Error(), Err: err}
	default:
		return &cloud.Error{Class: cloud.InvalidSpec, Message: err.Error(), Err: err}
	}
}

// run serves health and metrics beside the controllers.
func run(ctx context.Context, mgr manager.Manager, o *options) error {
	serving, ctx := errgroup.WithContext(ctx)
	if o.opsListen != "" {
		ops, err := httpserver.NewOps(httpserver.OpsConfig{
			Address: o.opsListen, Registry: metrics.Registry, Ready: func(ctx context.Context) error {
				if !mgr.GetCache().WaitForCacheSync(ctx) {
					return errors.New("the cluster's objects are not all read")
				}
				return nil
			},
		})
		if err != nil {
			return err
		}
		serving.Go(func() error { return ops.Run(ctx) })
	}
	serving.Go(func() error { return mgr.Start(ctx) })
	return serving.Wait()
}

func clusterConfig(o *options, settings *file) (*rest.Config, error) {
	config, err := clientcmd.BuildConfigFromFlags("", o.kubeconfig)
	if err != nil {
		return nil, err
	}
	config.QPS, config.Burst = settings.QPS, settings.Burst
	config.UserAgent = program
	config.Wrap(telemetry.Transport)
	return config, nil
}
