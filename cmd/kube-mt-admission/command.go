// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/cloudveneto/caas/internal/service"
	"github.com/cloudveneto/caas/multitenancy/admission"
)

const description = `kube-mt-admission keeps the users of one project apart who share a namespace. The
API server asks it about every change there: it writes whose an object is and holds
that, refuses references to other users' objects, places pods on their owner's nodes
or on the project's, and refuses what would harm others.

It runs beside the API server, which asks it over loopback with a client certificate.
It keeps nothing on disk: run one beside each API server, and restart it at any time.
While it is down, nothing in the projects' namespaces can be changed, but by
administrators.

A file for a start, /etc/kubernetes/mt/admission.yaml:

  listen: 127.0.0.1:9445
  tls:
    certFile: /etc/kubernetes/mt/admission.crt
    keyFile: /etc/kubernetes/mt/admission.key
    clientCAFile: /etc/kubernetes/mt/ca.crt
  policyFile: /etc/kubernetes/mt/policy.yaml   # shared with kube-mt-authz
  rules:
    priorityClasses: [batch-low]

--print-webhook-config writes the objects that make an API server ask it. --check says
what is wrong with a file, and ends. More files are in deploy/kube-mt-admission.

Every flag can be set by the environment: MT_ADMISSION_KUBECONFIG for --kubeconfig.
Traces are exported when OTEL_EXPORTER_OTLP_ENDPOINT is set.`

type options struct {
	kubeconfig, caFile, opsListen string
	printWebhooks                 bool
}

func newCommand() *cobra.Command {
	o := &options{}
	command := service.Program[*file]{
		Name: program, Short: "Keep users of one namespace apart: owners, references and nodes of their objects", Description: description,
		Examples: `  kube-mt-admission --config admission.yaml
  kube-mt-admission --config admission.yaml --check    # say what is wrong with it, and end
  kube-mt-admission --config admission.yaml --print-webhook-config --ca ca.crt | kubectl apply -f -`,
		EnvPrefix: "MT_ADMISSION_", Config: "/etc/kubernetes/mt/admission.yaml", Load: o.load, Print: o.print, Serve: o.serve,
	}.Command()
	flags := command.Flags()
	flags.StringVar(&o.kubeconfig, "kubeconfig", "/etc/kubernetes/mt/admission.kubeconfig", "kubeconfig with which metadata is read; empty inside the cluster")
	flags.StringVar(&o.opsListen, "ops-listen", "", "where to serve /healthz, /readyz and /metrics, in place of the file's: host:port")
	flags.BoolVar(&o.printWebhooks, "print-webhook-config", false, "write the webhook configurations as YAML and end")
	flags.StringVar(&o.caFile, "ca", "", "with --print-webhook-config: certificates of the CA of tls.certFile")
	return command
}

// print returns the objects that make an API server ask if they are asked for.
func (o *options) print(settings *file) ([]byte, error) {
	if !o.printWebhooks {
		return nil, nil
	}
	ca, err := os.ReadFile(o.caFile)
	if err != nil {
		return nil, fmt.Errorf("--ca: %w", err)
	}
	return admission.WebhookConfigurations("https://"+settings.Listen, ca)
}
