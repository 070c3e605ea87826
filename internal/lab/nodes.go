// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cloudveneto/caas/internal/lab/image"
	"github.com/cloudveneto/caas/internal/lab/network"
	"github.com/cloudveneto/caas/internal/lab/node"
	"github.com/cloudveneto/caas/internal/lab/registry"
)

const (
	nodesTimeout  = 3 * time.Minute
	nodesInterval = 200 * time.Millisecond
	nodeAttempts  = 5
	// pauseRepository is the image that every node has from the start, because no pod begins without it.
	pauseRepository = "registry.k8s.io/pause"
)

// startNodes fills the registry, starts the nodes, and returns when all of them are Ready.
func (l *Lab) startNodes(ctx context.Context, detail func(string)) error {
	group, starting := errgroup.WithContext(ctx)
	group.Go(func() error { return l.pushImages(starting) })
	for _, cluster := range l.clusters() {
		for _, n := range l.nodesOf(cluster.plan) {
			group.Go(func() error { return startNode(starting, cluster.nodeConfig(n)) })
		}
	}
	if err := group.Wait(); err != nil {
		return err
	}
	for _, cluster := range l.clusters() {
		if err := cluster.addServiceRoute(ctx); err != nil {
			return err
		}
		if err := cluster.awaitNodes(ctx, detail); err != nil {
			return err
		}
	}
	return l.giveNodes(ctx)
}

// startNode starts a node, again if need be: the removal of another node, of this lab or another, takes the cgroup above
// both away when it happens to be empty, which can be just before this node makes its own in it.
func startNode(ctx context.Context, config node.Config) error {
	for attempt := 1; ; attempt++ {
		err := node.Start(ctx, config)
		if err == nil || attempt == nodeAttempts || !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		pause(ctx, nodesInterval)
	}
}

func (l *Lab) pushImages(ctx context.Context) error {
	for reference, layout := range l.state.Images {
		img, err := image.Open(layout)
		if err != nil {
			return err
		}
		if err := registry.Push(ctx, l.Registry(), network.Dialer(l.NetNS()), img, reference); err != nil {
			return err
		}
	}
	return nil
}

func (c *Cluster) nodeConfig(n nodePlan) node.Config {
	l := c.lab
	config := node.Config{
		Lab: l.Name(), Cluster: c.Name, Name: n.name, Dir: l.nodeDir(n.name), RunDir: l.runDir(),
		LAN: l.lan(), Address: onLAN(n.address), Gateway: gateway(), PodSubnet: n.podSubnet, ClusterCIDR: c.plan.podCIDR,
		Server: c.InsideServer(), CAFile: c.dir("pki", "ca.crt"), BootstrapToken: l.state.Tokens[c.Name],
		ProxyKubeconfig: c.proxyKubeconfig(), Binaries: l.state.Binaries, Executable: l.executable(), Registry: l.Registry(),
		ClusterDNS: c.plan.dns, ClusterDomain: clusterDomain,
	}
	for reference, layout := range l.state.Images {
		if repository, _, _ := strings.Cut(reference, ":"); repository == pauseRepository {
			config.SandboxImage, config.Images = reference, []string{layout}
		}
	}
	return config
}

// awaitNodes returns when all nodes of the cluster are Ready, and have their serving certificates: before, logs and exec
// do not work.
func (c *Cluster) awaitNodes(ctx context.Context, detail func(string)) error {
	ctx, cancel := context.WithTimeout(ctx, nodesTimeout)
	defer cancel()
	wanted := len(c.lab.nodesOf(c.plan))
	for {
		ready, err := c.readyNodes(ctx)
		if err == nil && ready >= wanted {
			return nil
		}
		detail(fmt.Sprintf("cluster %s: %d of %d ready", c.Name, ready, wanted))
		pause(ctx, nodesInterval)
		if ctx.Err() != nil {
			return errors.Join(fmt.Errorf("%d of %d nodes of cluster %s are ready: %w", ready, wanted, c.Name, ctx.Err()), err)
		}
	}
}

// readyNodes counts the lab's own nodes that are Ready and can be talked to; a cluster may have others too.
func (c *Cluster) readyNodes(ctx context.Context) (int, error) {
	client, err := c.client()
	if err != nil {
		return 0, err
	}
	list, err := client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return 0, fmt.Errorf("list nodes of cluster %s: %w", c.Name, err)
	}
	ready := map[string]bool{}
	for i := range list.Items {
		ready[list.Items[i].Name] = nodeReady(&list.Items[i])
	}
	count := 0
	for _, n := range c.lab.nodesOf(c.plan) {
		if !ready[n.name] {
			continue
		}
		answer := client.CoreV1().RESTClient().Get().Resource("nodes").Name(n.name).SubResource("proxy").Suffix("healthz").Do(ctx)
		if err := answer.Error(); err != nil {
			return count, fmt.Errorf("ask kubelet of node %s: %w", n.name, err)
		}
		count++
	}
	return count, nil
}

func nodeReady(n *corev1.Node) bool {
	for _, condition := range n.Status.Conditions {
		if condition.Type == corev1.NodeReady {
			return condition.Status == corev1.ConditionTrue
		}
	}
	return false
}
