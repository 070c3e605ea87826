// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/cloudveneto/caas/internal/cli"
	"github.com/cloudveneto/caas/internal/lab"
)

func newStatus(name *string) *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Show how the lab is; the exit code is 1 when something is missing",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			l, err := lab.Open(*name)
			if err != nil {
				return err
			}
			status := l.Status(cmd.Context())
			table := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
			writeStatus(table, status)
			if err := table.Flush(); err != nil {
				return err
			}
			for _, problem := range status.Problems {
				say(cmd, "! %s\n", problem)
			}
			if !status.Healthy() {
				return &cli.ExitError{Code: 1}
			}
			return nil
		},
	}
}

func writeStatus(out io.Writer, status lab.Status) {
	put := func(format string, args ...any) { _, _ = fmt.Fprintf(out, format+"\n", args...) } // Flush reports errors
	for _, cluster := range status.Clusters {
		put("%s\t%s\t%s", cluster.Name, cluster.Server, cluster.Kubeconfig)
		for _, component := range cluster.Components {
			put("  %s", processLine(component))
		}
		for _, node := range cluster.Nodes {
			put("  %s\t%s\t%s\t%s", node.Name, nodeState(node), node.Address, node.Version)
		}
	}
	put("services")
	for _, process := range status.Processes {
		put("  %s", processLine(process))
	}
}

func nodeState(node lab.NodeStatus) string {
	switch {
	case !node.Running:
		return "stopped"
	case !node.Ready:
		return "not ready"
	}
	return "ready"
}

func processLine(process lab.ProcessStatus) string {
	if !process.Running {
		return process.Name + "\tstopped"
	}
	return fmt.Sprintf("%s\trunning\tpid %d\t%d MiB", process.Name, process.PID, process.Memory>>20)
}
