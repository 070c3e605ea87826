// SPDX-License-Identifier: Apache-2.0

package login

import (
	"context"
	"crypto/rand"
	"errors"
	"strings"
	"time"

	"github.com/cloudveneto/caas/multitenancy/login/identity"
	"github.com/cloudveneto/caas/multitenancy/login/vault"
)

// delegateAll makes what -exec needs. The functions that it returns undo that, also when there is an error.
func (s *session) delegateAll(ctx context.Context) (undo []func(ctx context.Context), err error) {
	if !s.options.exec {
		return nil, nil
	}
	if store := s.vault(s.site); store.Keyring == nil && s.site.Secrets == secretsAuto {
		s.note("note: there is no keyring in this session; the credential is in a file in %s that only you can read", store.Dir)
	}
	for i := range s.places {
		back, err := s.delegate(ctx, &s.places[i])
		if err != nil {
			return undo, err
		}
		undo = append(undo, back)
	}
	return undo, nil
}

// delegate makes a place's application credential and keeps it. The function that it returns
// undoes that.
func (s *session) delegate(ctx context.Context, at *place) (undo func(ctx context.Context), err error) {
	ca, err := pem(s.site.AuthCAFile)
	if err != nil {
		return nil, err
	}
	store := s.vault(s.site)
	name := at.user(s.site)
	before, err := store.Get(ctx, name)
	if err != nil && !errors.Is(err, vault.ErrNone) {
		s.note("warning: the credential of the last login is not used any more: %v", err)
	}
	record := vault.Record{
		Name: name, Kind: vault.ApplicationCredential, AuthURL: s.client.URL(), AuthCA: string(ca),
		User: at.token.User, Project: at.token.Project,
	}
	if err := s.fill(ctx, at.token, &record); err != nil {
		return nil, err
	}
	inKeyring, err := store.Put(ctx, record)
	if err != nil {
		return nil, errors.Join(&ExitError{Code: CodeKubeconfig, Err: err}, s.discard(ctx, at.token, record))
	}
	if !inKeyring && store.Keyring != nil {
		s.note("note: the keyring did not take the credential; it is in a file in %s that only you can read", store.Dir)
	}
	at.record = &record
	if before.ID != record.ID && !before.Borrowed {
		at.superseded = before.ID
	}
	return func(ctx context.Context) {
		_ = s.discard(ctx, at.token, record) // it expires by itself
		if before.ID == "" {
			_ = store.Delete(ctx, name)
			return
		}
		_, _ = store.Put(ctx, before)
	}, nil
}

// fill makes the application credential, or takes the one that the user has come with.
func (s *session) fill(ctx context.Context, token identity.Token, record *vault.Record) error {
	if s.who.IsApplicationCredential() {
		record.ID, record.Secret = token.ApplicationCredentialID, s.who.ApplicationCredentialKey
		record.Label, record.Borrowed = first(s.who.ApplicationCredentialName, record.ID), true
		if record.ID == "" {
			record.ID = s.who.ApplicationCredentialID
		}
		return nil
	}
	roles, err := least(token, s.site.ApplicationCredential.Roles)
	if err != nil {
		return err
	}
	wanted := identity.NewApplicationCredential{
		Name: label(s.Host, token.Project.Name), Description: "made by kubectl-openstack on " + s.Host + " for " + s.site.Server,
		Roles: roles, Expires: s.Now().Add(time.Duration(s.site.ApplicationCredential.Days) * day),
	}
	made, err := s.client.CreateApplicationCredential(ctx, token, wanted)
	if identity.Is(err, identity.Conflict) {
		// The last login's, which goes when this one is done, or one of another account on the machine.
		wanted.Name += "-" + strings.ToLower(rand.Text()[:6])
		made, err = s.client.CreateApplicationCredential(ctx, token, wanted)
	}
	if err != nil {
		return err
	}
	record.ID, record.Label, record.Secret, record.Expires = made.ID, wanted.Name, made.Secret, wanted.Expires
	return nil
}

// label is an application credential's name, by which the user knows it again in the dashboard.
func label(host, project string) string {
	host, _, _ = strings.Cut(host, ".")
	const longest = 200 // Keystone takes 255
	name := "kubectl-" + first(host, "unknown") + "-" + strings.ToLower(project)
	return name[:min(len(name), longest)]
}

func (s *session) discard(ctx context.Context, token identity.Token, record vault.Record) error {
	if record.Borrowed || record.ID == "" {
		return nil
	}
	return s.client.DeleteApplicationCredential(ctx, token, record.ID)
}

// replaceCredential removes what the last login had, when this one's is in use.
func (s *session) replaceCredential(ctx context.Context, at place) {
	if at.superseded == "" {
		return
	}
	if err := s.client.DeleteApplicationCredential(ctx, at.token, at.superseded); err != nil {
		s.note("note: the application credential of the last login could not be deleted: %v", err)
	}
}
