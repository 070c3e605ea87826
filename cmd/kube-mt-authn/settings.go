// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cloudveneto/caas/internal/service"
	"github.com/cloudveneto/caas/multitenancy/keystone"
	"github.com/cloudveneto/caas/multitenancy/oidc"
)

// file is the configuration file.
type file struct {
	// Listen is where the API server finds the webhook: host:port, on loopback.
	Listen string `json:"listen,omitempty"`
	// ReusePort lets several processes serve the same address.
	ReusePort bool               `json:"reusePort,omitempty"`
	TLS       service.WebhookTLS `json:"tls"`
	// Audiences are the API server's --api-audiences.
	Audiences []string      `json:"audiences,omitempty"`
	Keystone  *keystoneFile `json:"keystone,omitempty"`
	OIDC      []issuerFile  `json:"oidc,omitempty"`
	// Tenants makes the namespaces of projects.
	Tenants *tenantsFile `json:"tenants,omitempty"`

	keystone keystone.Config
	issuers  oidc.Config
}

type keystoneFile struct {
	AuthURL string `json:"authURL"`
	CAFile  string `json:"caFile,omitempty"`
	// Formats are those of the site's tokens beside fernet, which always is: jws, uuid.
	Formats []string `json:"formats,omitempty"`
	// Service asks about tokens where Keystone's policy does not let tokens be asked about with themselves.
	Service *serviceFile `json:"service,omitempty"`

	Roles          []string        `json:"roles,omitempty"`
	Projects       []string        `json:"projects,omitempty"`
	UserDomains    []string        `json:"userDomains,omitempty"`
	DefaultDomain  string          `json:"defaultDomain,omitempty"`
	UserNamePrefix string          `json:"userNamePrefix,omitempty"`
	AllowTrusts    bool            `json:"allowTrusts,omitempty"`
	MaxSession     metav1.Duration `json:"maxSession,omitzero"`

	Timeout   metav1.Duration `json:"timeout,omitzero"`
	InFlight  int             `json:"inFlight,omitempty"`
	PerSecond float64         `json:"perSecond,omitempty"`
	Cache     cacheFile       `json:"cache,omitzero"`
}

type cacheFile struct {
	Positive *metav1.Duration `json:"positive,omitempty"`
	Negative *metav1.Duration `json:"negative,omitempty"`
	Entries  int              `json:"entries,omitempty"`
}

type serviceFile struct {
	UserName      string `json:"userName"`
	UserDomain    string `json:"userDomain,omitempty"`
	Project       string `json:"project"`
	ProjectDomain string `json:"projectDomain,omitempty"`
	PasswordFile  string `json:"passwordFile"`
}

type issuerFile struct {
	Issuer         string            `json:"issuer"`
	CAFile         string            `json:"caFile,omitempty"`
	Audiences      []string          `json:"audiences"`
	Algorithms     []string          `json:"algorithms,omitempty"`
	Profile        oidc.Profile      `json:"profile,omitempty"`
	TokenType      oidc.TokenType    `json:"tokenType,omitempty"`
	Scopes         []string          `json:"scopes,omitempty"`
	MaxLifetime    metav1.Duration   `json:"maxLifetime,omitzero"`
	RequiredClaims map[string]string `json:"requiredClaims,omitempty"`
	UserNameClaim  string            `json:"userNameClaim,omitempty"`
	UserNamePrefix string            `json:"userNamePrefix,omitempty"`
	GroupsClaim    string            `json:"groupsClaim,omitempty"`
	GroupsPrefix   string            `json:"groupsPrefix,omitempty"`
	Projects       []projectFile     `json:"projects,omitempty"`
}

type projectFile struct {
	Group string   `json:"group"`
	ID    string   `json:"id"`
	Name  string   `json:"name,omitempty"`
	Roles []string `json:"roles,omitempty"`
}

const defaultListen = "127.0.0.1:9641"

// load reads the file and reports all that is wrong with it.
func (o *options) load(path string) (*file, error) {
	settings := &file{}
	return service.ReadConfig(path, settings, func() error {
		if o.listen != "" {
			settings.Listen = o.listen
		}
		if settings.Listen == "" {
			settings.Listen = defaultListen
		}
		return errors.Join(settings.validate(), settings.complete(o.insecure))
	})
}

func (f *file) validate() error {
	var problems []error
	host, _, err := net.SplitHostPort(f.Listen)
	if err != nil {
		problems = append(problems, fmt.Errorf("listen: %w", err))
	} else if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		problems = append(problems, fmt.Errorf("listen: %q is no loopback address: each API server has a webhook of its own beside it", f.Listen))
	}
	if len(f.TLS.Missing()) > 0 {
		problems = append(problems, errors.New("tls: certFile, keyFile and clientCAFile are required"))
	}
	if f.Keystone == nil && len(f.OIDC) == 0 {
		problems = append(problems, errors.New("neither keystone nor oidc is configured"))
	}
	if f.Keystone != nil {
		for _, format := range f.Keystone.Formats {
			if !slices.Contains([]string{formatFernet, formatJWS, formatUUID}, format) {
				problems = append(problems, fmt.Errorf("keystone.formats: %q is none of fernet, jws, uuid", format))
			}
		}
	}
	return errors.Join(problems...)
}

const (
	formatFernet = "fernet"
	formatJWS    = "jws"
	formatUUID   = "uuid"
)

// complete makes the packages' configurations, and tries them.
func (f *file) complete(insecure bool) error {
	var problems []error
	if f.Tenants != nil {
		problems = append(problems, f.Tenants.complete())
	}
	if f.Keystone != nil {
		var err error
		f.keystone, err = f.Keystone.config(insecure)
		if err == nil {
			_, err = keystone.New(f.keystone)
		}
		problems = append(problems, err)
	}
	for at := range f.OIDC {
		issuer, err := f.OIDC[at].config(insecure)
		if err != nil {
			problems = append(problems, fmt.Errorf("oidc[%d]: %w", at, err))
		}
		f.issuers.Issuers = append(f.issuers.Issuers, issuer)
	}
	if len(f.OIDC) > 0 && errors.Join(problems...) == nil {
		_, err := oidc.New(f.issuers)
		problems = append(problems, err)
	}
	return errors.Join(problems...)
}

func (k *keystoneFile) config(insecure bool) (keystone.Config, error) {
	transport, _, err := transport(k.CAFile)
	if err != nil {
		return keystone.Config{}, fmt.Errorf("keystone: %w", err)
	}
	config := keystone.Config{
		AuthURL: k.AuthURL, InsecureHTTP: insecure, Transport: transport,
		Rules: keystone.Rules{
			Roles: k.Roles, Projects: k.Projects, UserDomains: k.UserDomains, Trusts: k.AllowTrusts,
			DefaultDomain: k.DefaultDomain, UserNamePrefix: k.UserNamePrefix, MaxSession: k.MaxSession.Duration,
		},
		Limits: keystone.Limits{
			Timeout: k.Timeout.Duration, InFlight: k.InFlight, Rate: k.PerSecond, Entries: k.Cache.Entries,
			PositiveTTL: duration(k.Cache.Positive), NegativeTTL: duration(k.Cache.Negative),
		},
	}
	if k.Service != nil {
		config.Service, err = k.Service.credential()
	}
	return config, err
}

func duration(value *metav1.Duration) *time.Duration {
	if value == nil {
		return nil
	}
	return &value.Duration
}

func (s *serviceFile) credential() (*keystone.Credential, error) {
	password := func() (string, error) {
		content, err := os.ReadFile(filepath.Clean(s.PasswordFile))
		if err != nil {
			return "", fmt.Errorf("keystone.service.passwordFile: %w", err)
		}
		return strings.TrimRight(string(content), "\r\n"), nil
	}
	if _, err := password(); err != nil {
		return nil, err
	}
	return &keystone.Credential{
		UserName: s.UserName, UserDomain: s.UserDomain, Project: s.Project, ProjectDomain: s.ProjectDomain, Password: password,
	}, nil
}

func (i *issuerFile) config(insecure bool) (oidc.Issuer, error) {
	transport, authority, err := transport(i.CAFile)
	if err != nil {
		return oidc.Issuer{}, err
	}
	issuer := oidc.Issuer{
		URL: i.Issuer, InsecureHTTP: insecure, Transport: transport, CAData: authority, Audiences: i.Audiences, Algorithms: i.Algorithms,
		Profile: i.Profile, TokenType: i.TokenType, Scopes: i.Scopes, MaxLifetime: i.MaxLifetime.Duration, RequiredClaims: i.RequiredClaims,
		UserNameClaim: i.UserNameClaim, UserNamePrefix: i.UserNamePrefix, GroupsClaim: i.GroupsClaim, GroupsPrefix: i.GroupsPrefix,
	}
	for _, project := range i.Projects {
		issuer.Projects = append(issuer.Projects, oidc.Project{Group: project.Group, ID: project.ID, Name: project.Name, Roles: project.Roles})
	}
	return issuer, nil
}
