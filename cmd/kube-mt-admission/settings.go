// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"net"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cloudveneto/caas/internal/service"
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
	TLS service.WebhookTLS `json:"tls"`
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

// load reads the file, lays the flags over it, and reports all that is wrong with it.
func (o *options) load(path string) (*file, error) {
	settings := &file{
		Listen: "127.0.0.1:9445", OpsListen: "127.0.0.1:9446",
		Quarantine: metav1.Duration{Duration: 2 * time.Minute}, Rules: admission.DefaultRules(),
	}
	return service.ReadConfig(path, settings, func() error {
		if o.opsListen != "" {
			settings.OpsListen = o.opsListen
		}
		return errors.Join(settings.readPolicy(), settings.validate())
	})
}

func (f *file) readPolicy() (err error) {
	f.policy, err = service.ReadPart("policyFile", f.PolicyFile, tenant.DefaultPolicy(), tenant.ParsePolicy)
	return err
}

func (f *file) validate() error {
	problems := []error{f.Rules.Validate()}
	if _, port, err := net.SplitHostPort(f.Listen); err != nil || port == "" {
		problems = append(problems, fmt.Errorf("listen: %q: want host:port", f.Listen))
	}
	for _, field := range f.TLS.Missing() {
		problems = append(problems, fmt.Errorf("tls.%s: required: whoever may ask learns who owns what", field))
	}
	if f.Quarantine.Duration < time.Second {
		problems = append(problems, fmt.Errorf("quarantine: %s: want at least a second", f.Quarantine.Duration))
	}
	return errors.Join(problems...)
}
