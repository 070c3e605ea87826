// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"
)

// Names of the kubeconfig files that every control plane has, and of the users in them.
const (
	adminName             = "admin"
	controllerManagerName = "controller-manager"
	schedulerName         = "scheduler"

	// mastersGroup may do everything, whatever RBAC says.
	mastersGroup = "system:masters"
)

// pki is the directory with the certificates, keys and kubeconfig files of one control plane.
type pki struct {
	dir string
}

func (p pki) path(file string) string { return filepath.Join(p.dir, file) }

// store writes NAME.crt and NAME.key.
func (p pki) store(name string, pair KeyPair) error {
	if err := os.WriteFile(p.path(name+".crt"), pair.Cert, 0o644); err != nil { //nolint:gosec // a certificate is public
		return fmt.Errorf("store certificate: %w", err)
	}
	if err := os.WriteFile(p.path(name+".key"), pair.Key, 0o600); err != nil {
		return fmt.Errorf("store key: %w", err)
	}
	return nil
}

// clusterCA loads the CA that signs users, nodes and the API server.
func (p pki) clusterCA() (*CA, error) { return LoadCA(p.path("ca.crt"), p.path("ca.key")) }

// create makes everything that a control plane needs. It takes some milliseconds.
func (p pki) create(cfg Config) error {
	if err := os.MkdirAll(p.dir, 0o750); err != nil {
		return fmt.Errorf("make PKI directory: %w", err)
	}
	authorities := map[string]*CA{}
	for file, name := range map[string]string{"ca": "kubernetes", "front-proxy-ca": "front-proxy-ca", "etcd-ca": "etcd-ca"} {
		ca, pair, err := NewCA(name)
		if err != nil {
			return err
		}
		authorities[file] = ca
		if err := p.store(file, pair); err != nil {
			return err
		}
	}
	serviceIP, err := firstServiceIP(cfg.ServiceCIDR)
	if err != nil {
		return err
	}
	serving, client := []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	both := slices.Concat(serving, client)
	sans := append([]string{
		loopback, cfg.Advertise, serviceIP, "localhost",
		"kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local",
	}, cfg.SANs...)
	for _, want := range []struct {
		file, ca string
		Certificate
	}{
		{"etcd", "etcd-ca", Certificate{CommonName: "etcd", SANs: []string{loopback, "localhost"}, Usages: both}},
		{"apiserver-etcd-client", "etcd-ca", Certificate{CommonName: "kube-apiserver", Usages: client}},
		{"front-proxy-client", "front-proxy-ca", Certificate{CommonName: "front-proxy-client", Usages: client}},
		{"apiserver", "ca", Certificate{CommonName: "kube-apiserver", SANs: sans, Usages: serving}},
		{"apiserver-kubelet-client", "ca", Certificate{CommonName: "kube-apiserver-kubelet-client", Organizations: []string{mastersGroup}, Usages: client}},
		{"sa", "ca", Certificate{CommonName: "service-accounts"}}, // only its key is used
	} {
		pair, err := authorities[want.ca].Issue(want.Certificate)
		if err != nil {
			return err
		}
		if err := p.store(want.file, pair); err != nil {
			return err
		}
	}
	return p.createUsers(authorities["ca"], cfg.server())
}

func (p pki) createUsers(ca *CA, server string) error {
	_, adminErr := p.kubeconfig(ca, adminName, server, "kubernetes-admin", mastersGroup)
	_, controllerErr := p.kubeconfig(ca, controllerManagerName, server, "system:kube-controller-manager")
	_, schedulerErr := p.kubeconfig(ca, schedulerName, server, "system:kube-scheduler")
	return errors.Join(adminErr, controllerErr, schedulerErr)
}

// kubeconfig issues a client certificate and writes NAME.kubeconfig with it, readable by its owner alone.
func (p pki) kubeconfig(ca *CA, name, server, user string, groups ...string) (string, error) {
	pair, err := ca.Client(user, groups...)
	if err != nil {
		return "", err
	}
	path := p.path(name + ".kubeconfig")
	return path, WriteKubeconfig(path, server, ca.PEM, pair)
}

// WriteKubeconfig writes a kubeconfig file for one user of one server, readable by its owner alone.
func WriteKubeconfig(path, server string, ca []byte, client KeyPair) error {
	const name = "lab"
	config := api.NewConfig()
	config.Clusters[name] = &api.Cluster{Server: server, CertificateAuthorityData: ca}
	config.AuthInfos[name] = &api.AuthInfo{ClientCertificateData: client.Cert, ClientKeyData: client.Key}
	config.Contexts[name] = &api.Context{Cluster: name, AuthInfo: name}
	config.CurrentContext = name
	if err := clientcmd.WriteToFile(*config, path); err != nil {
		return fmt.Errorf("write kubeconfig: %w", err)
	}
	return nil
}

// firstServiceIP returns the address that the API server's own Service gets.
func firstServiceIP(cidr string) (string, error) {
	prefix, err := netip.ParsePrefix(cidr)
	if err != nil {
		return "", fmt.Errorf("service CIDR: %w", err)
	}
	return prefix.Masked().Addr().Next().String(), nil
}

func serverURL(host string, port int) string {
	return "https://" + net.JoinHostPort(host, strconv.Itoa(port))
}
