// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/cloudveneto/caas/internal/lab/kube"
	"github.com/cloudveneto/caas/internal/lab/network"
	"github.com/cloudveneto/caas/internal/lab/proc"
)

const loopback = "127.0.0.1"

// Cluster is one cluster of a lab.
type Cluster struct {
	// Name is CaaS or AF.
	Name string

	lab  *Lab
	plan plan
}

// Cluster returns a cluster by its name.
func (l *Lab) Cluster(name string) (*Cluster, error) {
	p, err := planOf(name)
	if err != nil {
		return nil, err
	}
	return &Cluster{Name: name, lab: l, plan: p}, nil
}

// clusters are all clusters of the lab.
func (l *Lab) clusters() []*Cluster {
	var all []*Cluster
	for _, p := range plans() {
		all = append(all, &Cluster{Name: p.name, lab: l, plan: p})
	}
	return all
}

// Server returns the API server's URL for this machine.
func (c *Cluster) Server() string { return "https://" + c.hostAddress() }

// InsideServer returns the API server's URL inside the LAN, and for the pods of both clusters.
func (c *Cluster) InsideServer() string { return "https://" + c.plan.apiServer().String() }

// Kubeconfig returns the path of the administrator's kubeconfig file for this machine.
func (c *Cluster) Kubeconfig() string { return c.dir("kubeconfig") }

// InsideKubeconfig returns the path of the administrator's kubeconfig file for processes inside the LAN.
func (c *Cluster) InsideKubeconfig() string { return c.dir("pki", "admin.kubeconfig") }

// UserKubeconfig issues a client certificate for a user with groups and writes a kubeconfig file with it. The server is
// Server or InsideServer.
func (c *Cluster) UserKubeconfig(path, server, user string, groups ...string) error {
	ca, err := c.ca()
	if err != nil {
		return err
	}
	pair, err := ca.Client(user, groups...)
	if err != nil {
		return err
	}
	return kube.WriteKubeconfig(path, server, ca.PEM, pair)
}

// ca is the cluster's, which signs users and nodes.
func (c *Cluster) ca() (*kube.CA, error) {
	plane, err := c.ControlPlane()
	if err != nil {
		return nil, err
	}
	return plane.CA()
}

// RESTConfig returns the administrator's client configuration for this machine, without client-side rate limits.
func (c *Cluster) RESTConfig() (*rest.Config, error) {
	config, err := clientcmd.BuildConfigFromFlags("", c.Kubeconfig())
	if err != nil {
		return nil, fmt.Errorf("read kubeconfig of cluster %s: %w", c.Name, err)
	}
	config.QPS = -1
	return config, nil
}

// ControlPlane returns the cluster's control plane, which is reached from inside the LAN's network namespace.
func (c *Cluster) ControlPlane() (*kube.ControlPlane, error) {
	return kube.Open(c.dir(), network.Dialer(c.lab.NetNS()))
}

// client has the administrator's rights and does not need the supervisor.
func (c *Cluster) client() (*kubernetes.Clientset, error) {
	plane, err := c.ControlPlane()
	if err != nil {
		return nil, err
	}
	config, err := plane.RESTConfig()
	if err != nil {
		return nil, err
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("make client of cluster %s: %w", c.Name, err)
	}
	return client, nil
}

// dir is a path in the control plane's directory.
func (c *Cluster) dir(elem ...string) string {
	return c.lab.path(append([]string{c.Name}, elem...)...)
}

// hostAddress is where the supervisor forwards the API server to.
func (c *Cluster) hostAddress() string { return c.lab.hostAddress(c.Name) }

// Kubectl returns the path of the kubectl that belongs to the lab's clusters.
func (l *Lab) Kubectl() string { return filepath.Join(l.state.Binaries, "kubectl") }

// Start runs a further process inside the LAN's network namespace; spec.NetNS and, when empty, spec.Dir and spec.LogFile
// are filled in. The lab shows its log under the process' name, and Down ends it.
func (l *Lab) Start(ctx context.Context, spec proc.Spec) (*proc.Process, error) {
	spec.NetNS = l.NetNS()
	if spec.Dir == "" {
		spec.Dir = l.path("work", spec.Name)
		if err := os.MkdirAll(spec.Dir, 0o750); err != nil {
			return nil, fmt.Errorf("make directory of process: %w", err)
		}
	}
	if spec.LogFile == "" {
		spec.LogFile = l.logFile(spec.Name)
	}
	return proc.Start(ctx, l.runDir(), spec)
}

// Process finds a process that Start started.
func (l *Lab) Process(name string) (*proc.Process, error) { return proc.Load(l.runDir(), name) }
