// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/cloudveneto/caas/internal/lab/proc"
)

const (
	readyTimeout  = 2 * time.Minute
	readyInterval = 50 * time.Millisecond
	// probeTimeout bounds one question to an API server that may hang while it starts.
	probeTimeout = 5 * time.Second
)

// ControlPlane is a control plane that was started. Its methods may be called from several goroutines.
type ControlPlane struct {
	cfg Config
}

// Open finds the control plane that was started in a directory, whether it still runs or not. Dial may be nil.
func Open(dir string, dial DialFunc) (*ControlPlane, error) {
	cfg, err := readConfig(dir)
	if err != nil {
		return nil, fmt.Errorf("find control plane: %w", err)
	}
	cfg.Dial = dial
	return &ControlPlane{cfg: cfg}, nil
}

// Config returns the configuration with defaults and chosen ports filled in.
func (c *ControlPlane) Config() Config { return c.cfg }

// Running tells whether all components run.
func (c *ControlPlane) Running() bool { return c.dead() == nil }

// Components lists the components' names, which also name their logs.
func (c *ControlPlane) Components() []string { return c.cfg.components() }

// LogFile returns the path of a component's log.
func (c *ControlPlane) LogFile(component string) string { return c.cfg.logFile(component) }

// Server returns the URL of the API server.
func (c *ControlPlane) Server() string { return c.cfg.server() }

// Kubeconfig returns the path of the administrator's kubeconfig file.
func (c *ControlPlane) Kubeconfig() string { return c.cfg.pki().path(adminName + ".kubeconfig") }

// CAFile returns the path of the CA certificate by which the API server is known.
func (c *ControlPlane) CAFile() string { return c.cfg.pki().path("ca.crt") }

// CA returns the CA of the cluster, which signs users and nodes.
func (c *ControlPlane) CA() (*CA, error) { return c.cfg.pki().clusterCA() }

// UserKubeconfig issues a client certificate for a user with groups and returns the path of a kubeconfig file with it.
func (c *ControlPlane) UserKubeconfig(file, user string, groups ...string) (string, error) {
	ca, err := c.CA()
	if err != nil {
		return "", err
	}
	return c.cfg.pki().kubeconfig(ca, file, c.Server(), user, groups...)
}

// RESTConfig returns the administrator's client configuration, without client-side rate limits.
func (c *ControlPlane) RESTConfig() (*rest.Config, error) {
	config, err := clientcmd.BuildConfigFromFlags("", c.Kubeconfig())
	if err != nil {
		return nil, fmt.Errorf("read kubeconfig: %w", err)
	}
	config.QPS = -1
	config.Dial = c.cfg.Dial
	return config, nil
}

// Stop lets the components end in order, each within grace.
func (c *ControlPlane) Stop(ctx context.Context, grace time.Duration) error {
	return c.eachBackwards(func(p *proc.Process) error { return p.Stop(ctx, grace) })
}

// Kill ends all components at once. What etcd had accepted is kept by its files all the same.
func (c *ControlPlane) Kill() error {
	return c.eachBackwards((*proc.Process).Kill)
}

func (c *ControlPlane) eachBackwards(do func(*proc.Process) error) error {
	processes, err := proc.All(c.cfg.runDir())
	if err != nil {
		return err
	}
	order := c.cfg.components()
	slices.SortFunc(processes, func(a, b *proc.Process) int {
		return slices.Index(order, b.Name()) - slices.Index(order, a.Name())
	})
	var errs []error
	for _, p := range processes {
		errs = append(errs, do(p))
	}
	return errors.Join(errs...)
}

// waitReady returns when the control plane can be used.
func (c *ControlPlane) waitReady(ctx context.Context) error {
	config, err := c.RESTConfig()
	if err != nil {
		return err
	}
	config.Timeout = probeTimeout
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("make client: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	if err := c.poll(ctx, "the API server to be ready", func() error {
		return client.Discovery().RESTClient().Get().AbsPath("/readyz").Do(ctx).Error()
	}); err != nil || !c.cfg.ControllerManager {
		return err
	}
	return c.poll(ctx, "the default ServiceAccount", func() error {
		_, err := client.CoreV1().ServiceAccounts(metav1.NamespaceDefault).Get(ctx, metav1.NamespaceDefault, metav1.GetOptions{})
		return err
	})
}

// poll calls check until it succeeds, a component dies or ctx is done.
func (c *ControlPlane) poll(ctx context.Context, what string, check func() error) error {
	ticker := time.NewTicker(readyInterval)
	defer ticker.Stop()
	for {
		err := check()
		if err == nil {
			return nil
		}
		died := c.dead()
		if errors.Is(died, errImpatient) {
			died = c.startComponents(ctx) // as a kubelet would
		}
		if died != nil {
			return died
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w; last answer: %w", what, ctx.Err(), err)
		case <-ticker.C:
		}
	}
}
