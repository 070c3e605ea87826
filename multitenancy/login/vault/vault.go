// SPDX-License-Identifier: Apache-2.0

// Package vault keeps the credentials that a login has made, so that tokens can be renewed
// without anybody's password: what is no secret in files, and the secrets in the system's
// keyring, or in the same files when there is none. Files and directory are their user's only.
package vault

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/cloudveneto/caas/multitenancy/login/identity"
	"github.com/cloudveneto/caas/multitenancy/login/tokencache"
)

// Kinds of credentials.
const (
	ApplicationCredential = "applicationCredential"
	OpenID                = "openid"
)

// Record is a credential with what is needed to use it.
type Record struct {
	// Name is the kubeconfig's entry that uses it.
	Name string `json:"name"`
	Kind string `json:"kind"`

	AuthURL string           `json:"authURL,omitempty"`
	AuthCA  string           `json:"authCA,omitempty"`
	User    identity.User    `json:"user,omitzero"`
	Project identity.Project `json:"project,omitzero"`
	// ID and Label are the application credential's id and name.
	ID    string `json:"id,omitempty"`
	Label string `json:"label,omitempty"`
	// Borrowed tells that the application credential was there before, so that a logout leaves it.
	Borrowed bool `json:"borrowed,omitempty"`

	Issuer   string `json:"issuer,omitempty"`
	ClientID string `json:"clientID,omitempty"`
	CA       string `json:"ca,omitempty"`
	// Scopes are what was asked of the OpenID provider.
	Scopes []string `json:"scopes,omitempty"`

	Expires time.Time `json:"expires,omitzero"`
	// Secret is the application credential's, or the refresh token.
	Secret identity.Secret `json:"secret,omitempty"`
	// Keyring tells that the secret is there.
	Keyring bool `json:"keyring,omitempty"`
}

// Keyring is the system's store of secrets.
type Keyring interface {
	// Set keeps a secret under a name, replacing one that is there.
	Set(name, secret string) error
	// Get returns a secret; ErrNone if there is none.
	Get(name string) (string, error)
	// Delete removes a secret; ErrNone if there is none.
	Delete(name string) error
}

// ErrNone is that there is no such credential.
var ErrNone = errors.New("there is no such credential")

// keyringTimeout bounds a keyring that waits for somebody to unlock it.
const keyringTimeout = 10 * time.Second

// Vault is a directory and perhaps a keyring.
type Vault struct {
	// Dir is made when it is needed.
	Dir string
	// Keyring is nil if secrets shall be in files.
	Keyring Keyring
	// MustKeyring fails rather than to put a secret into a file.
	MustKeyring bool
}

func (v Vault) path(name string) string {
	// Names of users and projects can hold anything.
	return filepath.Join(v.Dir, tokencache.Key(name)[:32]+".json")
}

// Put keeps a record, replacing one of the same name. It tells where the secret is.
func (v Vault) Put(ctx context.Context, record Record) (inKeyring bool, err error) {
	secret := string(record.Secret)
	if v.Keyring != nil {
		err := bounded(ctx, func() error { return v.Keyring.Set(record.Name, secret) })
		if err != nil && v.MustKeyring {
			return false, fmt.Errorf("keep the credential in the keyring: %w", err)
		}
		if record.Keyring = err == nil; record.Keyring {
			record.Secret = ""
		}
	} else if v.MustKeyring {
		return false, errors.New("keep the credential in the keyring: there is no keyring in this session")
	}
	data, err := json.MarshalIndent(record, "", "  ") //nolint:gosec // the secret is meant to be in the file
	if err != nil {
		return false, fmt.Errorf("encode credential: %w", err)
	}
	return record.Keyring, v.write(v.path(record.Name), data)
}

func (v Vault) write(path string, data []byte) (err error) {
	if err := os.MkdirAll(v.Dir, 0o700); err != nil {
		return fmt.Errorf("keep the credential: %w", err)
	}
	if err := os.Chmod(v.Dir, 0o700); err != nil { //nolint:gosec // a directory needs the x
		return fmt.Errorf("keep the credential: %w", err)
	}
	temporary, err := os.CreateTemp(v.Dir, ".new-") // it has mode 0600
	if err != nil {
		return fmt.Errorf("keep the credential: %w", err)
	}
	defer func() {
		if err != nil {
			_ = os.Remove(temporary.Name())
		}
	}()
	_, err = temporary.Write(data)
	if err = errors.Join(err, temporary.Sync(), temporary.Close()); err != nil {
		return fmt.Errorf("keep the credential: %w", err)
	}
	if err = os.Rename(temporary.Name(), path); err != nil {
		return fmt.Errorf("keep the credential: %w", err)
	}
	return nil
}

// Get returns a record with its secret; ErrNone if there is none.
func (v Vault) Get(ctx context.Context, name string) (Record, error) {
	record, err := v.read(v.path(name))
	if err != nil {
		return Record{}, err
	}
	if !record.Keyring {
		return record, nil
	}
	if v.Keyring == nil {
		return Record{}, errors.New("the credential is in the system's keyring, which this session does not reach; log in again")
	}
	var secret string
	err = bounded(ctx, func() (err error) { secret, err = v.Keyring.Get(name); return err })
	if err != nil {
		return Record{}, fmt.Errorf("read the credential from the keyring: %w", err)
	}
	record.Secret = identity.Secret(secret)
	return record, nil
}

func (v Vault) read(path string) (Record, error) {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return Record{}, ErrNone
	}
	if err != nil {
		return Record{}, fmt.Errorf("read the credential: %w", err)
	}
	if !info.Mode().IsRegular() || info.Mode().Perm()&0o077 != 0 {
		return Record{}, fmt.Errorf("%s is not a file of its user's only; remove it and log in again", path)
	}
	data, err := os.ReadFile(path) //nolint:gosec // whoever runs the program says which file
	if err != nil {
		return Record{}, fmt.Errorf("read the credential: %w", err)
	}
	var record Record
	if json.Unmarshal(data, &record) != nil { // the error would quote the file
		return Record{}, fmt.Errorf("%s is not a credential; remove it and log in again", path)
	}
	return record, nil
}

// List returns all records without their secrets.
func (v Vault) List() ([]Record, error) {
	entries, err := os.ReadDir(v.Dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list credentials: %w", err)
	}
	var all []Record
	for _, entry := range entries {
		if strings.HasPrefix(entry.Name(), ".") || filepath.Ext(entry.Name()) != ".json" {
			continue
		}
		record, err := v.read(filepath.Join(v.Dir, entry.Name()))
		if err != nil {
			return nil, err
		}
		record.Secret = ""
		all = append(all, record)
	}
	return all, nil
}

// Delete removes a record; one that is not there is no error.
func (v Vault) Delete(ctx context.Context, name string) error {
	record, err := v.read(v.path(name))
	if errors.Is(err, ErrNone) {
		return nil
	}
	if err == nil && record.Keyring && v.Keyring != nil {
		err := bounded(ctx, func() error { return v.Keyring.Delete(name) })
		if err != nil && !errors.Is(err, ErrNone) {
			return fmt.Errorf("remove the credential from the keyring: %w", err)
		}
	}
	if err := os.Remove(v.path(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove the credential: %w", err)
	}
	return nil
}

// bounded waits for a keyring, but not for ever. What it waits for ends with the process.
func bounded(ctx context.Context, do func() error) error {
	ctx, cancel := context.WithTimeout(ctx, keyringTimeout)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- do() }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return errors.New("the keyring does not answer; is it locked?")
	}
}
