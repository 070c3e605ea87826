// SPDX-License-Identifier: Apache-2.0

package login

import (
	"context"
	"errors"
	"path/filepath"

	"github.com/cloudveneto/caas/multitenancy/login/identity"
	"github.com/cloudveneto/caas/multitenancy/login/tokencache"
	"github.com/cloudveneto/caas/multitenancy/login/vault"
)

func (a *App) vault(site Site) vault.Vault {
	store := vault.Vault{Dir: filepath.Join(a.configDir(), "credentials"), MustKeyring: site.Secrets == secretsKeyring}
	if site.Secrets != secretsFile && a.Keyring != nil {
		store.Keyring = a.Keyring
	}
	return store
}

// kept is a token of a credential that a login has made.
func (a *App) kept(ctx context.Context, o *options) (tokencache.Token, error) {
	site, err := a.site()
	if err != nil {
		return tokencache.Token{}, err
	}
	store := a.vault(site)
	record, err := store.Get(ctx, o.credential)
	if errors.Is(err, vault.ErrNone) {
		return tokencache.Token{}, fail(CodeCredentials, "not logged in as %s; run kubectl openstack", o.credential)
	}
	if err != nil {
		return tokencache.Token{}, &ExitError{Code: CodeCredentials, Err: err}
	}
	from, err := a.renewal(store, record, o)
	if err != nil {
		return tokencache.Token{}, err
	}
	return a.cache(o).Get(ctx, recordKey(record), a.Caller, from)
}

// recordKey is where a record's tokens are in the cache.
func recordKey(record vault.Record) string {
	return tokencache.Key("record", record.Name, record.Kind, record.AuthURL, record.ID, record.Issuer, record.ClientID)
}

func (a *App) renewal(store vault.Vault, record vault.Record, o *options) (tokencache.Source, error) {
	if record.Kind == vault.OpenID {
		return a.refreshed(store, record, o), nil
	}
	client, err := a.keystoneAt(record.AuthURL, []byte(record.AuthCA), o)
	if err != nil {
		return tokencache.Source{}, err
	}
	who := identity.Credential{ApplicationCredentialID: record.ID, ApplicationCredentialKey: record.Secret}
	from := source(client, who, identity.Scope{})
	login := from.Fetch
	from.Fetch = func(ctx context.Context) (tokencache.Token, error) {
		token, err := login(ctx)
		if identity.Is(err, identity.Unauthorized) {
			return token, fail(CodeCredentials, "Keystone does not accept the application credential %s any more (it was made to last until %s); log in again: kubectl openstack -exec -user=%s -project=%s",
				record.Label, record.Expires.Local().Format("2 Jan 2006"), record.User.Name, record.Project.Name)
		}
		return token, err
	}
	return from, nil
}
