// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/cloudveneto/caas/internal/cli"
	"github.com/cloudveneto/caas/internal/logging"
	"github.com/cloudveneto/caas/provider/settings"
)

const long = `virtual-kubelet registers a virtual node in this cluster. Pods placed on the node
run at the far end of an interLink API: on another Kubernetes cluster, or on
whatever a plugin drives. Their status, logs and deletion work as on any node.

It reads upstream interLink's configuration file, and its environment:

  NODENAME     name of the virtual node
  CONFIGPATH   configuration file, by default ` + settings.DefaultPath + `
  KUBECONFIG   how to reach this cluster; unset inside a pod
  KUBELET_URL  address that the kubelet port listens on, by default 0.0.0.0
  KUBELET_PORT port of it, by default 5820
  POD_IP       address under which the API server reaches that port

Flags beat the environment. The smallest configuration file is

  InterlinkURL: https://interlink.example.org
  InterlinkPort: 443
  VKTokenFile: /etc/interlink/token

Stopping the program deletes nothing: the node and its pods stay, and a new
process takes them over.`

const example = `  # Register the node caas-0 from outside the cluster.
  virtual-kubelet --nodename caas-0 --configpath InterLinkConfig.yaml --kubeconfig ~/.kube/config

  # Check a configuration file and stop.
  virtual-kubelet --nodename caas-0 --configpath InterLinkConfig.yaml --check

  # Place a pod on the node: select it, and tolerate its taint.
  kubectl run hello --image=busybox --restart=Never --overrides='{"spec": {
    "nodeSelector": {"kubernetes.io/hostname": "caas-0"},
    "tolerations": [{"key": "virtual-node.interlink/no-schedule", "operator": "Exists"}]}}' -- echo hello`

// options are the flags.
type options struct {
	nodeName   string
	configPath string
	kubeconfig string
	opsAddress string
	certDir    string
	check      bool
	pprof      bool
}

func command() *cobra.Command {
	var o options
	cmd := &cobra.Command{
		Use:     "virtual-kubelet",
		Short:   "Run pods of this cluster at the far end of an interLink API",
		Long:    long,
		Example: example,
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return o.run(cmd) },
	}
	cli.LogFlags(cmd)
	flags := cmd.Flags()
	flags.StringVar(&o.nodeName, "nodename", os.Getenv("NODENAME"), "name of the virtual node")
	flags.StringVar(&o.configPath, "configpath", orElse(os.Getenv("CONFIGPATH"), settings.DefaultPath), "configuration file")
	flags.StringVar(&o.kubeconfig, "kubeconfig", os.Getenv("KUBECONFIG"), "kubeconfig file of this cluster; empty inside a pod")
	flags.StringVar(&o.opsAddress, "ops-address", "", "where /healthz, /readyz and /metrics are served, or none (key OpsAddress, default "+settings.DefaultOpsAddress+")")
	flags.StringVar(&o.certDir, "cert-dir", "/var/lib/virtual-kubelet/pki", "where the kubelet port's key and certificate are kept")
	flags.BoolVar(&o.pprof, "pprof", false, "serve /debug/pprof/ with the metrics, as the key Pprof.Enabled does")
	flags.BoolVar(&o.check, "check", false, "check the configuration file and stop")
	cmd.SetArgs(upstreamFlags(flags, os.Args[1:]))
	return cmd
}

// upstreamFlags accepts upstream's flags with one dash.
func upstreamFlags(flags *pflag.FlagSet, arguments []string) []string {
	list := make([]string, 0, len(arguments))
	for _, argument := range arguments {
		for _, name := range []string{"nodename", "configpath"} {
			long := len(argument) > len(name) && argument[:len(name)+1] == "-"+name
			if long && flags.Lookup(name) != nil {
				argument = "-" + argument
				break
			}
		}
		list = append(list, argument)
	}
	return list
}

func orElse(value, other string) string {
	if value == "" {
		return other
	}
	return value
}

func (o *options) run(cmd *cobra.Command) error {
	if o.nodeName == "" {
		return errors.New("the node has no name: give --nodename or set NODENAME")
	}
	loaded, err := settings.Load(o.configPath, settings.Environment{
		NodeName:       o.nodeName,
		KubeletAddress: os.Getenv("KUBELET_URL"),
		KubeletPort:    os.Getenv("KUBELET_PORT"),
		PodIP:          os.Getenv("POD_IP"),
	})
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w; name the file by --configpath or CONFIGPATH (see --help for the smallest one)", err)
	}
	if err != nil {
		return err
	}
	if loaded.Kubelet.CertDir == "" {
		loaded.Kubelet.CertDir = o.certDir
	}
	switch o.opsAddress {
	case "":
	case "none":
		loaded.OpsAddress = ""
	default:
		loaded.OpsAddress = o.opsAddress
	}
	loaded.Pprof = loaded.Pprof || o.pprof
	if o.check {
		_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s is valid\n", o.configPath)
		return err
	}
	ctx := cmd.Context()
	if loaded.LogLevel != "" && !cmd.Flags().Changed("log-level") {
		format, _ := cmd.Flags().GetString("log-format")
		logger, err := logging.New(cmd.ErrOrStderr(), logging.Options{Level: loaded.LogLevel, Format: format})
		if err != nil {
			return err
		}
		ctx = logging.Into(ctx, logger)
	}
	return run(ctx, o, loaded)
}
