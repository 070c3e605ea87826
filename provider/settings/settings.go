// SPDX-License-Identifier: Apache-2.0

package settings

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// DefaultPath is where the file is when nobody says otherwise.
const DefaultPath = "/etc/interlink/InterLinkConfig.yaml"

// DefaultOpsAddress is where health and metrics are served when nobody says otherwise.
const DefaultOpsAddress = "127.0.0.1:10248"

// Environment is what does not come from the file.
type Environment struct {
	NodeName string
	// KubeletAddress and KubeletPort are where the kubelet API listens;
	// default 0.0.0.0 and 5820.
	KubeletAddress string
	KubeletPort    string
	// PodIP is the node's address; may be empty.
	PodIP string
}

// Settings is a valid configuration, with all defaults.
type Settings struct {
	FarEnd    FarEnd
	Node      Node
	Kubelet   Kubelet
	APIServer APIServer
	Leader    Leader

	ClusterID    string
	NoProjected  bool
	JobScriptURL string
	LogLevel     string
	Workers      int
	// MaxSessions bounds the connections into pods that are open at one time.
	MaxSessions    int
	ClientQPS      float32
	ClientBurst    int
	StatusInterval time.Duration
	PingInterval   time.Duration
	PingFailures   int
	// OpsAddress is where health and metrics are served; empty for nowhere.
	OpsAddress string
	// Pprof serves profiles at the operations port.
	Pprof bool
}

// FarEnd is how to reach the interLink API server.
type FarEnd struct {
	BaseURL   string
	TokenFile string
	// Insecure skips the check of the server's certificate.
	Insecure bool
	// CAs are the authorities of the server's certificate; nil means the system's.
	CAs *x509.CertPool
	// CertFile and KeyFile are the client certificate; empty means none.
	CertFile string
	KeyFile  string
}

// Node is what the virtual node looks like.
type Node struct {
	Name     string
	Address  string
	Port     int32
	Labels   map[string]string
	Taints   []corev1.Taint
	Capacity corev1.ResourceList
	PodCIDR  string
}

// Kubelet is how the kubelet API is served.
type Kubelet struct {
	Address      string
	CertFile     string
	KeyFile      string
	SignerName   string
	SelfSigned   bool
	ClientCAFile string
	// CertDir keeps the key and certificate that a CSR gives.
	CertDir string
}

// APIServer is where remote pods reach the origin's API server.
type APIServer struct{ Address, Port, CA string }

// Leader configures leader election.
type Leader struct {
	Enabled         bool
	Namespace, Name string
}

// problems collects everything that is wrong.
type problems struct{ list []error }

func (p *problems) add(format string, arguments ...any) {
	p.list = append(p.list, fmt.Errorf(format, arguments...))
}

// Load reads and checks the file at path.
func Load(path string, environment Environment) (*Settings, error) {
	f, err := read(path)
	if err != nil {
		return nil, err
	}
	var wrong problems
	refuse(f, &wrong)
	s := &Settings{
		FarEnd: FarEnd{
			BaseURL:   baseURL(f, &wrong),
			TokenFile: string(f.VKTokenFile),
			Insecure:  f.HTTP.Insecure,
		},
		Node:      node(f, environment, &wrong),
		Kubelet:   kubelet(f, environment, &wrong),
		APIServer: APIServer{string(f.KubernetesAPIAddr), string(f.KubernetesAPIPort), string(f.KubernetesAPICA)},
		Leader: Leader{
			Enabled:   f.LeaderElection.Enabled,
			Namespace: orElse(f.LeaderElection.Namespace, "kube-system"),
			Name:      orElse(f.LeaderElection.Name, "virtual-kubelet-"+environment.NodeName),
		},
		ClusterID:      f.ClusterID,
		NoProjected:    f.DisableProjectedVolumes,
		JobScriptURL:   string(f.JobScriptBuilderURL),
		LogLevel:       logLevel(f),
		Workers:        positive("Workers", f.Workers, 32, &wrong),
		MaxSessions:    positive("MaxSessions", f.MaxSessions, 512, &wrong),
		ClientQPS:      f.ClientQPS,
		ClientBurst:    f.ClientBurst,
		StatusInterval: duration("StatusInterval", f.StatusInterval, 5*time.Second, &wrong),
		PingInterval:   duration("PingInterval", f.PingInterval, 5*time.Second, &wrong),
		PingFailures:   positive("PingFailures", f.PingFailures, 3, &wrong),
		OpsAddress:     orElse(f.OpsAddress, DefaultOpsAddress),
		Pprof:          f.Pprof.Enabled,
	}
	certificates(f, &s.FarEnd, &wrong)
	if s.FarEnd.TokenFile != "" {
		if _, err := os.Stat(s.FarEnd.TokenFile); err != nil {
			wrong.add("VKTokenFile: %w", err)
		}
	}
	if s.ClientQPS == 0 {
		s.ClientQPS = -1
	}
	if s.OpsAddress == "none" {
		s.OpsAddress = ""
	}
	if err := errors.Join(wrong.list...); err != nil {
		return nil, fmt.Errorf("configuration %s:\n%w", path, err)
	}
	return s, nil
}

// refuse names the keys that ask for what does not exist here.
func refuse(f *file, wrong *problems) {
	if f.Network.EnableTunnel {
		wrong.add("Network.EnableTunnel: tunnels do not exist here; remote pods report their real addresses. Set it to false")
	}
	if f.Network.FullMesh {
		wrong.add("Network.FullMesh: the mesh network does not exist here. Set it to false")
	}
	if (f.KubernetesAPIAddr == "") != (f.KubernetesAPIPort == "") {
		wrong.add("KubernetesApiAddr and KubernetesApiPort: set both or none")
	}
}

func logLevel(f *file) string {
	switch {
	case f.VerboseLogging:
		return "debug"
	case f.ErrorsOnlyLogging:
		return "error"
	}
	return ""
}

func orElse(value, other string) string {
	if value == "" {
		return other
	}
	return value
}

func positive(key string, value, other int, wrong *problems) int {
	if value < 0 {
		wrong.add("%s: %d is negative", key, value)
	}
	if value == 0 {
		return other
	}
	return value
}

func duration(key string, value text, other time.Duration, wrong *problems) time.Duration {
	if value == "" {
		return other
	}
	d, err := time.ParseDuration(string(value))
	if err != nil || d <= 0 {
		wrong.add("%s: %q is no positive duration like 5s", key, value)
		return other
	}
	return d
}

// baseURL joins InterlinkURL and InterlinkPort.
func baseURL(f *file, wrong *problems) string {
	address := strings.TrimRight(string(f.InterlinkURL), "/")
	u, err := url.Parse(address)
	switch {
	case address == "":
		wrong.add("InterlinkURL: missing; want http://host, https://host or unix:///path")
	case err != nil:
		wrong.add("InterlinkURL: %w", err)
	case u.Scheme == "unix" && u.Path != "":
		return address
	case (u.Scheme != "http" && u.Scheme != "https") || u.Host == "":
		wrong.add("InterlinkURL: %q is none of http://host, https://host, unix:///path", address)
	case f.InterlinkPort == "":
		return address
	case u.Port() != "" && u.Port() != string(f.InterlinkPort):
		wrong.add("InterlinkURL and InterlinkPort name two ports: %s and %s", u.Port(), f.InterlinkPort)
	default:
		u.Host = net.JoinHostPort(u.Hostname(), string(f.InterlinkPort))
		return u.String()
	}
	return ""
}

// certificates reads the authorities of the far end and checks the client's pair.
func certificates(f *file, far *FarEnd, wrong *problems) {
	sources := map[string]text{"HTTP.CaCert": f.HTTP.CaCert}
	if f.TLS.Enabled {
		sources["TLS.CACertFile"] = f.TLS.CACertFile
		far.CertFile, far.KeyFile = string(f.TLS.CertFile), string(f.TLS.KeyFile)
		if (far.CertFile == "") != (far.KeyFile == "") {
			wrong.add("TLS.CertFile and TLS.KeyFile: set both or none")
		}
	}
	for key, source := range sources {
		if source == "" {
			continue
		}
		list, err := authorities(string(source))
		if err != nil {
			wrong.add("%s: %w", key, err)
			continue
		}
		if far.CAs == nil {
			far.CAs = x509.NewCertPool()
		}
		for _, certificate := range list {
			far.CAs.AddCert(certificate)
		}
	}
}

// authorities reads certificates in PEM, of which there may be many, or in DER.
func authorities(path string) ([]*x509.Certificate, error) {
	data, err := os.ReadFile(path) //nolint:gosec // the operator names the file
	if err != nil {
		return nil, err
	}
	var list []*x509.Certificate
	for rest := data; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		list = append(list, certificate)
	}
	if len(list) > 0 {
		return list, nil
	}
	certificate, err := x509.ParseCertificate(data)
	if err != nil {
		return nil, fmt.Errorf("%s holds no certificate, neither PEM nor DER", path)
	}
	return []*x509.Certificate{certificate}, nil
}
