// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/cloudveneto/caas/multitenancy/admission"
	"github.com/cloudveneto/caas/multitenancy/tenant"
)

// file is the configuration file.
type file struct {
	// Listen is host:port; the API server asks there.
	Listen string `json:"listen,omitempty"`
	// ReusePort lets several processes serve the same address. Each listens once it is ready.
	ReusePort bool `json:"reusePort,omitempty"`
	// TLS has the server's certificate and whom clients' must be from.
	TLS tlsFiles `json:"tls"`
	// OpsListen serves /healthz, /readyz and /metrics; empty for none.
	OpsListen string `json:"opsListen,omitempty"`
	// PolicyFile says what users own; without it the defaults hold.
	PolicyFile string `json:"policyFile,omitempty"`
	// Quarantine is how long a deleted object's name stays its owner's.
	Quarantine metav1.Duration `json:"quarantine,omitzero"`
	// Rules are what the site chooses; lists replace the defaults.
	Rules admission.Rules `json:"rules,omitzero"`

	policy tenant.Policy
}

type tlsFiles struct {
	CertFile     string `json:"certFile"`
	KeyFile      string `json:"keyFile"`
	ClientCAFile string `json:"clientCAFile"`
}

// load reads the file and reports all that is wrong with it.
func load(path string) (*file, error) {
	content, err := os.ReadFile(filepath.Clean(path))
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	settings := &file{
		Listen: "127.0.0.1:9445", OpsListen: "127.0.0.1:9446",
		Quarantine: metav1.Duration{Duration: 2 * time.Minute}, Rules: admission.DefaultRules(), policy: tenant.DefaultPolicy(),
	}
	if err := yaml.UnmarshalStrict(content, settings); err != nil {
		return nil, fmt.Errorf("configuration %s: %w", path, err)
	}
	if err := errors.Join(settings.readPolicy(), settings.validate()); err != nil {
		return nil, fmt.Errorf("configuration %s:\n%w", path, err)
	}
	return settings, nil
}

func (f *file) readPolicy() error {
	if f.PolicyFile == "" {
		return nil
	}
	content, err := os.ReadFile(filepath.Clean(f.PolicyFile))
	if err != nil {
		return fmt.Errorf("policyFile: %w", err)
	}
	f.policy, err = tenant.ParsePolicy(content)
	if err != nil {
		return fmt.Errorf("policyFile %s: %w", f.PolicyFile, err)
	}
	return nil
}

func (f *file) validate() error {
	problems := []error{f.Rules.Validate()}
	if _, port, err := net.SplitHostPort(f.Listen); err != nil || port == "" {
		problems = append(problems, fmt.Errorf("listen: %q: want host:port", f.Listen))
	}
	for field, value := range map[string]string{
		"tls.certFile": f.TLS.CertFile, "tls.keyFile": f.TLS.KeyFile, "tls.clientCAFile": f.TLS.ClientCAFile,
	} {
		if value == "" {
			problems = append(problems, fmt.Errorf("%s: required: whoever may ask learns who owns what", field))
		}
	}
	if f.Quarantine.Duration < time.Second {
		problems = append(problems, fmt.Errorf("quarantine: %s: want at least a second", f.Quarantine.Duration))
	}
	return errors.Join(problems...)
}
