// SPDX-License-Identifier: Apache-2.0

package main

import (
	"github.com/spf13/cobra"

	"github.com/cloudveneto/caas/internal/lab"
	"github.com/cloudveneto/caas/internal/lab/node"
)

// newSupervise is the lab's own background process.
func newSupervise() *cobra.Command {
	return &cobra.Command{
		Use: "supervise LAB", Hidden: true, Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return lab.Supervise(cmd.Context(), args[0]) },
	}
}

// newNodeInit is the first process of a node.
func newNodeInit() *cobra.Command {
	return &cobra.Command{
		Use: "node-init CONFIG", Hidden: true, Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return node.Main(cmd.Context(), args[0]) },
	}
}
