// SPDX-License-Identifier: Apache-2.0

package openstack

import (
	"bytes"
	"crypto/rand"
	"embed"
	"encoding/base64"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"text/template"
)

//go:embed files
var embedded embed.FS

// python is Debian's, for which the packages are; another one may be earlier in PATH.
const python = "/usr/bin/python3"

// layout is a directory with the files of a site, or of a template's making.
type layout struct {
	Dir, Region, ServicePassword string
	// KeystoneURL is what the services reach Keystone by; Address is what they listen on.
	KeystoneURL, Address string
	Libvirt              bool
	Ports                struct{ Glance, Neutron, Nova int }
	// Sockets are uWSGI's options for the sockets of Keystone and of Placement.
	KeystoneSockets, PlacementSockets []string
}

func (l layout) path(elements ...string) string {
	return filepath.Join(append([]string{l.Dir}, elements...)...)
}

// write makes directories, programs and configuration files. Databases and keys that exist are left alone.
func (l layout) write() error {
	for _, dir := range []string{
		"etc/empty", "db", "keys/fernet", "keys/credential", "lib", "glance/images", "glance/staging",
		"neutron/lock", "nova/instances", "nova/lock", "run",
	} {
		if err := os.MkdirAll(l.path(dir), 0o700); err != nil {
			return err
		}
	}
	if err := l.copyPrograms(); err != nil {
		return err
	}
	if l.Libvirt {
		if err := l.writeLibvirt(); err != nil {
			return err
		}
	}
	l.Ports.Glance, l.Ports.Neutron, l.Ports.Nova = glancePort, neutronPort, novaPort
	files, err := template.ParseFS(embedded, "files/conf/*")
	if err != nil {
		return err
	}
	type uwsgi struct {
		Dir, Program string
		Sockets      []string
	}
	for _, file := range []struct {
		name, template string
		data           any
	}{
		{"keystone.conf", "keystone.conf", l},
		{"placement.conf", "placement.conf", l},
		{"glance.conf", "glance.conf", l},
		{"neutron.conf", "neutron.conf", l},
		{"nova.conf", "nova.conf", l},
		{"keystone.ini", "uwsgi.ini", uwsgi{l.Dir, "/usr/bin/keystone-wsgi-public", l.KeystoneSockets}},
		{"placement.ini", "uwsgi.ini", uwsgi{l.Dir, "/usr/bin/placement-api", l.PlacementSockets}},
	} {
		var text bytes.Buffer
		if err := files.ExecuteTemplate(&text, file.template, file.data); err != nil {
			return err
		}
		if err := os.WriteFile(l.path("etc", file.name), text.Bytes(), 0o600); err != nil {
			return err
		}
	}
	return l.makeKeys()
}

// copyPrograms writes the embedded Python files; lib is what PYTHONPATH names.
func (l layout) copyPrograms() error {
	return fs.WalkDir(embedded, "files", func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel("files", path)
		switch {
		case err != nil:
			return err
		case entry.IsDir() && name == "conf":
			return fs.SkipDir
		case entry.IsDir():
			return os.MkdirAll(l.path(name), 0o700)
		}
		data, err := embedded.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(l.path(name), data, 0o600)
	})
}

// makeKeys makes the keys that Keystone signs tokens and encrypts credentials with: the current one and the next.
func (l layout) makeKeys() error {
	for _, repository := range []string{"fernet", "credential"} {
		for _, name := range []string{"0", "1"} {
			path := l.path("keys", repository, name)
			if exists(path) {
				continue
			}
			key := make([]byte, 32)
			if _, err := rand.Read(key); err != nil {
				return fmt.Errorf("make a key: %w", err)
			}
			if err := os.WriteFile(path, []byte(base64.URLEncoding.EncodeToString(key)), 0o600); err != nil {
				return err
			}
		}
	}
	return nil
}

// environment is what the services and their tools run with. Proxies are for others.
func (l layout) environment() []string {
	return []string{
		"PYTHONPATH=" + l.path("lib"), "PYTHONDONTWRITEBYTECODE=1", "PYTHONNOUSERSITE=1", "PYTHONUNBUFFERED=1",
		"http_proxy=", "https_proxy=", "all_proxy=", "HTTP_PROXY=", "HTTPS_PROXY=", "ALL_PROXY=", "no_proxy=*", "NO_PROXY=*",
		"PATH=/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin",
		"LC_ALL=C.UTF-8",
	}
}

// password is random, and fits everywhere.
func password() string { return rand.Text() }
