// SPDX-License-Identifier: Apache-2.0

package bootstrap

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/validation"
)

// Mode is how a machine becomes a node.
type Mode string

// The modes.
const (
	// ModeKubelet writes the kubelet's configuration and starts it; it bootstraps by itself.
	ModeKubelet Mode = "kubelet"
	// ModeKubeadm lets kubeadm join, for images made for it.
	ModeKubeadm Mode = "kubeadm"
	// ModeNone writes the credentials and starts nothing: the site's part does the rest.
	ModeNone Mode = "none"
)

// Settings are how machines of a site become nodes: a section of the controller's
// configuration file.
type Settings struct {
	// Server is the URL of the API server as nodes see it.
	Server string `json:"server"`
	// CAData are the certificates, in PEM, that the API server's is checked against; the
	// kubelet checks its own clients against them, too.
	CAData string `json:"caData"`
	// Mode is ModeKubelet when empty.
	Mode Mode `json:"mode,omitempty"`
	// ClusterDNS and ClusterDomain are what pods resolve names with; the domain is
	// cluster.local when empty.
	ClusterDNS    []string `json:"clusterDNS,omitempty"`
	ClusterDomain string   `json:"clusterDomain,omitempty"`
	// SystemReserved is what pods do not get of a machine, by resource.
	SystemReserved map[string]string `json:"systemReserved,omitempty"`
	// Kubelet has more fields of the KubeletConfiguration.
	Kubelet map[string]any `json:"kubelet,omitempty"`
	// KubeProxy is a KubeProxyConfiguration; kube-proxy is started when it is given.
	KubeProxy map[string]any `json:"kubeProxy,omitempty"`
	// Mirrors are where images are pulled from instead, by the registry's name, such as
	// docker.io; _default is for all others.
	Mirrors map[string]Mirror `json:"mirrors,omitempty"`
	// DataDisk is what becomes of a machine's second disk.
	DataDisk DataDisk `json:"dataDisk,omitzero"`
	// BlockMetadata keeps pods from OpenStack's metadata service, which has the user data.
	BlockMetadata bool `json:"blockMetadata,omitempty"`
	// ExtraUserData is the site's own part: a cloud-config, a script, or a MIME message
	// with several. It comes after the platform's files and before the kubelet's start.
	ExtraUserData string `json:"extraUserData,omitempty"`
}

// Mirror is where the images of a registry are pulled from.
type Mirror struct {
	// Server is asked when no host has the image; empty means the registry itself.
	Server string `json:"server,omitempty"`
	// Hosts are URLs, asked in this order.
	Hosts []string `json:"hosts,omitempty"`
	// CAData are the certificates of the hosts, in PEM; empty means those of the image.
	CAData string `json:"caData,omitempty"`
}

// DataPolicy says whether there is a second disk to be used.
type DataPolicy string

// The policies.
const (
	// DataAuto uses a flavor's ephemeral disk, or the one empty disk, if there is one.
	DataAuto DataPolicy = "auto"
	// DataDevice uses the disk that is named.
	DataDevice DataPolicy = "device"
	// DataNone uses the root disk.
	DataNone DataPolicy = "none"
)

// DataDisk is where containers and their images are kept: on a disk other than the
// system's, if the machine has one. A disk that holds something is never formatted, but
// for an ephemeral one as Nova delivers it.
type DataDisk struct {
	// Policy is DataAuto when empty.
	Policy DataPolicy `json:"policy,omitempty"`
	// Device is the disk, for DataDevice.
	Device string `json:"device,omitempty"`
	// Filesystem is xfs or ext4; xfs when empty.
	Filesystem string `json:"filesystem,omitempty"`
}

// LogValue keeps the parts of a site, which may have secrets, out of logs.
func (s Settings) LogValue() slog.Value {
	return slog.GroupValue(slog.String("server", s.Server), slog.String("mode", string(s.Mode)))
}

// Complete returns the settings with what is not given filled in.
func (s Settings) Complete() Settings {
	orDefault := func(value *string, fallback string) {
		if *value == "" {
			*value = fallback
		}
	}
	if s.Mode == "" {
		s.Mode = ModeKubelet
	}
	if s.DataDisk.Policy == "" {
		s.DataDisk.Policy = DataAuto
	}
	orDefault(&s.ClusterDomain, "cluster.local")
	orDefault(&s.DataDisk.Filesystem, "xfs")
	return s
}

// Validate names everything that is wrong.
func (s Settings) Validate() error {
	s = s.Complete()
	var problems []error
	wrong := func(field string, err error) {
		if err != nil {
			problems = append(problems, fmt.Errorf("%s: %w", field, err))
		}
	}
	wrong("server", checkURL(s.Server, "https"))
	wrong("caData", checkCertificates(s.CAData))
	if !slices.Contains([]Mode{ModeKubelet, ModeKubeadm, ModeNone}, s.Mode) {
		wrong("mode", fmt.Errorf("%q is none of kubelet, kubeadm, none", s.Mode))
	}
	if s.Mode == ModeKubelet && len(s.ClusterDNS) == 0 {
		wrong("clusterDNS", errors.New("pods need a name server"))
	}
	for i, server := range s.ClusterDNS {
		_, err := netip.ParseAddr(server)
		wrong(fmt.Sprintf("clusterDNS[%d]", i), err)
	}
	if reasons := validation.IsDNS1123Subdomain(s.ClusterDomain); len(reasons) > 0 {
		wrong("clusterDomain", errors.New(strings.Join(reasons, ", ")))
	}
	s.validateKubelet(wrong)
	for _, registry := range slices.Sorted(maps.Keys(s.Mirrors)) {
		s.Mirrors[registry].validate("mirrors["+registry+"]", registry, wrong)
	}
	wrong("dataDisk", s.DataDisk.validate())
	owned, err := s.owned()
	wrong("kubelet", err)
	_, err = extraParts("site", s.ExtraUserData, owned)
	wrong("extraUserData", err)
	return errors.Join(problems...)
}

func (s *Settings) validateKubelet(wrong func(field string, err error)) {
	for _, name := range slices.Sorted(maps.Keys(s.SystemReserved)) {
		wrong("systemReserved["+name+"]", checkQuantity(s.SystemReserved[name]))
	}
	platform := kubeletConfig(s)
	for _, key := range slices.Sorted(maps.Keys(s.Kubelet)) {
		if _, ours := platform[key]; ours || key == "registerNode" {
			wrong("kubelet."+key, errors.New("this is set by the platform"))
		}
	}
	for _, key := range []string{"apiVersion", "kind", "clientConnection", "hostnameOverride"} {
		if _, ours := s.KubeProxy[key]; ours {
			wrong("kubeProxy."+key, errors.New("this is set by the platform"))
		}
	}
	if s.Mode == ModeKubelet {
		return
	}
	given := map[string]bool{"kubelet": len(s.Kubelet) > 0, "kubeProxy": s.KubeProxy != nil, "systemReserved": len(s.SystemReserved) > 0}
	for _, field := range slices.Sorted(maps.Keys(given)) {
		if given[field] {
			wrong(field, fmt.Errorf("it has no effect in mode %s", s.Mode))
		}
	}
}

func (m Mirror) validate(field, registry string, wrong func(field string, err error)) {
	if !registryName().MatchString(registry) {
		wrong(field, errors.New("this is no registry's name"))
	}
	if m.Server == "" && len(m.Hosts) == 0 {
		wrong(field, errors.New("neither a server nor hosts"))
	}
	if m.Server != "" {
		wrong(field+".server", checkURL(m.Server, "http", "https"))
	}
	for i, host := range m.Hosts {
		wrong(fmt.Sprintf("%s.hosts[%d]", field, i), checkURL(host, "http", "https"))
	}
	if m.CAData != "" {
		wrong(field+".caData", checkCertificates(m.CAData))
	}
}

// registryName is a host with or without a port: containerd's name of a directory.
func registryName() *regexp.Regexp {
	return regexp.MustCompile(`^(_default|[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:[0-9]{1,5})?)$`)
}

func (d DataDisk) validate() error {
	var problems []error
	switch d.Policy {
	case DataAuto, DataNone:
		if d.Device != "" {
			problems = append(problems, fmt.Errorf("a device needs the policy %s", DataDevice))
		}
	case DataDevice:
		if !strings.HasPrefix(d.Device, "/dev/") || path.Clean(d.Device) != d.Device || strings.ContainsAny(d.Device, " \t\n") {
			problems = append(problems, fmt.Errorf("device %q is not the path of a device", d.Device))
		}
	default:
		problems = append(problems, fmt.Errorf("policy %q is none of %s, %s, %s", d.Policy, DataAuto, DataDevice, DataNone))
	}
	if d.Filesystem != "xfs" && d.Filesystem != "ext4" {
		problems = append(problems, fmt.Errorf("filesystem %q is neither xfs nor ext4", d.Filesystem))
	}
	return errors.Join(problems...)
}

func checkQuantity(text string) error {
	quantity, err := resource.ParseQuantity(text)
	if err == nil && quantity.Sign() < 0 {
		err = errors.New("it is less than nothing")
	}
	return err
}

func checkURL(text string, schemes ...string) error {
	parsed, err := url.Parse(text)
	if err != nil {
		return err
	}
	host := parsed.Hostname()
	if !slices.Contains(schemes, parsed.Scheme) || host == "" || parsed.User != nil || parsed.RawQuery != "" || parsed.Fragment != "" {
		return fmt.Errorf("%q is not a URL with %s, a host and nothing secret", parsed.Redacted(), strings.Join(schemes, " or "))
	}
	if net.ParseIP(host) == nil && len(validation.IsDNS1123Subdomain(host)) > 0 {
		return fmt.Errorf("%q is no host", host)
	}
	return nil
}

func checkCertificates(text string) error {
	rest := []byte(text)
	for count := 0; ; count++ {
		var block *pem.Block
		block, rest = pem.Decode(rest)
		if block == nil && count == 0 {
			return errors.New("no certificate in PEM")
		}
		if block == nil {
			if strings.TrimSpace(string(rest)) != "" {
				return errors.New("something after the last certificate")
			}
			return nil
		}
		if block.Type != "CERTIFICATE" {
			return fmt.Errorf("a %s among the certificates", block.Type)
		}
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			return fmt.Errorf("certificate %d: %w", count+1, err)
		}
	}
}
