// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"os"
	"os/exec"

	"github.com/spf13/cobra"

	"github.com/cloudveneto/caas/internal/cli"
	"github.com/cloudveneto/caas/internal/lab"
)

func newKubectl(name *string) *cobra.Command {
	return &cobra.Command{
		Use:     "kubectl CLUSTER -- ARGUMENTS",
		Short:   "Run the kubectl of the lab's version on a cluster, caas or af",
		Example: "  caas-lab kubectl caas -- get nodes",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			l, err := lab.Open(*name)
			if err != nil {
				return err
			}
			cluster, err := l.Cluster(args[0])
			if err != nil {
				return err
			}
			kubectl := exec.CommandContext(cmd.Context(), l.Kubectl(), args[1:]...) //nolint:gosec // the user's own arguments
			kubectl.Env = append(os.Environ(), "KUBECONFIG="+cluster.Kubeconfig())
			kubectl.Stdin, kubectl.Stdout, kubectl.Stderr = cmd.InOrStdin(), cmd.OutOrStdout(), cmd.ErrOrStderr()
			// The terminal interrupts kubectl as well, which then ends in its own way.
			kubectl.Cancel = func() error { return kubectl.Process.Signal(os.Interrupt) }
			err = kubectl.Run()
			if failed, ok := errors.AsType[*exec.ExitError](err); ok {
				return &cli.ExitError{Code: max(failed.ExitCode(), 1)} // kubectl has said why
			}
			return err
		},
	}
}
