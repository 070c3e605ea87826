// SPDX-License-Identifier: Apache-2.0

package main

import (
	"github.com/spf13/cobra"

	"github.com/cloudveneto/caas/internal/service"
)

const description = `osnode-controller makes OpenStackNodes true: for each it creates a virtual machine
in its owner's OpenStack project, lets it join this cluster as a node for the
owner's pods, and removes both when the object is deleted. OpenStackNodePools are
as many of them as the pods that wait need.

It acts for the owner by a Keystone trust, which kubectl-openstack makes at login,
and reads and deletes with its own user, which needs a role in each project. It
keeps nothing on disk: run two with --leader-elect, and restart it at any time.

A file for a start, /etc/osnode/controller.yaml:

  cluster: caas                     # marks this cluster's machines in OpenStack
  defaultProvider: cloudveneto
  providers:
  - id: cloudveneto
    displayName: CloudVeneto
    authURL: https://keystone.example.org:5000/v3
    identity: {userName: osnode-controller, passwordFile: /etc/osnode/password}
    regions: [regionOne]
    defaults: {availabilityZone: nova, image: almalinux9-k8s-node, securityGroups: [K8S]}
    networks: ["{{.ProjectName}}-lan"]
  bootstrap:
    server: https://caas.example.org:6443
    caFile: /etc/kubernetes/pki/ca.crt
    clusterDNS: [10.96.0.10]

--check says what is wrong with a file, and ends. Manifests with the rights that it
needs are in deploy/osnode.

Every flag can be set by the environment: OSNODE_KUBECONFIG for --kubeconfig. Traces
are exported when OTEL_EXPORTER_OTLP_ENDPOINT is set.`

type options struct {
	kubeconfig, namespace, opsListen string
	leaderElect                      bool
}

func newCommand() *cobra.Command {
	o := &options{}
	command := service.Program[*file]{
		Name: program, Short: "Make users' OpenStack machines nodes of this cluster", Description: description,
		Examples: `  osnode-controller --config controller.yaml
  osnode-controller --config controller.yaml --check    # say what is wrong with it, and end`,
		EnvPrefix: "OSNODE_", Config: "/etc/osnode/controller.yaml", Load: load, Serve: o.serve,
	}.Command()
	flags := command.Flags()
	flags.StringVar(&o.kubeconfig, "kubeconfig", "", "kubeconfig of the cluster; none inside the cluster")
	flags.StringVar(&o.namespace, "namespace", "caas-system", "the controller's own namespace, for its lease and records")
	flags.StringVar(&o.opsListen, "ops-listen", "127.0.0.1:9093", "where to serve /healthz, /readyz and /metrics: host:port; empty for none")
	flags.BoolVar(&o.leaderElect, "leader-elect", false, "work only while holding a lease, so that several may run")
	return command
}
