// SPDX-License-Identifier: Apache-2.0

package soak

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/cloudveneto/caas/internal/lab"
	"github.com/cloudveneto/caas/internal/lab/fault"
	"github.com/cloudveneto/caas/internal/lab/kwok"
	"github.com/cloudveneto/caas/internal/lab/network"
	"github.com/cloudveneto/caas/internal/lab/offload"
)

const (
	// nodeName is the virtual node, namespace where its pods are, remoteNamespace where they run.
	nodeName        = "caas-soak"
	namespace       = "soak"
	remoteNamespace = "soak"
	fakeLabel       = "soak.test/fake"
	fakeNodes       = 5
	// pathIndex tells the path's ports from those of others.
	pathIndex    = 7
	readyTimeout = 3 * time.Minute
	stopTimeout  = time.Minute
)

// world is a path with a proxy in each of its links, and fake nodes behind it.
type world struct {
	lab          *lab.Lab
	origin, caas *kubernetes.Clientset
	path         *offload.Path
	links        []link
	nodes        *kwok.Nodes
	// ending ends what close has not ended.
	ending context.Context //nolint:containedctx // the caller's may be done by then
}

// link is one of the path with its proxy.
type link struct {
	offload.Link
	proxy *fault.Proxy
}

func open(ctx context.Context, config Config) (*world, error) {
	w := &world{lab: config.Lab, ending: context.WithoutCancel(ctx)}
	if err := w.make(ctx, config); err != nil {
		w.close() //nolint:contextcheck // likewise if that was why
		return nil, err
	}
	return w, nil
}

func (w *world) make(ctx context.Context, config Config) error {
	for name, client := range map[string]**kubernetes.Clientset{lab.AF: &w.origin, lab.CaaS: &w.caas} {
		made, err := w.client(name)
		if err != nil {
			return err
		}
		*client = made
	}
	if err := w.makeNodes(ctx); err != nil {
		return err
	}
	_, err := w.origin.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}, metav1.CreateOptions{})
	if offload.IgnoreExisting(err) != nil {
		return fmt.Errorf("make namespace: %w", err)
	}
	w.path, err = offload.New(ctx, offload.Config{
		Lab: w.lab, BinDir: config.BinDir, Node: nodeName, Index: pathIndex, RemoteNamespace: remoteNamespace,
		NodeSelector: map[string]string{fakeLabel: "true"},
		Tolerations:  []corev1.Toleration{{Key: fakeLabel, Operator: corev1.TolerationOpExists}},
		Detour:       true, Pprof: true,
	})
	if err != nil {
		return err
	}
	if err := w.stand(ctx, config.Seed); err != nil {
		return err
	}
	if err := w.path.StartAll(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	return w.path.AwaitReady(ctx)
}

func (w *world) client(name string) (*kubernetes.Clientset, error) {
	cluster, err := w.lab.Cluster(name)
	if err != nil {
		return nil, err
	}
	config, err := cluster.RESTConfig()
	if err != nil {
		return nil, err
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("client of cluster %s: %w", name, err)
	}
	return client, nil
}

func (w *world) makeNodes(ctx context.Context) error {
	cluster, err := w.lab.Cluster(lab.CaaS)
	if err != nil {
		return err
	}
	labels := map[string]string{fakeLabel: "true"}
	if w.lab.Tenancy() {
		if labels[lab.NodePoolLabel], err = w.lab.SharedPool(offload.Project); err != nil {
			return err
		}
	}
	w.nodes, err = kwok.Start(ctx, kwok.Config{
		Client: w.caas, Kubeconfig: cluster.InsideKubeconfig(), Dir: filepath.Join(w.lab.Dir(), "soak-kwok"), NetNS: w.lab.NetNS(),
		Nodes: fakeNodes, Prefix: "soak-", Labels: labels, Taints: []string{fakeLabel + "=true:NoSchedule"}, EndWithStarter: true,
	})
	return err
}

// stand puts a proxy into each link.
func (w *world) stand(ctx context.Context, seed uint64) error {
	links, err := w.path.Links()
	if err != nil {
		return err
	}
	for i, one := range links {
		proxy, err := fault.Start(ctx, fault.Config{
			Seed:   seed + uint64(i),
			Listen: func(ctx context.Context) (net.Listener, error) { return w.listen(ctx, one) },
			Dial:   func(ctx context.Context) (net.Conn, error) { return w.dial(ctx, one) },
		})
		if err != nil {
			return fmt.Errorf("stand between %s: %w", one.Name, err)
		}
		w.links = append(w.links, link{Link: one, proxy: proxy})
	}
	return nil
}

func (w *world) listen(ctx context.Context, one offload.Link) (net.Listener, error) {
	if one.Network == "unix" {
		return (&net.ListenConfig{}).Listen(ctx, one.Network, one.Detour)
	}
	return network.Listen(ctx, w.lab.NetNS(), one.Network, one.Detour)
}

func (w *world) dial(ctx context.Context, one offload.Link) (net.Conn, error) {
	if one.Network == "unix" {
		return (&net.Dialer{}).DialContext(ctx, one.Network, one.Target)
	}
	return network.Dial(ctx, w.lab.NetNS(), one.Network, one.Target)
}

// close ends what this process has of the world. The programs go first: they would complain of the rest.
func (w *world) close() {
	ctx, cancel := context.WithTimeout(w.ending, stopTimeout)
	defer cancel()
	if w.path != nil {
		_ = w.path.StopAll(ctx)
	}
	for _, one := range w.links {
		one.proxy.Close()
	}
	if w.nodes != nil {
		_ = w.nodes.Stop(ctx)
	}
}

// ended tells of a program that runs no more though nobody ended it.
func (w *world) ended(component string) error {
	process, err := w.path.Process(component)
	if err != nil {
		return err
	}
	if process.Alive() {
		return nil
	}
	return errors.New(component + " has ended by itself; see " + process.Spec().LogFile)
}
