// SPDX-License-Identifier: Apache-2.0

package login

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"go.yaml.in/yaml/v3"
)

// Site is the platform: what a user would have to type otherwise. It comes from the build,
// /etc/kubectl-openstack/config.yaml and ~/.config/kubectl-openstack/config.yaml, later ones first.
type Site struct {
	// Name is the cluster's name in the kubeconfig, and what contexts begin with.
	Name string `yaml:"name"`
	// Server is the API server's address, and CAFile who vouches for it; the system's authorities if empty.
	Server string `yaml:"server"`
	CAFile string `yaml:"caFile"`
	// AuthURL is Keystone's address, and AuthCAFile who vouches for it; CAFile if empty.
	AuthURL    string `yaml:"authURL"`
	AuthCAFile string `yaml:"authCAFile"`
	// Domain is the one of users and projects, by its name.
	Domain string `yaml:"domain"`
	// Trustee is the user who makes machines for the others. Without one there are no trusts.
	Trustee Trustee `yaml:"trustee"`
	Trust   Grant   `yaml:"trust"`
	// ApplicationCredential is what a login with -exec makes.
	ApplicationCredential Grant  `yaml:"applicationCredential"`
	OIDC                  OpenID `yaml:"oidc"`
	// Secrets is where secrets are kept: keyring, file, or auto for the keyring if there is one.
	Secrets string `yaml:"secrets"`
}

// Trustee is a user of OpenStack.
type Trustee struct {
	ID string `yaml:"id"`
	// Name is for people.
	Name string `yaml:"name"`
}

// Grant is what is given to others, and for how long.
type Grant struct {
	Roles []string `yaml:"roles"`
	Days  int      `yaml:"days"`
}

// OpenID is a provider.
type OpenID struct {
	Issuer   string   `yaml:"issuer"`
	ClientID string   `yaml:"clientID"`
	CAFile   string   `yaml:"caFile"`
	Scopes   []string `yaml:"scopes"`
}

const (
	secretsAuto    = "auto"
	secretsKeyring = "keyring"
	secretsFile    = "file"
)

// defaults are what no file says.
func (s Site) defaults() Site {
	if s.Name == "" {
		s.Name = "cloudveneto"
	}
	if s.Secrets == "" {
		s.Secrets = secretsAuto
	}
	s.Trust = s.Trust.or(90)
	s.ApplicationCredential = s.ApplicationCredential.or(30)
	if len(s.OIDC.Scopes) == 0 {
		s.OIDC.Scopes = []string{"openid", "profile", "offline_access"}
	}
	return s
}

func (g Grant) or(days int) Grant {
	if len(g.Roles) == 0 {
		g.Roles = []string{"member"}
	}
	if g.Days == 0 {
		g.Days = days
	}
	return g
}

// site reads the files over what was built in.
func (a *App) site() (Site, error) {
	site := a.Defaults
	places := []string{a.SystemConfig, filepath.Join(a.configDir(), "config.yaml")}
	if named := a.get("KUBECTL_OPENSTACK_CONFIG"); named != "" {
		places = []string{named}
	}
	for _, path := range places {
		if path == "" {
			continue
		}
		text, err := os.ReadFile(path) //nolint:gosec // whoever runs the program says which file
		if errors.Is(err, fs.ErrNotExist) && len(places) > 1 {
			continue
		}
		if err != nil {
			return Site{}, fail(CodeUsage, "read the configuration: %w", err)
		}
		if err := decodeStrictly(text, &site); err != nil {
			return Site{}, fail(CodeUsage, "%s: %w", path, err)
		}
		site.relativeTo(filepath.Dir(path))
	}
	site = site.defaults()
	return site, site.validate()
}

func (s *Site) relativeTo(dir string) {
	for _, path := range []*string{&s.CAFile, &s.AuthCAFile, &s.OIDC.CAFile} {
		if *path != "" && !filepath.IsAbs(*path) {
			*path = filepath.Join(dir, *path)
		}
	}
}

func (s Site) validate() error {
	var problems []error
	switch s.Secrets {
	case secretsAuto, secretsKeyring, secretsFile:
	default:
		problems = append(problems, fmt.Errorf("configuration: secrets is %q; want auto, keyring or file", s.Secrets))
	}
	if s.Trust.Days < 1 || s.ApplicationCredential.Days < 1 {
		problems = append(problems, errors.New("configuration: days has to be more than 0"))
	}
	if len(problems) > 0 {
		return &ExitError{Code: CodeUsage, Err: errors.Join(problems...)}
	}
	return nil
}

func decodeStrictly(text []byte, into any) error {
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	decoder.KnownFields(true)
	if err := decoder.Decode(into); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}

func (a *App) configDir() string {
	if dir := a.get("XDG_CONFIG_HOME"); dir != "" {
		return filepath.Join(dir, "kubectl-openstack")
	}
	return filepath.Join(a.Environment.Home, ".config", "kubectl-openstack")
}

// cacheDir is where tokens are kept, beside kubectl's own cache.
func (a *App) cacheDir() string {
	if dir := a.get("KUBECACHEDIR"); dir != "" {
		return filepath.Join(dir, "openstack")
	}
	return filepath.Join(a.Environment.Home, ".kube", "cache", "openstack")
}

func (a *App) get(variable string) string {
	value, _ := a.Environment.Lookup(variable)
	return value
}

// pem reads certificates; no file is none.
func pem(path string) ([]byte, error) {
	if path == "" {
		return nil, nil
	}
	text, err := os.ReadFile(path) //nolint:gosec // whoever runs the program says which file
	if err != nil {
		return nil, fail(CodeUsage, "read the certificate authority: %w", err)
	}
	return text, nil
}
