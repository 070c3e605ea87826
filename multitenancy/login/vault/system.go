// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"

	"github.com/zalando/go-keyring"
)

// service is what the keyring files our secrets under.
const service = "kubectl-openstack"

// System is this machine's keyring: macOS' own, or a desktop's by D-Bus.
type System struct{}

// Present tells that there is a keyring in this session. Without a bus, asking for one would start it.
func Present(lookup func(string) (string, bool)) bool {
	if runtime.GOOS == "darwin" {
		return true
	}
	if address, _ := lookup("DBUS_SESSION_BUS_ADDRESS"); address != "" {
		return true
	}
	dir, _ := lookup("XDG_RUNTIME_DIR")
	if dir == "" {
		return false
	}
	_, err := os.Stat(filepath.Join(dir, "bus"))
	return err == nil
}

// Set keeps a secret under a name.
func (System) Set(name, secret string) error { return keyring.Set(service, name, secret) }

// Get returns a secret.
func (System) Get(name string) (string, error) {
	secret, err := keyring.Get(service, name)
	return secret, known(err)
}

// Delete removes a secret.
func (System) Delete(name string) error { return known(keyring.Delete(service, name)) }

func known(err error) error {
	if errors.Is(err, keyring.ErrNotFound) {
		return ErrNone
	}
	return err
}
