// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cloudveneto/caas/internal/cli"
	"github.com/cloudveneto/caas/internal/lab"
)

const defaultName = "lab"

func newCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "caas-lab",
		Short: "Run two real Kubernetes clusters, and an OpenStack, on this machine",
		Long: `caas-lab runs a CaaS cluster (caas) and a remote cluster (af) on this machine, in network namespaces of
their own: etcd, the Kubernetes control plane, nodes with containerd and kubelet, a DNS each, and a registry. With
--openstack it also runs Keystone, Placement, Glance, Neutron and Nova, whose servers boot the node image and join
the CaaS cluster.

It needs root. Programs and images are built on first use, which takes minutes, and kept in
$` + "CAAS_LAB_CACHE" + ` (~/.cache/caas-lab). Everything else is in $CAAS_LAB_STATE (/var/lib/caas-lab), and
goes away with "caas-lab down".`,
	}
	cli.LogFlags(root)
	name := root.PersistentFlags().String("name", nameFromEnvironment(), "the lab, also $CAAS_LAB_NAME; several with different names can run at a time")
	root.AddCommand(
		newUp(name), newDown(name), newStatus(name), newList(), newKubeconfig(name), newKubectl(name), newLogs(name),
		newImages(), newDemo(name), newBench(name), newSupervise(), newHypervise(), newNodeInit(), newMachineInit(), newMachineSystemctl(),
	)
	return root
}

// nameFromEnvironment lets a shell work in one lab without repeating its name.
func nameFromEnvironment() string {
	if name := os.Getenv("CAAS_LAB_NAME"); name != "" {
		return name
	}
	return defaultName
}

func newUp(name *string) *cobra.Command {
	var (
		cfg    lab.Config
		binDir string
	)
	counts := map[string]*int{}
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Make the lab, or what is missing of it",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg.Programs = binDir
			cfg.Name, cfg.Nodes, cfg.Progress = *name, map[string]int{}, newDisplay(cmd.OutOrStdout()).show
			for cluster, count := range counts {
				if cmd.Flags().Changed(cluster + "-nodes") {
					cfg.Nodes[cluster] = *count
				}
			}
			already, err := lab.Up(cmd.Context(), cfg)
			if err != nil {
				return err
			}
			l, err := lab.Open(*name)
			if err != nil {
				return err
			}
			if already {
				say(cmd, "Lab %s is running already.\n", *name)
			}
			if err := sayHowToUse(cmd, l); err != nil {
				return err
			}
			return startSite(cmd, l, binDir)
		},
	}
	counts[lab.CaaS] = cmd.Flags().Int("caas-nodes", 2, "nodes of the CaaS cluster")
	counts[lab.AF] = cmd.Flags().Int("af-nodes", 1, "nodes of the remote cluster")
	cmd.Flags().BoolVar(&cfg.OpenStack, "openstack", false, "also run an OpenStack and the OSNode controller")
	cmd.Flags().BoolVar(&cfg.VMs, "vms", false, "the same with servers that are virtual machines: one takes a minute to boot")
	cmd.Flags().StringVar(&binDir, "bin", besides(), "directory of this project's programs that the lab runs")
	hiddenTenancyFlag(cmd, &cfg.NoTenancy)
	cmd.Flags().BoolVar(&cfg.Keep, "keep", false, "leave a lab that does not come up as it is, for looking at it")
	cmd.Flags().StringVar(&cfg.Source, "source", "", "root of the source tree (default: found from the working directory)")
	return cmd
}

// hiddenTenancyFlag is for finding out what the webhooks do, and cost.
func hiddenTenancyFlag(cmd *cobra.Command, without *bool) {
	cmd.Flags().BoolVar(without, "no-tenancy", false, "a new lab gets no Keystone and no webhooks: its cluster caas has no tenants")
	_ = cmd.Flags().MarkHidden("no-tenancy") // the flag exists
}

func sayHowToUse(cmd *cobra.Command, l *lab.Lab) error {
	flag := ""
	if l.Name() != nameFromEnvironment() {
		flag = " --name " + l.Name()
	}
	say(cmd, "\n")
	for _, name := range []string{lab.CaaS, lab.AF} {
		cluster, err := l.Cluster(name)
		if err != nil {
			return err
		}
		say(cmd, "%-5s %-24s KUBECONFIG=%s\n", name, cluster.Server(), cluster.Kubeconfig())
	}
	say(cmd, "\nTry:  %[1]s kubectl%[2]s caas -- get nodes\n      %[1]s down%[2]s\n", os.Args[0], flag)
	return nil
}

func newDown(name *string) *cobra.Command {
	return &cobra.Command{
		Use:   "down",
		Short: "End the lab and remove everything of it",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			existed, err := lab.Down(cmd.Context(), *name, newDisplay(cmd.OutOrStdout()).show)
			if err == nil && !existed {
				say(cmd, "There was no lab %s.\n", *name)
			}
			return err
		},
	}
}

func newList() *cobra.Command {
	return &cobra.Command{
		Use:   "ls",
		Short: "List the labs on this machine",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			names, err := lab.Names()
			if err != nil {
				return err
			}
			for _, name := range names {
				say(cmd, "%s\n", name)
			}
			return nil
		},
	}
}

func newImages() *cobra.Command {
	var cfg lab.Config
	cmd := &cobra.Command{
		Use:   "images",
		Short: "Build the container images that every lab serves",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg.Progress = newDisplay(cmd.OutOrStdout()).show
			built, err := lab.BuildImages(cmd.Context(), cfg)
			for _, image := range built {
				say(cmd, "%-40s %4d MiB  %s\n", image.Reference, image.Size>>20, image.Layout)
			}
			return err
		},
	}
	cmd.Flags().StringVar(&cfg.Source, "source", "", "root of the source tree (default: found from the working directory)")
	return cmd
}

func newKubeconfig(name *string) *cobra.Command {
	return &cobra.Command{
		Use:       "kubeconfig CLUSTER",
		Short:     "Print a kubeconfig file for a cluster, caas or af",
		Args:      cobra.ExactArgs(1),
		ValidArgs: []string{lab.CaaS, lab.AF},
		RunE: func(cmd *cobra.Command, args []string) error {
			cluster, err := openCluster(*name, args[0])
			if err != nil {
				return err
			}
			data, err := os.ReadFile(cluster.Kubeconfig())
			if err != nil {
				return fmt.Errorf("read kubeconfig: %w", err)
			}
			_, err = cmd.OutOrStdout().Write(data)
			return err
		},
	}
}

func openCluster(name, cluster string) (*lab.Cluster, error) {
	l, err := lab.Open(name)
	if err != nil {
		return nil, err
	}
	return l.Cluster(cluster)
}

func newLogs(name *string) *cobra.Command {
	var follow bool
	cmd := &cobra.Command{
		Use:   "logs [COMPONENT]",
		Short: "Print a log, or without an argument the names of all logs",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			l, err := lab.Open(*name)
			if err != nil {
				return err
			}
			if len(args) == 1 {
				return l.WriteLog(cmd.Context(), cmd.OutOrStdout(), args[0], follow)
			}
			names, err := l.LogNames()
			say(cmd, "%s\n", strings.Join(names, "\n"))
			return err
		},
	}
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on with what is added")
	return cmd
}

// say writes to the command's output. That it cannot be written has no better place to be told.
func say(cmd *cobra.Command, format string, args ...any) {
	_, _ = fmt.Fprintf(cmd.OutOrStdout(), format, args...)
}
