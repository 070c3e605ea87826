// SPDX-License-Identifier: Apache-2.0

package api

import (
	"fmt"
	"os"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/cloudveneto/caas/internal/interlink"
)

// Settings is the configuration file. Its first part has upstream interLink's
// keys with upstream's meaning, so that an existing file can be used.
type Settings struct {
	// InterlinkAddress is http://host, https://host or unix:///path to listen on.
	InterlinkAddress string `json:"InterlinkAddress"`
	InterlinkPort    string `json:"InterlinkPort"`
	// SidecarURL is http://host, https://host or unix:///path of the plugin.
	SidecarURL  string `json:"SidecarURL"`
	SidecarPort string `json:"SidecarPort"`

	JobScriptBuildConfig *interlink.JobConfig `json:"JobScriptBuildConfig"`
	JobScriptTemplate    string               `json:"JobScriptTemplate"`
	VerboseLogging       bool                 `json:"VerboseLogging"`
	ErrorsOnlyLogging    bool                 `json:"ErrorsOnlyLogging"`
	// DataRootFolder is accepted for upstream's files; nothing is stored.
	DataRootFolder string        `json:"DataRootFolder"`
	TLS            TLSSettings   `json:"TLS"`
	Pprof          PprofSettings `json:"Pprof"`

	// What follows is this project's own.

	Auth       AuthSettings       `json:"Auth"`
	SidecarTLS SidecarTLSSettings `json:"SidecarTLS"`
	// SidecarCreateForm is object (interLink 0.5 and newer) or array (0.4 and older).
	SidecarCreateForm CreateForm `json:"SidecarCreateForm"`
	// JobScriptURLs are the job script builders that requests may name.
	JobScriptURLs []string `json:"JobScriptURLs"`
	// OpsAddress is host:port for /healthz, /readyz and /metrics; "none" for none.
	OpsAddress string           `json:"OpsAddress"`
	Limits     LimitSettings    `json:"Limits"`
	Cache      CacheSettings    `json:"StatusCache"`
	Grace      *metav1.Duration `json:"GracePeriod"`
}

// TLSSettings are upstream's: a client CA means that certificates are checked.
type TLSSettings struct {
	Enabled    bool   `json:"Enabled"`
	CertFile   string `json:"CertFile"`
	KeyFile    string `json:"KeyFile"`
	CACertFile string `json:"CACertFile"`
}

// PprofSettings are upstream's.
type PprofSettings struct {
	Enabled bool   `json:"Enabled"`
	Address string `json:"Address"`
	Port    string `json:"Port"`
}

// SidecarTLSSettings are for a plugin at an https address.
type SidecarTLSSettings struct {
	CACertFile string `json:"CACertFile"`
	CertFile   string `json:"CertFile"`
	KeyFile    string `json:"KeyFile"`
}

// AuthSettings say who may call, beside holders of a certificate of TLS.CACertFile.
type AuthSettings struct {
	// TokenFile holds static tokens, one "token,name" per line.
	TokenFile string           `json:"TokenFile"`
	OIDC      []IssuerSettings `json:"OIDC"`
}

// IssuerSettings are those of Issuer.
type IssuerSettings struct {
	Issuer         string            `json:"Issuer"`
	Audience       string            `json:"Audience"`
	UsernameClaim  string            `json:"UsernameClaim"`
	UsernamePrefix string            `json:"UsernamePrefix"`
	RequiredClaims map[string]string `json:"RequiredClaims"`
	Groups         []string          `json:"Groups"`
	GroupsClaim    string            `json:"GroupsClaim"`
	CACertFile     string            `json:"CACertFile"`
}

// LimitSettings are those of Limits.
type LimitSettings struct {
	MaxBodyBytes      int64            `json:"MaxBodyBytes"`
	MaxBufferedBytes  int64            `json:"MaxBufferedBytes"`
	RequestsPerClient int              `json:"RequestsPerClient"`
	StreamsPerClient  int              `json:"StreamsPerClient"`
	SessionsPerClient int              `json:"SessionsPerClient"`
	Sessions          int              `json:"Sessions"`
	SessionIdle       *metav1.Duration `json:"SessionIdle"`
	Patience          *metav1.Duration `json:"Patience"`
	PluginTimeout     *metav1.Duration `json:"PluginTimeout"`
}

// CacheSettings are those of CacheLimits.
type CacheSettings struct {
	MaxPods  int              `json:"MaxPods"`
	MaxBytes int64            `json:"MaxBytes"`
	MaxAge   *metav1.Duration `json:"MaxAge"`
}

// ReadSettings reads a configuration file; keys that nothing knows are errors.
func ReadSettings(file string) (Settings, error) {
	var settings Settings
	text, err := os.ReadFile(file) //nolint:gosec // the operator names the file
	if err != nil {
		return settings, fmt.Errorf("configuration: %w", err)
	}
	if err := yaml.UnmarshalStrict(text, &settings); err != nil {
		return settings, fmt.Errorf("configuration %s: %w", file, err)
	}
	return settings, nil
}

// ApplyEnvironment lets upstream's variables override the file.
func (s *Settings) ApplyEnvironment(lookup func(string) string) {
	for name, field := range map[string]*string{
		"INTERLINKURL":  &s.InterlinkAddress,
		"INTERLINKPORT": &s.InterlinkPort,
		"SIDECARURL":    &s.SidecarURL,
		"SIDECARPORT":   &s.SidecarPort,
	} {
		if value := lookup(name); value != "" {
			*field = value
		}
	}
}

// GracePeriod is how long requests may take to finish at a shutdown.
func (s *Settings) GracePeriod() time.Duration { return orDefault(duration(s.Grace), 30*time.Second) }

func duration(d *metav1.Duration) time.Duration {
	if d == nil {
		return 0
	}
	return d.Duration
}
