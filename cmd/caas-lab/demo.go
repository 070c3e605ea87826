// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/cloudveneto/caas/internal/lab"
	"github.com/cloudveneto/caas/internal/lab/demo"
	"github.com/cloudveneto/caas/internal/lab/offload"
)

const (
	// virtualNode is the demo's virtual node, tenantNamespace where its pods run.
	virtualNode     = "caas-virtual"
	tenantNamespace = "cms"
)

func newDemo(name *string) *cobra.Command {
	var (
		binDir    string
		noTenancy bool
	)
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Run a physics job of the remote cluster on the CaaS cluster's nodes",
		Long: `demo makes the lab if there is none, starts the offloading path (a virtual kubelet in the remote cluster af, the
interLink API and the sidecar for the cluster caas), and submits examples/montecarlo in af: twenty pods estimate the dose
behind a shield. It checks the result against theory and leaves everything running, for looking around.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			l, err := labFor(cmd, lab.Config{Name: *name, Programs: binDir, NoTenancy: noTenancy})
			if err != nil {
				return err
			}
			path, err := startPath(cmd.Context(), l, offload.Config{
				Lab: l, BinDir: binDir, Node: virtualNode, RemoteNamespace: tenantNamespace,
			})
			if err != nil {
				return err
			}
			say(cmd, "The virtual node %s is Ready in cluster af.\n", path.Node)
			origin, caas, err := clients(l)
			if err != nil {
				return err
			}
			err = demo.Run(cmd.Context(), demo.Config{
				Origin: origin, CaaS: caas, Node: path.Node, RemoteNamespace: path.RemoteNamespace, Out: cmd.OutOrStdout(),
			})
			if err != nil {
				return err
			}
			return sayWhereToLook(cmd, l, path)
		},
	}
	cmd.Flags().StringVar(&binDir, "bin", besides(), "directory of this project's programs")
	hiddenTenancyFlag(cmd, &noTenancy)
	return cmd
}

// besides is the directory of the running program, where the others are too.
func besides() string {
	self, err := os.Executable()
	if err != nil {
		return "."
	}
	return filepath.Dir(self)
}

// labFor makes the lab, or what is missing of it.
func labFor(cmd *cobra.Command, config lab.Config) (*lab.Lab, error) {
	config.Progress = newDisplay(cmd.OutOrStdout()).show
	if _, err := lab.Up(cmd.Context(), config); err != nil {
		return nil, err
	}
	return lab.Open(config.Name)
}

// startPath starts an offloading path and waits until its node is Ready.
func startPath(ctx context.Context, l *lab.Lab, config offload.Config) (*offload.Path, error) {
	path, err := offload.New(ctx, config)
	if err != nil {
		return nil, err
	}
	if err := path.StartAll(ctx); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if err := path.AwaitReady(ctx); err != nil {
		return nil, fmt.Errorf("%w; look at: caas-lab --name %s logs %s-%s", err, l.Name(), offload.VirtualKubelet, config.Node)
	}
	return path, nil
}

// clients have an administrator's rights in the two clusters.
func clients(l *lab.Lab) (origin, caas *kubernetes.Clientset, err error) {
	for cluster, client := range map[string]**kubernetes.Clientset{lab.AF: &origin, lab.CaaS: &caas} {
		found, err := l.Cluster(cluster)
		if err != nil {
			return nil, nil, err
		}
		config, err := found.RESTConfig()
		if err != nil {
			return nil, nil, err
		}
		if *client, err = kubernetes.NewForConfig(config); err != nil {
			return nil, nil, fmt.Errorf("client of cluster %s: %w", cluster, err)
		}
	}
	return origin, caas, nil
}

func sayWhereToLook(cmd *cobra.Command, l *lab.Lab, path *offload.Path) error {
	tool := os.Args[0] + " --name " + l.Name()
	say(cmd, `
Where to look next:
  %[1]s kubectl af -- get nodes
  %[1]s kubectl af -- -n montecarlo get pods -o wide
  %[1]s kubectl af -- -n montecarlo logs job/montecarlo
  %[1]s kubectl caas -- -n %[2]s get pods -o wide
  %[1]s logs %[3]s-%[4]s
  %[1]s down
`, tool, path.RemoteNamespace, offload.VirtualKubelet, path.Node)
	return nil
}

// ensureNamespace makes a namespace and waits for the account that its pods need.
func ensureNamespace(ctx context.Context, client kubernetes.Interface, name string) error {
	_, err := client.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
	if err = offload.IgnoreExisting(err); err != nil {
		return fmt.Errorf("create namespace %s: %w", name, err)
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for {
		if _, err = client.CoreV1().ServiceAccounts(name).Get(ctx, "default", metav1.GetOptions{}); err == nil {
			return nil
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("default service account of namespace %s", name), err)
		}
	}
}
