// SPDX-License-Identifier: Apache-2.0

package main

import (
	"github.com/spf13/cobra"

	"github.com/cloudveneto/caas/internal/cli"
	"github.com/cloudveneto/caas/internal/lab"
	"github.com/cloudveneto/caas/internal/lab/hypervisor/guest"
	"github.com/cloudveneto/caas/internal/lab/node"
)

// newSupervise is the lab's own background process.
func newSupervise() *cobra.Command {
	return &cobra.Command{
		Use: "supervise LAB", Hidden: true, Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return lab.Supervise(cmd.Context(), args[0]) },
	}
}

// newHypervise is the hypervisor of the lab's OpenStack.
func newHypervise() *cobra.Command {
	return &cobra.Command{
		Use: "hypervise LAB", Hidden: true, Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return lab.Hypervise(cmd.Context(), args[0]) },
	}
}

// newMachineInit is the first process of a machine of the hypervisor.
func newMachineInit() *cobra.Command {
	return &cobra.Command{
		Use: "machine-init CONFIG", Hidden: true, Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return guest.Init(cmd.Context(), args[0]) },
	}
}

// newMachineSystemctl is systemctl inside a machine of the hypervisor, and takes whatever that takes.
func newMachineSystemctl() *cobra.Command {
	return &cobra.Command{
		Use: "machine-systemctl", Hidden: true, DisableFlagParsing: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			if code := guest.Systemctl(cmd.Context(), args, cmd.OutOrStdout(), cmd.ErrOrStderr()); code != 0 {
				return &cli.ExitError{Code: code}
			}
			return nil
		},
	}
}

// newNodeInit is the first process of a node.
func newNodeInit() *cobra.Command {
	return &cobra.Command{
		Use: "node-init CONFIG", Hidden: true, Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return node.Main(cmd.Context(), args[0]) },
	}
}
