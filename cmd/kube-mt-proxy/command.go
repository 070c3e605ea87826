// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/cloudveneto/caas/internal/cli"
)

const program = "kube-mt-proxy"

const description = `kube-mt-proxy is the address that users' kubeconfigs point to. It passes their requests
on to the API server with their own tokens, and adds the selector for what is theirs to
lists, watches and deletions of collections, which kube-mt-authz demands. What is not
theirs is not found, as if it did not exist.

It has no rights, no certificate that the API server would know, and keeps nothing on
disk: nothing of the security rests on it. Users with client certificates cannot come
this way, since a certificate cannot be passed on.

A file for a start, /etc/kubernetes/mt/proxy.yaml:

  listen: 0.0.0.0:8443
  tls:
    certFile: /etc/kubernetes/mt/proxy.crt     # users' kubeconfigs trust its authority
    keyFile: /etc/kubernetes/mt/proxy.key
  server:
    url: https://127.0.0.1:6443
    caFile: /etc/kubernetes/pki/ca.crt
  policyFile: /etc/kubernetes/mt/policy.yaml   # that of kube-mt-authz; none for the defaults

GET /mt/v1/whoami tells users who they are and which namespace is theirs. --check says
what is wrong with a file, and ends. Manifests are in deploy/kube-mt-proxy.

Every flag can be set by the environment: MT_PROXY_LISTEN for --listen. Traces are
exported when OTEL_EXPORTER_OTLP_ENDPOINT is set.`

const envPrefix = "MT_PROXY_"

type options struct {
	config, listen, opsListen string
	check, pprof              bool
}

func newCommand() *cobra.Command {
	o := &options{}
	command := &cobra.Command{
		Use:   program,
		Short: "Select for the users of the API server what is theirs",
		Long:  description,
		Example: `  kube-mt-proxy --config proxy.yaml
  kube-mt-proxy --config proxy.yaml --check    # say what is wrong with it, and end`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return o.run(cmd) },
	}
	flags := command.Flags()
	flags.StringVar(&o.config, "config", "/etc/kubernetes/mt/proxy.yaml", "configuration file")
	flags.BoolVar(&o.check, "check", false, "check the configuration and end")
	flags.StringVar(&o.listen, "listen", "", "where to serve users, in place of the file's: host:port")
	flags.StringVar(&o.opsListen, "ops-listen", "", "where to serve /healthz, /readyz and /metrics, in place of the file's: host:port, or none")
	flags.BoolVar(&o.pprof, "pprof", false, "serve /debug/pprof/ with the metrics")
	cli.LogFlags(command)
	return command
}

func (o *options) run(cmd *cobra.Command) error {
	if err := cli.FromEnvironment(cmd.Flags(), envPrefix, os.LookupEnv); err != nil {
		return err
	}
	settings, err := o.load()
	if err != nil {
		return err
	}
	if o.check {
		_, err := fmt.Fprintln(cmd.OutOrStdout(), "the configuration is valid")
		return err
	}
	return serve(cmd.Context(), o, settings)
}
