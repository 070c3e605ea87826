// SPDX-License-Identifier: Apache-2.0

package main

import (
	"github.com/spf13/cobra"

	"github.com/cloudveneto/caas/internal/service"
)

const description = `kube-mt-authz keeps apart the users who share a namespace: the API server asks it
about each request of a tenant, and it denies those for what is not his. It never
allows anything; what it does not deny is left to RBAC.

Run one beside each API server, with --authorization-config of the API server set to
what --print-authorization-config prints. It reads the metadata of all objects that
tenants own, keeps nothing on disk, and denies everything until it knows them.

A file for a start, /etc/kubernetes/mt/authz.yaml:

  listen: 127.0.0.1:9643
  tls:
    certFile: /etc/kubernetes/mt/authz.crt
    keyFile: /etc/kubernetes/mt/authz.key
    clientCAFile: /etc/kubernetes/mt/ca.crt    # of the API server's client certificate
  kubeconfig: /etc/kubernetes/mt/authz-reader.kubeconfig
  webhookKubeconfig: /etc/kubernetes/mt/authz.kubeconfig
  policyFile: /etc/kubernetes/mt/policy.yaml   # what tenants own; none for the defaults
  trusted:
    serviceAccounts: [kube-flannel/flannel]    # operators that are not in the policy

--check says what is wrong with a file, and ends. Manifests are in
deploy/kube-mt-authz.

Every flag can be set by the environment: MT_AUTHZ_KUBECONFIG for --kubeconfig. Traces
are exported when OTEL_EXPORTER_OTLP_ENDPOINT is set.`

type options struct {
	kubeconfig, listen, opsListen string
	printConfiguration, pprof     bool
}

func newCommand() *cobra.Command {
	o := &options{}
	command := service.Program[*file]{
		Name: program, Short: "Deny requests for what belongs to others in the same namespace", Description: description,
		Examples: `  kube-mt-authz --config authz.yaml
  kube-mt-authz --config authz.yaml --check    # say what is wrong with it, and end
  kube-mt-authz --config authz.yaml --print-authorization-config > authorization.yaml`,
		EnvPrefix: "MT_AUTHZ_", Config: "/etc/kubernetes/mt/authz.yaml", Load: o.load, Print: o.print, Serve: o.serve,
	}.Command()
	flags := command.Flags()
	flags.BoolVar(&o.printConfiguration, "print-authorization-config", false, "print the API server's AuthorizationConfiguration and end")
	flags.StringVar(&o.kubeconfig, "kubeconfig", "", "kubeconfig for reading metadata, in place of the file's")
	flags.StringVar(&o.listen, "listen", "", "where to serve the webhook, in place of the file's: host:port")
	flags.StringVar(&o.opsListen, "ops-listen", "127.0.0.1:9644", "where to serve /healthz, /readyz and /metrics: host:port; empty for none")
	flags.BoolVar(&o.pprof, "pprof", false, "serve /debug/pprof/ with the metrics")
	return command
}

// print returns the API server's configuration if it is asked for.
func (o *options) print(settings *file) ([]byte, error) {
	if !o.printConfiguration {
		return nil, nil
	}
	return settings.rules.AuthorizationConfiguration(settings.WebhookKubeconfig)
}
