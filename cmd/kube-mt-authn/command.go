// SPDX-License-Identifier: Apache-2.0

package main

import (
	"github.com/spf13/cobra"

	"github.com/cloudveneto/caas/internal/service"
)

const program = "kube-mt-authn"

const description = `kube-mt-authn answers the API server's question whose a token is: of Keystone's
tokens it asks Keystone, and those of OpenID providers it verifies with their keys.
It needs no credential for either, knows nothing of the cluster and keeps nothing on
disk. Users get the groups osn:authenticated and osn:project:ID, and never a name or
a group of Kubernetes' own.

Run one beside each API server, whose flags are then
--authentication-token-webhook-config-file=/etc/kubernetes/mt/authn.kubeconfig
--authentication-token-webhook-version=v1 and
--authentication-token-webhook-cache-ttl=30s.

A file for a start, /etc/kubernetes/mt/authn.yaml:

  listen: 127.0.0.1:9641
  tls:
    certFile: /etc/kubernetes/mt/authn.crt
    keyFile: /etc/kubernetes/mt/authn.key
    clientCAFile: /etc/kubernetes/mt/ca.crt    # of the API server's client certificate
  keystone:
    authURL: https://keystone.example.org:5000/v3
    caFile: /etc/kubernetes/mt/keystone-ca.crt
  oidc:
  - issuer: https://iam.example.org/
    audiences: [caas]
    userNameClaim: preferred_username
    userNamePrefix: "iam:"
    groupsPrefix: "iam:"
    projects:
    - {group: cms/users, id: 5f1f0e3c6f6f4c7a8f0a9c1e2b3d4f5a, name: CMS}

--check says what is wrong with a file, and ends. SIGHUP makes the program forget what
it knows of tokens. Manifests are in deploy/kube-mt-authn.

Every flag can be set by the environment: MT_AUTHN_LISTEN for --listen. Traces are
exported when OTEL_EXPORTER_OTLP_ENDPOINT is set.`

type options struct {
	listen, opsListen                   string
	printConfiguration, insecure, pprof bool
}

func newCommand() *cobra.Command {
	o := &options{}
	command := service.Program[*file]{
		Name: program, Short: "Tell the API server whose a Keystone or OpenID token is", Description: description,
		Examples: `  kube-mt-authn --config authn.yaml
  kube-mt-authn --config authn.yaml --check    # say what is wrong with it, and end
  kube-mt-authn --config authn.yaml --print-authentication-config > authentication.yaml`,
		EnvPrefix: "MT_AUTHN_", Config: "/etc/kubernetes/mt/authn.yaml", Load: o.load, Print: o.print, Serve: o.serve,
	}.Command()
	flags := command.Flags()
	flags.BoolVar(&o.printConfiguration, "print-authentication-config", false,
		"print the AuthenticationConfiguration by which the API server verifies the OpenID providers' tokens itself, and end")
	flags.StringVar(&o.listen, "listen", "", "where to serve the webhook, in place of the file's: host:port")
	flags.StringVar(&o.opsListen, "ops-listen", "127.0.0.1:9642", "where to serve /healthz, /readyz and /metrics: host:port; empty for none")
	flags.BoolVar(&o.insecure, "insecure", false, "allow a Keystone and issuers without TLS, over which everybody can read and make tokens")
	flags.BoolVar(&o.pprof, "pprof", false, "serve /debug/pprof/ with the metrics")
	return command
}

// print returns the API server's configuration if it is asked for.
func (o *options) print(settings *file) ([]byte, error) {
	if !o.printConfiguration {
		return nil, nil
	}
	return settings.issuers.AuthenticationConfiguration()
}
