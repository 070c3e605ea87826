// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"fmt"
	"net/netip"
	"strconv"

	"github.com/cloudveneto/caas/internal/lab/kube"
)

// Names of the clusters of every lab.
const (
	CaaS = "caas"
	AF   = "af"
)

const (
	clusterDomain = "cluster.local"
	registryPort  = 5000
	// maxNodes is how many nodes of one cluster the address plan has room for.
	maxNodes = 40
)

// plan is what is fixed about one cluster: everything but how many nodes it has.
type plan struct {
	name        string
	ports       kube.Ports
	serviceCIDR netip.Prefix
	podCIDR     netip.Prefix
	dns         netip.Addr
	// firstNode is the last byte of the first node's address.
	firstNode byte
	// apiServerArgs are further arguments of the API server.
	apiServerArgs []string
}

// plans are the clusters of every lab. Labs may be alike because each has a network of its own.
func plans() []plan {
	return []plan{
		{
			name: CaaS, ports: kube.Ports{APIServer: 6443, Etcd: 2379, EtcdPeer: 2380},
			serviceCIDR: cidr(101), podCIDR: cidr(201), dns: lanAddress(53), firstNode: 101,
			// Until Kubernetes 1.36, policies that change objects have to be switched on.
			apiServerArgs: []string{"--feature-gates=MutatingAdmissionPolicy=true", "--runtime-config=admissionregistration.k8s.io/v1beta1=true"},
		},
		{
			name: AF, ports: kube.Ports{APIServer: 7443, Etcd: 3379, EtcdPeer: 3380},
			serviceCIDR: cidr(102), podCIDR: cidr(202), dns: lanAddress(54), firstNode: 151,
		},
	}
}

func planOf(cluster string) (plan, error) {
	for _, p := range plans() {
		if p.name == cluster {
			return p, nil
		}
	}
	return plan{}, fmt.Errorf("there is no cluster %q: want %s or %s", cluster, CaaS, AF)
}

// gateway is where the control planes, and the services of the lab, are.
func gateway() netip.Addr { return lanAddress(1) }

func lanAddress(host byte) netip.Addr { return netip.AddrFrom4([4]byte{10, 88, 0, host}) }

// onLAN is an address with the LAN's prefix length.
func onLAN(address netip.Addr) netip.Prefix { return netip.PrefixFrom(address, 24) }

// alone is an address that stands for itself, without its network.
func alone(address netip.Addr) netip.Prefix { return netip.PrefixFrom(address, address.BitLen()) }

// cidr is a network that the whole cluster shares.
func cidr(second byte) netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, second}), 16)
}

// nodePlan is one node; the first has index 1.
type nodePlan struct {
	name      string
	address   netip.Addr
	podSubnet netip.Prefix
}

func (p plan) node(index int) nodePlan {
	pods := p.podCIDR.Addr().As4()
	pods[2] = byte(index) //nolint:gosec // at most maxNodes
	return nodePlan{
		name:      p.name + "-" + strconv.Itoa(index),
		address:   lanAddress(p.firstNode + byte(index) - 1), //nolint:gosec // at most maxNodes
		podSubnet: netip.PrefixFrom(netip.AddrFrom4(pods), 24),
	}
}

func (p plan) nodes(count int) []nodePlan {
	nodes := make([]nodePlan, 0, count)
	for i := range count {
		nodes = append(nodes, p.node(i+1))
	}
	return nodes
}

func (p plan) apiServer() netip.AddrPort {
	return netip.AddrPortFrom(gateway(), uint16(p.ports.APIServer)) //nolint:gosec // a constant of the plan
}

func registryAddress() netip.AddrPort { return netip.AddrPortFrom(gateway(), registryPort) }
