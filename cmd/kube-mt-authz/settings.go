// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"net"

	"github.com/cloudveneto/caas/internal/service"
	"github.com/cloudveneto/caas/multitenancy/authz"
	"github.com/cloudveneto/caas/multitenancy/tenant"
)

// file is the configuration file.
type file struct {
	authz.Options

	// Listen is where the API server finds the webhook: host:port, on loopback.
	Listen string `json:"listen,omitempty"`
	// ReusePort lets several processes serve the same address. Each listens once it is ready.
	ReusePort bool               `json:"reusePort,omitempty"`
	TLS       service.WebhookTLS `json:"tls"`
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

type lookupsFile struct {
	// PerSecond is 50 by default, and Burst 200.
	PerSecond float64 `json:"perSecond,omitempty"`
	Burst     int     `json:"burst,omitempty"`
}

// load reads the file, lays the flags over it, and reports all that is wrong with it.
func (o *options) load(path string) (*file, error) {
	settings := &file{}
	return service.ReadConfig(path, settings, func() error {
		if o.kubeconfig != "" {
			settings.Kubeconfig = o.kubeconfig
		}
		if o.listen != "" {
			settings.Listen = o.listen
		}
		return errors.Join(settings.complete(), settings.validate())
	})
}

func (f *file) complete() error {
	if f.Listen == "" {
		f.Listen = "127.0.0.1:9643"
	}
	if f.WebhookKubeconfig == "" {
		f.WebhookKubeconfig = "/etc/kubernetes/mt/authz.kubeconfig"
	}
	policy, err := service.ReadPart("policyFile", f.PolicyFile, tenant.DefaultPolicy(), tenant.ParsePolicy)
	if err != nil {
		return err
	}
	f.rules, err = authz.NewRules(policy, f.Options)
	return err
}

func (f *file) validate() error {
	var problems []error
	for _, field := range f.TLS.Missing() {
		problems = append(problems, fmt.Errorf("tls.%s: required: whoever may ask learns who owns what", field))
	}
	if _, _, err := net.SplitHostPort(f.Listen); err != nil {
		problems = append(problems, fmt.Errorf("listen: %q: want host:port", f.Listen))
	}
	if f.Lookups.PerSecond < 0 || f.Lookups.Burst < 0 {
		problems = append(problems, errors.New("lookups: perSecond and burst must not be negative"))
	}
	return errors.Join(problems...)
}
