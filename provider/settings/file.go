// SPDX-License-Identifier: Apache-2.0

package settings

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"strings"

	"sigs.k8s.io/yaml"
)

// text is a string that YAML may also write as a number, as upstream allows.
type text string

// UnmarshalJSON accepts strings and numbers.
func (t *text) UnmarshalJSON(data []byte) error {
	var s string
	if json.Unmarshal(data, &s) == nil {
		*t = text(s)
		return nil
	}
	var n json.Number
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.UseNumber()
	if err := decoder.Decode(&n); err != nil {
		return fmt.Errorf("want a string or a number, got %s", data)
	}
	*t = text(n.String())
	return nil
}

// file is the configuration file as it is written.
type file struct {
	InterlinkURL      text `json:"InterlinkURL"`
	InterlinkPort     text `json:"InterlinkPort"`
	KubernetesAPIAddr text `json:"KubernetesApiAddr"`
	KubernetesAPIPort text `json:"KubernetesApiPort"`
	KubernetesAPICA   text `json:"KubernetesApiCaCrt"`

	DisableProjectedVolumes bool `json:"DisableProjectedVolumes"`
	JobScriptBuilderURL     text `json:"JobScriptBuilderURL"`
	VKTokenFile             text `json:"VKTokenFile"`

	// These are accepted and have no effect, as upstream.
	VKConfigPath              text `json:"VKConfigPath"`
	ServiceAccount            text `json:"ServiceAccount"`
	Namespace                 text `json:"Namespace"`
	PodIP                     text `json:"PodIP"`
	SkipDownwardAPIResolution bool `json:"SkipDownwardAPIResolution"`

	PodCIDR struct {
		Subnet text `json:"Subnet"`
		MinIP  int  `json:"MinIP"`
		MaxIP  int  `json:"MaxIP"`
	} `json:"PodCIDR"`
	VerboseLogging    bool `json:"VerboseLogging"`
	ErrorsOnlyLogging bool `json:"ErrorsOnlyLogging"`

	HTTP        fileHTTP `json:"HTTP"`
	KubeletHTTP fileHTTP `json:"KubeletHTTP"`

	KubeletCertFile      text `json:"KubeletCertFile"`
	KubeletKeyFile       text `json:"KubeletKeyFile"`
	KubeletCSRSignerName text `json:"KubeletCSRSignerName"`
	DisableCSR           bool `json:"DisableCSR"`

	Resources  fileResources `json:"Resources"`
	NodeLabels []string      `json:"NodeLabels"`
	NodeTaints []fileTaint   `json:"NodeTaints"`
	TLS        fileTLS       `json:"TLS"`
	Network    fileNetwork   `json:"Network"`
	Pprof      filePprof     `json:"Pprof"`

	// From here on: this project's own.
	ClusterID           string             `json:"ClusterID"`
	Workers             int                `json:"Workers"`
	MaxSessions         int                `json:"MaxSessions"`
	ClientQPS           float32            `json:"ClientQPS"`
	ClientBurst         int                `json:"ClientBurst"`
	StatusInterval      text               `json:"StatusInterval"`
	PingInterval        text               `json:"PingInterval"`
	PingFailures        int                `json:"PingFailures"`
	LeaderElection      fileLeaderElection `json:"LeaderElection"`
	KubeletClientCAFile string             `json:"KubeletClientCAFile"`
	KubeletCertDir      string             `json:"KubeletCertDir"`
	OpsAddress          string             `json:"OpsAddress"`
}

type fileHTTP struct {
	Insecure bool `json:"Insecure"`
	CaCert   text `json:"CaCert"`
}

type fileResources struct {
	CPU          text `json:"CPU"`
	Memory       text `json:"Memory"`
	Pods         text `json:"Pods"`
	Accelerators []struct {
		ResourceType text `json:"ResourceType"`
		Model        text `json:"Model"`
		Available    text `json:"Available"`
	} `json:"Accelerators"`
}

type fileTaint struct {
	Key    text `json:"Key"`
	Value  text `json:"Value"`
	Effect text `json:"Effect"`
}

type fileTLS struct {
	Enabled    bool `json:"Enabled"`
	CertFile   text `json:"CertFile"`
	KeyFile    text `json:"KeyFile"`
	CACertFile text `json:"CACertFile"`
}

// fileNetwork is upstream's tunnels, none of which exist here. The keys are
// known so that a file with tunnels switched off is accepted.
type fileNetwork struct {
	EnableTunnel           bool `json:"EnableTunnel"`
	FullMesh               bool `json:"FullMesh"`
	WildcardDNS            text `json:"WildcardDNS"`
	WSTunnelExecutable     text `json:"WSTunnelExecutable"`
	WSTunnelExecutableURL  text `json:"WSTunnelExecutableURL"`
	WstunnelTemplatePath   text `json:"WstunnelTemplatePath"`
	WstunnelCommand        text `json:"WstunnelCommand"`
	ServiceCIDR            text `json:"ServiceCIDR"`
	PodCIDRCluster         text `json:"PodCIDRCluster"`
	DNSServiceIP           text `json:"DNSServiceIP"`
	UnshareMode            text `json:"UnshareMode"`
	WireguardGoURL         text `json:"WireguardGoURL"`
	WgToolURL              text `json:"WgToolURL"`
	Slirp4netnsURL         text `json:"Slirp4netnsURL"`
	MeshScriptTemplatePath text `json:"MeshScriptTemplatePath"`
	TunnelType             text `json:"TunnelType"`
}

type filePprof struct {
	Enabled bool `json:"Enabled"`
	Address text `json:"Address"`
	Port    text `json:"Port"`
}

type fileLeaderElection struct {
	Enabled   bool   `json:"Enabled"`
	Namespace string `json:"Namespace"`
	Name      string `json:"Name"`
}

func read(path string) (*file, error) {
	data, err := os.ReadFile(path) //nolint:gosec // the operator names the file
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	var f file
	if err := yaml.UnmarshalStrict(data, &f); err != nil {
		return nil, fmt.Errorf("configuration %s: %s", path, explain(err))
	}
	return &f, nil
}

// explain drops what the YAML library says about itself.
func explain(err error) string {
	message := err.Error()
	for _, prefix := range []string{"error unmarshaling JSON: while decoding JSON: ", "json: "} {
		message = strings.TrimPrefix(message, prefix)
	}
	return message
}
