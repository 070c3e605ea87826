// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/cloudveneto/caas/internal/lab/proc"
)

// Names of the components, which are also the names of their programs, process records and logs.
const (
	etcdName      = "etcd"
	apiServerName = "kube-apiserver"
	kcmName       = "kube-controller-manager"
	kubeScheduler = "kube-scheduler"
)

// components lists what runs, in the order in which it is started.
func (c Config) components() []string {
	names := []string{etcdName, apiServerName}
	if c.ControllerManager {
		names = append(names, kcmName)
	}
	if c.Scheduler {
		names = append(names, kubeScheduler)
	}
	return names
}

func (c Config) runDir() string { return filepath.Join(c.Dir, "run") }
func (c Config) pki() pki       { return pki{dir: filepath.Join(c.Dir, "pki")} }

// spec describes the process of one component.
func (c Config) spec(component string) proc.Spec {
	args := map[string]func() []string{
		etcdName: c.etcdArgs, apiServerName: c.apiServerArgs, kcmName: c.controllerManagerArgs, kubeScheduler: c.schedulerArgs,
	}[component]()
	return proc.Spec{
		Name: component, Path: filepath.Join(c.BinDir, component), Args: args, Dir: c.Dir, NetNS: c.NetNS,
		LogFile: c.logFile(component), EndWithStarter: c.EndWithStarter,
	}
}

func (c Config) logFile(component string) string {
	return filepath.Join(c.Dir, "log", component+".log")
}

func (c Config) etcdURL() string { return serverURL(loopback, c.Ports.Etcd) }

func (c Config) etcdArgs() []string {
	p, peer := c.pki(), "http://"+net.JoinHostPort(loopback, strconv.Itoa(c.Ports.EtcdPeer))
	return []string{
		"--name=lab", "--data-dir=" + filepath.Join(c.Dir, "etcd"),
		"--listen-client-urls=" + c.etcdURL(), "--advertise-client-urls=" + c.etcdURL(),
		"--listen-peer-urls=" + peer, "--initial-advertise-peer-urls=" + peer, "--initial-cluster=lab=" + peer,
		"--cert-file=" + p.path("etcd.crt"), "--key-file=" + p.path("etcd.key"),
		"--trusted-ca-file=" + p.path("etcd-ca.crt"), "--client-cert-auth",
		"--unsafe-no-fsync", // the machine does not lose power in the middle of a test
		"--quota-backend-bytes=2147483648",
		"--log-level=warn",
	}
}

func (c Config) apiServerArgs() []string {
	p := c.pki()
	args := []string{
		"--secure-port=" + strconv.Itoa(c.Ports.APIServer), "--bind-address=" + c.Bind, "--advertise-address=" + c.Advertise,
		"--etcd-servers=" + c.etcdURL(), "--etcd-cafile=" + p.path("etcd-ca.crt"),
		"--etcd-certfile=" + p.path("apiserver-etcd-client.crt"), "--etcd-keyfile=" + p.path("apiserver-etcd-client.key"),
		"--client-ca-file=" + p.path("ca.crt"),
		"--tls-cert-file=" + p.path("apiserver.crt"), "--tls-private-key-file=" + p.path("apiserver.key"),
		"--kubelet-client-certificate=" + p.path("apiserver-kubelet-client.crt"),
		"--kubelet-client-key=" + p.path("apiserver-kubelet-client.key"),
		"--kubelet-certificate-authority=" + p.path("ca.crt"),
		"--kubelet-preferred-address-types=InternalIP,Hostname",
		"--service-account-issuer=https://kubernetes.default.svc.cluster.local",
		"--service-account-key-file=" + p.path("sa.key"), "--service-account-signing-key-file=" + p.path("sa.key"),
		"--requestheader-client-ca-file=" + p.path("front-proxy-ca.crt"), "--requestheader-allowed-names=front-proxy-client",
		"--requestheader-username-headers=X-Remote-User", "--requestheader-group-headers=X-Remote-Group",
		"--requestheader-extra-headers-prefix=X-Remote-Extra-",
		"--proxy-client-cert-file=" + p.path("front-proxy-client.crt"), "--proxy-client-key-file=" + p.path("front-proxy-client.key"),
		"--service-cluster-ip-range=" + c.ServiceCIDR,
		"--enable-bootstrap-token-auth", "--enable-admission-plugins=NodeRestriction", "--allow-privileged",
	}
	if c.advertisesLoopback() {
		args = append(args, "--endpoint-reconciler-type=none") // a loopback address cannot be published as an endpoint
	}
	if !slices.ContainsFunc(c.APIServerArgs, func(arg string) bool { return strings.HasPrefix(arg, "--authorization-config") }) {
		args = append(args, "--authorization-mode=Node,RBAC")
	}
	return append(args, c.APIServerArgs...)
}

// clientArgs are shared by those who talk to the API server. Their own ports stay closed, and their client limits are
// far above the defaults, which make a control plane take seconds longer to become useful and hold up bursts of pods.
func (c Config) clientArgs(user string) []string {
	return []string{
		"--kubeconfig=" + c.pki().path(user+".kubeconfig"),
		"--secure-port=0", "--leader-elect=false",
		"--kube-api-qps=500", "--kube-api-burst=1000",
	}
}

func (c Config) controllerManagerArgs() []string {
	p := c.pki()
	args := append(c.clientArgs(controllerManagerName),
		"--cluster-signing-cert-file="+p.path("ca.crt"), "--cluster-signing-key-file="+p.path("ca.key"),
		"--root-ca-file="+p.path("ca.crt"),
		"--service-account-private-key-file="+p.path("sa.key"), "--use-service-account-credentials",
		"--controllers=*,bootstrap-signer-controller,token-cleaner-controller",
		"--service-cluster-ip-range="+c.ServiceCIDR,
	)
	if c.PodCIDR != "" {
		args = append(args, "--allocate-node-cidrs", "--cluster-cidr="+c.PodCIDR)
	}
	return args
}

func (c Config) schedulerArgs() []string { return c.clientArgs(schedulerName) }
