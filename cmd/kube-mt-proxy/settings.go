// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cloudveneto/caas/internal/service"
	"github.com/cloudveneto/caas/multitenancy/tenant"
)

const (
	defaultListen    = "0.0.0.0:8443"
	defaultOpsListen = "127.0.0.1:9648"
	// nowhere is the operations port of those who want none.
	nowhere = "none"

	listOwner   = "owner"
	listProject = "project"
)

// file is the configuration file.
type file struct {
	// Listen is where users come: host:port.
	Listen string `json:"listen,omitempty"`
	// ReusePort lets several processes serve the same address.
	ReusePort bool `json:"reusePort,omitempty"`
	// OpsListen is where /healthz, /readyz and /metrics are; none for nowhere.
	OpsListen string     `json:"opsListen,omitempty"`
	TLS       tlsFile    `json:"tls"`
	Server    serverFile `json:"server"`
	// PolicyFile says which kinds of objects tenants have; empty for the defaults.
	PolicyFile string `json:"policyFile,omitempty"`
	// ListMode and Sensitive are those of kube-mt-authz.
	ListMode  string      `json:"listMode,omitempty"`
	Sensitive []string    `json:"sensitive,omitempty"`
	Callers   callersFile `json:"callers,omitzero"`

	policy      tenant.Policy
	server      *url.URL
	authorities *x509.CertPool
}

type tlsFile struct {
	CertFile string `json:"certFile"`
	KeyFile  string `json:"keyFile"`
}

type serverFile struct {
	// URL is the API server's: https://host:port.
	URL string `json:"url"`
	// CAFile has the authorities that its certificate may be from; empty for the system's.
	CAFile string `json:"caFile,omitempty"`
}

// callersFile limits what is remembered of who has which token.
type callersFile struct {
	TTL     metav1.Duration `json:"ttl,omitzero"`
	Entries int             `json:"entries,omitempty"`
}

// load reads the file, lays the flags over it, and reports all that is wrong with it.
func (o *options) load(path string) (*file, error) {
	settings := &file{}
	return service.ReadConfig(path, settings, func() error {
		settings.complete(o)
		return errors.Join(settings.validate(), settings.read())
	})
}

func (f *file) complete(o *options) {
	for _, one := range []struct {
		value          *string
		flag, fallback string
	}{
		{&f.Listen, o.listen, defaultListen},
		{&f.OpsListen, o.opsListen, defaultOpsListen},
		{&f.ListMode, "", listOwner},
	} {
		if one.flag != "" {
			*one.value = one.flag
		}
		if *one.value == "" {
			*one.value = one.fallback
		}
	}
}

func (f *file) validate() error {
	var problems []error
	if _, _, err := net.SplitHostPort(f.Listen); err != nil {
		problems = append(problems, fmt.Errorf("listen: %q: want host:port", f.Listen))
	}
	if _, _, err := net.SplitHostPort(f.OpsListen); err != nil && f.OpsListen != nowhere {
		problems = append(problems, fmt.Errorf("opsListen: %q: want host:port, or %s", f.OpsListen, nowhere))
	}
	if f.TLS.CertFile == "" || f.TLS.KeyFile == "" {
		problems = append(problems, errors.New("tls: certFile and keyFile are required: users send their tokens"))
	}
	if f.ListMode != listOwner && f.ListMode != listProject {
		problems = append(problems, fmt.Errorf("listMode: %q: want %s or %s", f.ListMode, listOwner, listProject))
	}
	if f.Callers.TTL.Duration < 0 || f.Callers.Entries < 0 {
		problems = append(problems, errors.New("callers: ttl and entries must not be negative"))
	}
	return errors.Join(problems...)
}

// read reads what the file refers to.
func (f *file) read() error {
	server, err := url.Parse(f.Server.URL)
	if err != nil || server.Scheme != "https" || server.Host == "" || server.User != nil || server.RawQuery != "" || server.Path != "" && server.Path != "/" {
		err = fmt.Errorf("server.url: %q: want https://host:port", f.Server.URL)
	}
	f.server = server
	return errors.Join(err, f.readAuthorities(), f.readPolicy())
}

func (f *file) readAuthorities() (err error) {
	f.authorities, err = service.ReadPart("server.caFile", f.Server.CAFile, nil, func(content []byte) (*x509.CertPool, error) {
		authorities := x509.NewCertPool()
		if !authorities.AppendCertsFromPEM(content) {
			return nil, errors.New("holds no certificate")
		}
		return authorities, nil
	})
	return err
}

func (f *file) readPolicy() (err error) {
	f.policy, err = service.ReadPart("policyFile", f.PolicyFile, tenant.DefaultPolicy(), tenant.ParsePolicy)
	return err
}
