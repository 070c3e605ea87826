// SPDX-License-Identifier: Apache-2.0

package kwok

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"k8s.io/client-go/kubernetes"

	"github.com/cloudveneto/caas/internal/lab/gobuild"
	"github.com/cloudveneto/caas/internal/lab/proc"
)

const (
	// RunForAnnotation on a pod names the duration after which it ends well.
	RunForAnnotation = "lab.caas/run-for"

	// managedLabel is on every fake node, and is how KWOK tells them from real ones.
	managedLabel = "lab.caas/fake-node"

	processName = "kwok"
	stagesFile  = "kwok-stages.yaml"
	stopGrace   = 2 * time.Second
	// podCIDR is where the addresses of fake pods come from; nothing answers there.
	podCIDR = "10.192.0.1/12"
)

//go:embed stages.yaml
var stages []byte

// Build returns the path of KWOK's program. cfg.Target is ignored. From nothing it takes minutes.
func Build(ctx context.Context, cfg gobuild.Config) (string, error) {
	cfg.Target = gobuild.Target{Name: "kwok", Module: "hack/kwok", Package: "sigs.k8s.io/kwok/cmd/kwok", LDFlags: "-s -w"}
	dir, err := gobuild.Build(ctx, cfg)
	return filepath.Join(dir, cfg.Target.Name), err
}

// Config describes fake nodes.
type Config struct {
	// Client MUST have the rights to create nodes.
	Client kubernetes.Interface
	// Kubeconfig is the file that KWOK itself uses; its user MUST have the rights of a cluster administrator.
	Kubeconfig string
	// Dir holds KWOK's configuration, log and process record.
	Dir string
	// Nodes is how many nodes there are; they are called fake-1 and so on, after Prefix.
	Nodes int
	// Prefix replaces "fake-".
	Prefix string
	// Labels and Taints are put on every node. A taint is written key=value:Effect.
	Labels map[string]string
	Taints []string
	// CPU, Memory and Pods are the size of every node; the zero values are plenty.
	CPU, Memory, Pods string
	// NetNS is the network namespace to run KWOK in; empty means this process'.
	NetNS string
	// EndWithStarter has the kernel kill KWOK when this process ends. It is meant for tests.
	EndWithStarter bool
	// Build says where KWOK's program is built.
	Build gobuild.Config
}

// Nodes are running fake nodes.
type Nodes struct {
	// Names are the nodes' names.
	Names []string

	client  kubernetes.Interface
	process *proc.Process
}

func (c Config) complete() (Config, error) {
	var errs []error
	if c.Client == nil || c.Kubeconfig == "" || c.Dir == "" {
		errs = append(errs, errors.New("client, kubeconfig and directory must be given"))
	}
	if c.Nodes < 1 {
		errs = append(errs, fmt.Errorf("cannot make %d nodes", c.Nodes))
	}
	for _, field := range []struct {
		value *string
		unset string
	}{{&c.Prefix, "fake-"}, {&c.CPU, "1k"}, {&c.Memory, "4Ti"}, {&c.Pods, "20k"}} {
		if *field.value == "" {
			*field.value = field.unset
		}
	}
	return c, errors.Join(errs...)
}

// Start makes the nodes and returns when all of them are Ready. On an error nothing is left running, but nodes may be
// left in the cluster.
func Start(ctx context.Context, cfg Config) (*Nodes, error) {
	cfg, err := cfg.complete()
	if err != nil {
		return nil, fmt.Errorf("start fake nodes: %w", err)
	}
	program, err := Build(ctx, cfg.Build)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(cfg.Dir, 0o750); err != nil {
		return nil, fmt.Errorf("start fake nodes: %w", err)
	}
	config := filepath.Join(cfg.Dir, stagesFile)
	if err := os.WriteFile(config, stages, 0o600); err != nil {
		return nil, fmt.Errorf("start fake nodes: %w", err)
	}
	names, err := cfg.createNodes(ctx)
	if err != nil {
		return nil, err
	}
	process, err := proc.Start(ctx, cfg.Dir, proc.Spec{
		Name: processName, Path: program, NetNS: cfg.NetNS, EndWithStarter: cfg.EndWithStarter,
		Args: []string{
			"--kubeconfig=" + cfg.Kubeconfig, "--config=" + config, "--cidr=" + podCIDR,
			"--manage-nodes-with-label-selector=" + managedLabel, "--manage-all-nodes=false",
			"--node-lease-duration-seconds=40", "--server-address=",
		},
	})
	if err != nil {
		return nil, err
	}
	nodes := &Nodes{Names: names, client: cfg.Client, process: process}
	if err := nodes.waitReady(ctx); err != nil {
		return nil, errors.Join(err, process.Kill())
	}
	return nodes, nil
}

// Stop ends KWOK and removes the nodes; their pods are left to the controllers.
func (n *Nodes) Stop(ctx context.Context) error {
	if err := n.process.Stop(ctx, stopGrace); err != nil {
		return err
	}
	return deleteNodes(ctx, n.client, n.Names)
}

// LogFile returns the path of KWOK's log.
func (n *Nodes) LogFile() string { return n.process.Spec().LogFile }

// splitTaint splits key=value:Effect; the value may be missing.
func splitTaint(text string) (key, value, effect string, err error) {
	rest, effect, ok := strings.Cut(text, ":")
	key, value, _ = strings.Cut(rest, "=")
	if !ok || key == "" || effect == "" {
		return "", "", "", fmt.Errorf("taint %q is not key=value:Effect", text)
	}
	return key, value, effect, nil
}
