// SPDX-License-Identifier: Apache-2.0

package vault_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/zalando/go-keyring"

	"github.com/cloudveneto/caas/multitenancy/login/identity"
	"github.com/cloudveneto/caas/multitenancy/login/vault"
)

const secret = "very-secret"

func record() vault.Record {
	return vault.Record{
		Name: "cloudveneto-cms-zangrand@infn.it", Kind: vault.ApplicationCredential, AuthURL: "https://keystone/v3", ID: "id", Label: "kubectl-host-cms",
		User: identity.User{ID: "u", Name: "zangrand@infn.it"}, Expires: time.Date(2026, 12, 21, 0, 0, 0, 0, time.UTC), Secret: secret,
	}
}

// brokenKeyring is locked, say.
type brokenKeyring struct{}

func (brokenKeyring) Set(string, string) error   { return errors.New("locked") }
func (brokenKeyring) Get(string) (string, error) { return "", errors.New("locked") }
func (brokenKeyring) Delete(string) error        { return errors.New("locked") }

func files(t *testing.T, dir string) string {
	t.Helper()
	var all string
	found, err := filepath.Glob(filepath.Join(dir, "*"))
	require.NoError(t, err)
	for _, path := range found {
		info, err := os.Stat(path)
		require.NoError(t, err)
		assert.Equal(t, os.FileMode(0o600), info.Mode().Perm())
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		all += string(text)
	}
	return all
}

func TestKeeps(t *testing.T) {
	keyring.MockInit()
	for name, test := range map[string]struct {
		keyring vault.Keyring
		inside  bool
	}{
		"file":           {nil, false},
		"keyring":        {vault.System{}, true},
		"broken keyring": {brokenKeyring{}, false},
	} {
		t.Run(name, func(t *testing.T) {
			store := vault.Vault{Dir: filepath.Join(t.TempDir(), "credentials"), Keyring: test.keyring}
			inKeyring, err := store.Put(t.Context(), record())
			require.NoError(t, err)
			assert.Equal(t, test.inside, inKeyring)
			info, err := os.Stat(store.Dir)
			require.NoError(t, err)
			assert.Equal(t, os.FileMode(0o700), info.Mode().Perm())
			if test.inside {
				assert.NotContains(t, files(t, store.Dir), secret)
			} else {
				assert.Contains(t, files(t, store.Dir), secret)
			}
			got, err := store.Get(t.Context(), record().Name)
			require.NoError(t, err)
			want := record()
			want.Keyring = test.inside
			assert.Equal(t, want, got)
			all, err := store.List()
			require.NoError(t, err)
			require.Len(t, all, 1)
			assert.Empty(t, all[0].Secret)
			require.NoError(t, store.Delete(t.Context(), record().Name))
			require.NoError(t, store.Delete(t.Context(), record().Name), "twice is once")
			_, err = store.Get(t.Context(), record().Name)
			require.ErrorIs(t, err, vault.ErrNone)
			if test.inside {
				_, err := keyring.Get("kubectl-openstack", record().Name)
				require.ErrorIs(t, err, keyring.ErrNotFound)
			}
		})
	}
}

func TestOnlyKeyring(t *testing.T) {
	t.Parallel()
	for _, ring := range []vault.Keyring{nil, brokenKeyring{}} {
		store := vault.Vault{Dir: filepath.Join(t.TempDir(), "credentials"), Keyring: ring, MustKeyring: true}
		_, err := store.Put(t.Context(), record())
		require.ErrorContains(t, err, "keyring")
		assert.Empty(t, files(t, store.Dir))
	}
}

func TestFilesOfOthers(t *testing.T) {
	t.Parallel()
	store := vault.Vault{Dir: t.TempDir()}
	_, err := store.Put(t.Context(), record())
	require.NoError(t, err)
	found, err := filepath.Glob(filepath.Join(store.Dir, "*.json"))
	require.NoError(t, err)
	require.Len(t, found, 1)
	require.NoError(t, os.Chmod(found[0], 0o644))
	_, err = store.Get(t.Context(), record().Name)
	require.ErrorContains(t, err, "not a file of its user's only")
	require.NoError(t, os.WriteFile(found[0], []byte("{"+secret), 0o600))
	require.NoError(t, os.Chmod(found[0], 0o600))
	_, err = store.Get(t.Context(), record().Name)
	require.ErrorContains(t, err, "is not a credential")
	assert.NotContains(t, err.Error(), secret)
}
