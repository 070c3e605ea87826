// SPDX-License-Identifier: Apache-2.0

// Package clouds reads how to log in to OpenStack where its other programs look, too: the
// variables OS_*, and the file clouds.yaml with secure.yaml beside it.
package clouds

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/cloudveneto/caas/multitenancy/login/identity"
)

// Settings are what was found; what was not is empty.
type Settings struct {
	AuthURL string
	// CAFile has the certificates of who may vouch for Keystone.
	CAFile     string
	Credential identity.Credential
	Scope      identity.Scope
}

// Environment is where the process finds its surroundings.
type Environment struct {
	// Lookup is os.LookupEnv outside tests.
	Lookup func(string) (string, bool)
	// Home is the user's directory.
	Home string
	// WorkDir is the directory in which clouds.yaml comes first.
	WorkDir string
}

func (e Environment) get(name string) string {
	value, _ := e.Lookup(name)
	return value
}

// Load reads the cloud's settings, or the variables if no cloud is named here or by OS_CLOUD.
func Load(environment Environment, cloud string) (Settings, error) {
	if cloud == "" {
		cloud = environment.get("OS_CLOUD")
	}
	if cloud == "" {
		return fromVariables(environment), nil
	}
	settings, err := fromFile(environment, cloud)
	if err != nil {
		return Settings{}, err
	}
	// A file without the password is common; it is typed, or comes from a vault.
	if settings.Credential.Password == "" && !settings.Credential.IsApplicationCredential() {
		settings.Credential.Password = identity.Secret(environment.get("OS_PASSWORD"))
	}
	return settings, nil
}

func fromVariables(e Environment) Settings {
	first := func(names ...string) string {
		for _, name := range names {
			if value := e.get(name); value != "" {
				return value
			}
		}
		return ""
	}
	settings := Settings{
		AuthURL: e.get("OS_AUTH_URL"), CAFile: e.get("OS_CACERT"),
		Credential: identity.Credential{
			UserID: e.get("OS_USER_ID"), UserName: e.get("OS_USERNAME"),
			DomainID: first("OS_USER_DOMAIN_ID", "OS_DOMAIN_ID"), DomainName: first("OS_USER_DOMAIN_NAME", "OS_DOMAIN_NAME"),
			Password: identity.Secret(e.get("OS_PASSWORD")), Passcode: identity.Secret(e.get("OS_PASSCODE")),
			ApplicationCredentialID:   e.get("OS_APPLICATION_CREDENTIAL_ID"),
			ApplicationCredentialName: e.get("OS_APPLICATION_CREDENTIAL_NAME"),
			ApplicationCredentialKey:  identity.Secret(e.get("OS_APPLICATION_CREDENTIAL_SECRET")),
		},
		Scope: identity.Scope{
			ProjectID: first("OS_PROJECT_ID", "OS_TENANT_ID"), ProjectName: first("OS_PROJECT_NAME", "OS_TENANT_NAME"),
			DomainID: first("OS_PROJECT_DOMAIN_ID", "OS_DOMAIN_ID"), DomainName: first("OS_PROJECT_DOMAIN_NAME", "OS_DOMAIN_NAME"),
		},
	}
	if strings.HasSuffix(e.get("OS_AUTH_TYPE"), "token") {
		settings.Credential.Token = identity.Secret(e.get("OS_TOKEN"))
	}
	return settings
}

// entry is one cloud of the file, as far as logging in needs it.
type entry struct {
	Auth     auth   `yaml:"auth"`
	AuthType string `yaml:"auth_type"`
	CACert   string `yaml:"cacert"`
	Verify   *bool  `yaml:"verify"`
}

type auth struct {
	AuthURL           string `yaml:"auth_url"`
	UserName          string `yaml:"username"`
	UserID            string `yaml:"user_id"`
	Password          string `yaml:"password"`
	Passcode          string `yaml:"passcode"`
	Token             string `yaml:"token"`
	ProjectName       string `yaml:"project_name"`
	ProjectID         string `yaml:"project_id"`
	DomainName        string `yaml:"domain_name"`
	DomainID          string `yaml:"domain_id"`
	UserDomainName    string `yaml:"user_domain_name"`
	UserDomainID      string `yaml:"user_domain_id"`
	ProjectDomainName string `yaml:"project_domain_name"`
	ProjectDomainID   string `yaml:"project_domain_id"`
	CredentialID      string `yaml:"application_credential_id"`
	CredentialName    string `yaml:"application_credential_name"`
	CredentialSecret  string `yaml:"application_credential_secret"`
}

func fromFile(e Environment, cloud string) (Settings, error) {
	path, text, err := e.find("clouds.yaml", "OS_CLIENT_CONFIG_FILE")
	if err != nil {
		return Settings{}, err
	}
	if text == nil {
		return Settings{}, fmt.Errorf("cloud %q: there is no clouds.yaml; name the file with OS_CLIENT_CONFIG_FILE", cloud)
	}
	found, err := pick(path, text, cloud)
	if err != nil {
		return Settings{}, err
	}
	if found == nil {
		return Settings{}, fmt.Errorf("%s has no cloud %q; it has %s", path, cloud, strings.Join(names(text), ", "))
	}
	secure, secret, err := e.find("secure.yaml", "OS_CLIENT_SECURE_FILE")
	if err != nil {
		return Settings{}, err
	}
	more, err := pick(secure, secret, cloud)
	if err != nil {
		return Settings{}, err
	}
	var merged entry
	for _, part := range []*yaml.Node{found, more} {
		if part == nil {
			continue
		}
		if err := part.Decode(&merged); err != nil {
			return Settings{}, fmt.Errorf("%s: cloud %q has values of the wrong form", path, cloud)
		}
	}
	return merged.settings(path, cloud)
}

// find reads the first file of a name where OpenStack's programs look. No file is no text.
func (e Environment) find(name, variable string) (path string, text []byte, err error) {
	places := []string{
		filepath.Join(e.WorkDir, name), filepath.Join(e.configHome(), "openstack", name), filepath.Join("/etc/openstack", name),
	}
	if named := e.get(variable); named != "" {
		places = []string{named}
	}
	for _, path := range places {
		text, err := os.ReadFile(path) //nolint:gosec // whoever runs the program says which file
		if err == nil {
			return path, text, nil
		}
		if !errors.Is(err, fs.ErrNotExist) || len(places) == 1 {
			return "", nil, fmt.Errorf("read the file of clouds: %w", err)
		}
	}
	return "", nil, nil
}

func (e Environment) configHome() string {
	if dir := e.get("XDG_CONFIG_HOME"); dir != "" {
		return dir
	}
	return filepath.Join(e.Home, ".config")
}

// pick is a cloud's part of a file. Errors do not quote the file: it has passwords.
func pick(path string, text []byte, cloud string) (*yaml.Node, error) {
	var file struct {
		Clouds map[string]yaml.Node `yaml:"clouds"`
	}
	if err := yaml.Unmarshal(text, &file); err != nil {
		return nil, fmt.Errorf("%s is not a file of clouds: it is no YAML with the key clouds", path)
	}
	if node, has := file.Clouds[cloud]; has {
		return &node, nil
	}
	return nil, nil //nolint:nilnil // secure.yaml need not have the cloud
}

func names(text []byte) []string {
	var file struct {
		Clouds map[string]yaml.Node `yaml:"clouds"`
	}
	if yaml.Unmarshal(text, &file) != nil || len(file.Clouds) == 0 {
		return []string{"none"}
	}
	var all []string
	for name := range file.Clouds {
		all = append(all, name)
	}
	slices.Sort(all)
	return all
}

func (c entry) settings(path, cloud string) (Settings, error) {
	if c.Verify != nil && !*c.Verify {
		return Settings{}, fmt.Errorf("%s: cloud %q has verify: false, with which anybody can read the password; name the authority with cacert", path, cloud)
	}
	if c.CACert != "" && !filepath.IsAbs(c.CACert) {
		c.CACert = filepath.Join(filepath.Dir(path), c.CACert)
	}
	or := func(values ...string) string {
		for _, value := range values {
			if value != "" {
				return value
			}
		}
		return ""
	}
	a := c.Auth
	settings := Settings{
		AuthURL: a.AuthURL, CAFile: c.CACert,
		Credential: identity.Credential{
			UserID: a.UserID, UserName: a.UserName, DomainID: or(a.UserDomainID, a.DomainID), DomainName: or(a.UserDomainName, a.DomainName),
			Password: identity.Secret(a.Password), Passcode: identity.Secret(a.Passcode),
			ApplicationCredentialID: a.CredentialID, ApplicationCredentialName: a.CredentialName,
			ApplicationCredentialKey: identity.Secret(a.CredentialSecret),
		},
		Scope: identity.Scope{
			ProjectID: a.ProjectID, ProjectName: a.ProjectName,
			DomainID: or(a.ProjectDomainID, a.DomainID), DomainName: or(a.ProjectDomainName, a.DomainName),
		},
	}
	switch strings.TrimPrefix(c.AuthType, "v3") {
	case "", "password", "applicationcredential", "totp", "multifactor":
	case "token":
		settings.Credential.Token = identity.Secret(a.Token)
	default:
		return Settings{}, fmt.Errorf("%s: cloud %q has auth_type %q; password, v3applicationcredential, v3totp, v3multifactor and token work here", path, cloud, c.AuthType)
	}
	return settings, nil
}
