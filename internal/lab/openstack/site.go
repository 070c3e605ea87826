// SPDX-License-Identifier: Apache-2.0

package openstack

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

const stateFile = "site.json"

// User is somebody whom Keystone knows, in the domain Default.
type User struct {
	ID   string `json:"id"`
	Name string `json:"name"`
	// Projects are the names of those he was put into.
	Projects []string `json:"projects,omitempty"`
}

// Project is a project of the domain Default with its network.
type Project struct {
	ID   string `json:"id"`
	Name string `json:"name"`
	// Network is the name of the one network, NAME-lan; servers get First to Last of Subnet.
	Network   string       `json:"network"`
	NetworkID string       `json:"networkID"`
	Subnet    netip.Prefix `json:"subnet"`
	Gateway   netip.Addr   `json:"gateway"`
	First     netip.Addr   `json:"first"`
	Last      netip.Addr   `json:"last"`
}

// GatewayPrefix is the gateway's address with the network's prefix length, as the LAN's bridge needs it.
func (p Project) GatewayPrefix() netip.Prefix { return netip.PrefixFrom(p.Gateway, p.Subnet.Bits()) }

// state is what is kept of a site besides its databases; secrets are in files of their own.
type state struct {
	Config   Config             `json:"config"`
	Users    map[string]User    `json:"users"`
	Projects map[string]Project `json:"projects"`
}

// Site is an OpenStack. Its methods may be called from several goroutines.
type Site struct {
	cfg    Config
	client *http.Client

	mu    sync.Mutex // guards state
	state state
}

// Open finds the site that was started in dir, whether it runs or not. The error is fs.ErrNotExist if there is none.
func Open(dir string) (*Site, error) {
	known, err := load(dir)
	if err != nil {
		return nil, fmt.Errorf("open site: %w", err)
	}
	known.Config.Dir = dir
	cfg, err := known.Config.complete()
	if err != nil {
		return nil, fmt.Errorf("open site: %w", err)
	}
	return newSite(cfg, known), nil
}

func newSite(cfg Config, known state) *Site {
	return &Site{cfg: cfg, client: &http.Client{Transport: cfg.transport()}, state: known}
}

func load(dir string) (state, error) {
	known := state{Users: map[string]User{}, Projects: map[string]Project{}}
	path := filepath.Join(dir, stateFile)
	data, err := os.ReadFile(filepath.Clean(path))
	if err != nil {
		return known, err
	}
	if err := json.Unmarshal(data, &known); err != nil {
		return known, fmt.Errorf("decode %s: %w", path, err)
	}
	return known, nil
}

// change changes what is kept of the site, also for other processes that opened it.
func (s *Site) change(ctx context.Context, with func(*state)) error {
	unlock, err := lock(ctx, s.cfg.path("site.lock"))
	if err != nil {
		return err
	}
	defer unlock()
	known, err := load(s.cfg.Dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	known.Config = s.cfg
	with(&known)
	data, err := json.MarshalIndent(known, "", "  ")
	if err != nil {
		return err
	}
	if err := writeWhole(s.cfg.path(stateFile), append(data, '\n')); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state = known
	return nil
}

// writeWhole writes a file of which readers see all or nothing.
func writeWhole(path string, data []byte) error {
	tmp := path + ".new"
	if err := os.WriteFile(tmp, data, 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}

// Config is what the site was started with, with the defaults filled in.
func (s *Site) Config() Config { return s.cfg }

// Region is the region's name.
func (s *Site) Region() string { return s.cfg.Region }

// AuthURL is Keystone's URL in the site's network namespace.
func (s *Site) AuthURL() string { return "http://" + s.cfg.at(keystonePort) + "/v3" }

// TLSAuthURL is Keystone's https URL; empty if it has none.
func (s *Site) TLSAuthURL() string {
	if s.cfg.KeystoneTLS == nil {
		return ""
	}
	return "https://" + s.cfg.at(keystoneTLSPort) + "/v3"
}

// Transport reaches the services from outside their network namespace. The caller closes its idle connections.
func (s *Site) Transport() *http.Transport { return s.cfg.transport() }

// User is a user by name, also after another process has made him.
func (s *Site) User(name string) (User, error) {
	user, known := lookup(s, name, func(known state) map[string]User { return known.Users })
	if !known {
		return user, fmt.Errorf("the site has no user %q", name)
	}
	return user, nil
}

// Project is a project by name, also after another process has made it.
func (s *Site) Project(name string) (Project, error) {
	project, known := lookup(s, name, func(known state) map[string]Project { return known.Projects })
	if !known {
		return project, fmt.Errorf("the site has no project %q", name)
	}
	return project, nil
}

// Projects are all projects that have a network.
func (s *Site) Projects() []Project {
	known := s.known()
	all := make([]Project, 0, len(known.Projects))
	for _, project := range known.Projects {
		all = append(all, project)
	}
	return all
}

func (s *Site) known() state {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state
}

func lookup[T any](s *Site, name string, in func(state) map[string]T) (T, bool) {
	found, known := in(s.known())[name]
	if known {
		return found, true
	}
	stored, err := load(s.cfg.Dir)
	if err != nil {
		return found, false
	}
	found, known = in(stored)[name]
	return found, known
}

// PasswordFile is the file with a user's password, which only root can read.
func (s *Site) PasswordFile(user string) string { return s.cfg.path("passwords", user) }

// Password is a user's password.
func (s *Site) Password(user string) (string, error) {
	data, err := os.ReadFile(filepath.Clean(s.PasswordFile(user)))
	if err != nil {
		return "", fmt.Errorf("read password of %q: %w", user, err)
	}
	return string(data), nil
}

func (s *Site) ensurePassword(user string) (string, error) {
	if user == "" || strings.ContainsAny(user, "/\x00") || strings.HasPrefix(user, ".") {
		return "", fmt.Errorf("user name %q is not a plain file name", user)
	}
	if secret, err := s.Password(user); err == nil || !errors.Is(err, fs.ErrNotExist) {
		return secret, err
	}
	if err := os.MkdirAll(s.cfg.path("passwords"), 0o700); err != nil {
		return "", err
	}
	secret := password()
	return secret, writeWhole(s.PasswordFile(user), []byte(secret))
}
