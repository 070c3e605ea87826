// SPDX-License-Identifier: Apache-2.0

package main

import (
	"github.com/spf13/cobra"

	"github.com/cloudveneto/caas/internal/service"
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

type options struct {
	listen, opsListen string
	pprof             bool
}

func newCommand() *cobra.Command {
	o := &options{}
	command := service.Program[*file]{
		Name: program, Short: "Select for the users of the API server what is theirs", Description: description,
		Examples: `  kube-mt-proxy --config proxy.yaml
  kube-mt-proxy --config proxy.yaml --check    # say what is wrong with it, and end`,
		EnvPrefix: "MT_PROXY_", Config: "/etc/kubernetes/mt/proxy.yaml", Load: o.load, Serve: o.serve,
	}.Command()
	flags := command.Flags()
	flags.StringVar(&o.listen, "listen", "", "where to serve users, in place of the file's: host:port")
	flags.StringVar(&o.opsListen, "ops-listen", "", "where to serve /healthz, /readyz and /metrics, in place of the file's: host:port, or none")
	flags.BoolVar(&o.pprof, "pprof", false, "serve /debug/pprof/ with the metrics")
	return command
}
