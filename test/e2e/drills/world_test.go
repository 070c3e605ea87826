// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package drills_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cloudveneto/caas/internal/lab/gobuild"
	"github.com/cloudveneto/caas/internal/lab/hypervisor"
	"github.com/cloudveneto/caas/internal/lab/kube"
	"github.com/cloudveneto/caas/internal/lab/manifest"
	"github.com/cloudveneto/caas/internal/lab/network"
	"github.com/cloudveneto/caas/internal/lab/openstack"
	osnodev1 "github.com/cloudveneto/caas/osnode/api/v1"
	"github.com/cloudveneto/caas/test/e2e/labtest"
)

const (
	startTimeout = 6 * time.Minute
	address      = "10.88.0.5"
)

// world is what all drills share: a cluster, an OpenStack, and the controller between them.
type world struct {
	dir    string
	source string

	plane  *kube.ControlPlane
	config *rest.Config
	admin  client.WithWatch

	cloud     *openstack.Site
	operator  *openstack.Session // may do everything; logging in is what costs Keystone most
	transport *http.Transport
	doors     map[string]*door
	machines  *machines
	serving   chan error
	controls  *controls
	history   *history
	adding    sync.Mutex // of projects

	closing sync.Mutex
	closers []func(context.Context) error
	closed  bool
}

// later has something undone at the end, the last first.
func (w *world) later(undo func(context.Context) error) error {
	w.closing.Lock()
	defer w.closing.Unlock()
	if w.closed {
		return errors.New("interrupted")
	}
	w.closers = append(w.closers, undo)
	return nil
}

// close undoes all that open has done, as far as it had come.
func (w *world) close(ctx context.Context) error {
	w.closing.Lock()
	closers := w.closers
	w.closers, w.closed = nil, true
	w.closing.Unlock()
	var errs []error
	for _, undo := range slices.Backward(closers) {
		errs = append(errs, undo(ctx))
	}
	return errors.Join(errs...)
}

func (w *world) open(ctx context.Context, logf func(string, ...any)) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	w.dir = filepath.Join(os.TempDir(), fmt.Sprintf("%s%d", prefix, os.Getpid()))
	if err := os.Mkdir(w.dir, 0o700); err != nil {
		return err
	}
	if err := w.later(func(context.Context) error { return os.RemoveAll(w.dir) }); err != nil {
		return err
	}
	bin, err := labtest.Bin()
	if err != nil {
		return err
	}
	if w.source, err = gobuild.FindSource(""); err != nil {
		return err
	}
	began := time.Now()
	w.machines = newMachines()
	var both errgroup.Group
	both.Go(func() error { return w.openCluster(ctx) })
	both.Go(func() error { return w.openCloud(ctx) })
	if err := both.Wait(); err != nil {
		return err
	}
	logf("a cluster and an OpenStack after %s", time.Since(began).Round(time.Millisecond))
	if err := w.openDoors(ctx); err != nil {
		return err
	}
	w.history = newHistory(w.admin)
	if err := w.later(func(context.Context) error { w.history.close(); return nil }); err != nil {
		return err
	}
	w.controls = &controls{world: w, program: filepath.Join(bin, "osnode-controller")}
	if err := w.controls.prepare(ctx); err != nil {
		return err
	}
	if err := w.later(func(context.Context) error { return w.controls.killAll() }); err != nil {
		return err
	}
	return w.controls.start(ctx, mainController)
}

// openCluster starts a control plane with the manifests that a site applies.
func (w *world) openCluster(ctx context.Context) error {
	bin, err := kube.Build(ctx, gobuild.Config{})
	if err != nil {
		return fmt.Errorf("build Kubernetes: %w", err)
	}
	w.plane, err = kube.Start(ctx, kube.Config{
		Name: "drills", Dir: filepath.Join(w.dir, "kube"), BinDir: bin, ControllerManager: true, EndWithStarter: true,
		APIServerArgs: []string{
			"--feature-gates=MutatingAdmissionPolicy=true", "--runtime-config=admissionregistration.k8s.io/v1beta1=true",
		},
	})
	if err != nil {
		return err
	}
	if err := w.later(func(context.Context) error { return w.plane.Kill() }); err != nil {
		return errors.Join(err, w.plane.Kill())
	}
	if w.config, err = w.plane.RESTConfig(); err != nil {
		return err
	}
	err = manifest.Apply(ctx, w.config, os.DirFS(filepath.Join(w.source, "deploy", "osnode")),
		"crds/*.yaml", "rbac.yaml", "bootstrap-rbac.yaml", "tenant-role.yaml", "policies.yaml", "owner-labels.yaml")
	if err != nil {
		return err
	}
	w.admin, err = newClient(w.config)
	return err
}

func newClient(config *rest.Config) (client.WithWatch, error) {
	scheme := runtime.NewScheme()
	if err := errors.Join(clientgoscheme.AddToScheme(scheme), osnodev1.AddToScheme(scheme)); err != nil {
		return nil, err
	}
	return client.NewWithWatch(config, client.Options{Scheme: scheme})
}

// openCloud starts OpenStack in a network namespace of its own, and what its servers become in this process.
func (w *world) openCloud(ctx context.Context) error {
	name := filepath.Base(w.dir)
	if err := w.later(func(ctx context.Context) error { return network.Delete(ctx, name) }); err != nil {
		return err
	}
	err := network.Create(ctx, network.Config{Name: name, Extra: []netip.Prefix{netip.MustParsePrefix(address + "/32")}})
	if err != nil {
		return err
	}
	socket := filepath.Join(w.dir, "hypervisor.sock")
	serving, stop := context.WithCancel(context.WithoutCancel(ctx))
	w.serving = make(chan error, 1)
	go func() { w.serving <- hypervisor.Serve(serving, socket, w.machines) }()
	err = w.later(func(context.Context) error {
		w.machines.close()
		stop()
		return <-w.serving
	})
	if err != nil {
		stop()
		return err
	}
	w.cloud, err = openstack.Start(ctx, openstack.Config{
		Dir: filepath.Join(w.dir, "openstack"), NetNS: network.Path(name), HypervisorSocket: socket, EndWithStarter: true,
	})
	if err != nil {
		return err
	}
	if err := w.later(w.cloud.Stop); err != nil {
		return errors.Join(err, w.cloud.Stop(ctx))
	}
	if w.operator, err = w.cloud.Admin(ctx); err != nil {
		return err
	}
	w.transport = w.cloud.Transport()
	return w.later(func(context.Context) error { w.transport.CloseIdleConnections(); return nil })
}
