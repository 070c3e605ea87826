// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"sigs.k8s.io/yaml"

	"github.com/cloudveneto/caas/multitenancy/authz"
	"github.com/cloudveneto/caas/multitenancy/tenant"
)

// file is the configuration file.
type file struct {
	authz.Options

	// Listen is where the API server finds the webhook: host:port, on loopback.
	Listen string `json:"listen,omitempty"`
	// ReusePort lets several processes serve the same address. Each listens once it is ready.
	ReusePort bool    `json:"reusePort,omitempty"`
	TLS       tlsFile `json:"tls"`
	// Kubeconfig is for reading metadata; empty for the ServiceAccount of the pod it runs in.
	Kubeconfig string `json:"kubeconfig,omitempty"`
	// WebhookKubeconfig is the path, on the API server's machine, of the kubeconfig by which
	// it calls the webhook. It is only printed.
	WebhookKubeconfig string `json:"webhookKubeconfig,omitempty"`
	// PolicyFile says which kinds of objects tenants have; empty for the defaults.
	PolicyFile string `json:"policyFile,omitempty"`
	// Lookups limit, per user, the questions to the API server about objects that the index does not know.
	Lookups lookupsFile `json:"lookups,omitzero"`

	rules *authz.Rules
}

type tlsFile struct {
	CertFile string `json:"certFile"`
	KeyFile  string `json:"keyFile"`
	// ClientCAFile is whom the API server's client certificate must be from.
	ClientCAFile string `json:"clientCAFile"`
}

type lookupsFile struct {
	// PerSecond is 50 by default, and Burst 200.
	PerSecond float64 `json:"perSecond,omitempty"`
	Burst     int     `json:"burst,omitempty"`
}

// load reads the file, lays the flags over it, and reports all that is wrong with it.
func (o *options) load() (*file, error) {
	content, err := os.ReadFile(filepath.Clean(o.config))
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	settings := &file{}
	if err := yaml.UnmarshalStrict(content, settings); err != nil {
		return nil, fmt.Errorf("configuration %s: %w", o.config, err)
	}
	if o.kubeconfig != "" {
		settings.Kubeconfig = o.kubeconfig
	}
	if o.listen != "" {
		settings.Listen = o.listen
	}
	if err := errors.Join(settings.complete(), settings.validate()); err != nil {
		return nil, fmt.Errorf("configuration %s:\n%w", o.config, err)
	}
	return settings, nil
}

func (f *file) complete() error {
	if f.Listen == "" {
		f.Listen = "127.0.0.1:9643"
	}
	if f.WebhookKubeconfig == "" {
		f.WebhookKubeconfig = "/etc/kubernetes/mt/authz.kubeconfig"
	}
	policy := tenant.DefaultPolicy()
	if f.PolicyFile != "" {
		content, err := os.ReadFile(filepath.Clean(f.PolicyFile))
		if err != nil {
			return fmt.Errorf("policyFile: %w", err)
		}
		if policy, err = tenant.ParsePolicy(content); err != nil {
			return fmt.Errorf("policyFile %s: %w", f.PolicyFile, err)
		}
	}
	var err error
	f.rules, err = authz.NewRules(policy, f.Options)
	return err
}

func (f *file) validate() error {
	var problems []error
	for _, required := range []struct{ field, path string }{
		{"tls.certFile", f.TLS.CertFile}, {"tls.keyFile", f.TLS.KeyFile}, {"tls.clientCAFile", f.TLS.ClientCAFile},
	} {
		if required.path == "" {
			problems = append(problems, fmt.Errorf("%s: required: whoever may ask learns who owns what", required.field))
		}
	}
	if _, _, err := net.SplitHostPort(f.Listen); err != nil {
		problems = append(problems, fmt.Errorf("listen: %q: want host:port", f.Listen))
	}
	if f.Lookups.PerSecond < 0 || f.Lookups.Burst < 0 {
		problems = append(problems, errors.New("lookups: perSecond and burst must not be negative"))
	}
	return errors.Join(problems...)
}
